"""The command ``trainer gate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.errors import UsageError
from batch.models.shipped import SUFFIX, list_shipped_models
from trainer.cli.shared_options import (
    FERPLUS_FOLDER,
    abstain_option,
    find_crop_cache,
    make_review,
    optional_data_option,
    own_model_path,
    resolve_model_name,
    review_options,
    show_progress,
    split_option,
)

if TYPE_CHECKING:
    from batch.models.model import Model
    from trainer.datasets.dataset import Dataset
    from trainer.evaluation.trained_on import TrainedOn


@click.command()
@click.argument("names", nargs=-1, metavar="[CANDIDATE.onnx] MODEL")
@optional_data_option(f"the data of --run; {FERPLUS_FOLDER} without, or none with --review")
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The candidate's training run, whose data are used.",
)
@review_options("Also compare both on held-out reviewed answers")
@abstain_option
@split_option("The split to use; samples that a model was trained on are excluded.")
@click.option(
    "--require",
    type=click.Choice(["better", "as-good"]),
    default="better",
    show_default=True,
    help="What the candidate must prove; as-good is for a smaller or faster one.",
)
@click.option("--dry-run", is_flag=True, help="Only compare; replace nothing.")
def gate(
    names: tuple[str, ...],
    data: Path | None,
    run_folder: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    abstain: dict[str, str],
    split: str,
    require: str,
    dry_run: bool,
) -> None:
    """Replace a model with a better candidate.

    The candidate must be better on the same samples; if it is not, the command says why and exits
    with code 1.

    MODEL is the name of your own or of a shipped model, or a path. A shipped model is not replaced:
    the candidate becomes one of your own, under its file's name. Without CANDIDATE.onnx it is
    MODEL.candidate.onnx, which `trainer export` writes if there is a model of that name.
    """
    from batch.models.contract import load_model
    from trainer.datasets.sources import load_dataset
    from trainer.evaluation.exported_models import derive_framing, open_model
    from trainer.evaluation.gate import (
        check_compatible,
        check_pair,
        compare_models,
        compare_reviewed,
        read_held_out,
    )
    from trainer.evaluation.gate_checks import (
        Requirement,
        judge_comparison,
        judge_reviewed,
        require_passed,
    )
    from trainer.evaluation.tables import format_checks, format_comparison, format_reviewed
    from trainer.evaluation.trained_on import keep_unseen
    from trainer.exporting.publish_model import (
        candidate_path,
        publish_model,
        read_card,
        remove_model,
    )

    show_progress()
    if not 1 <= len(names) <= 2:
        raise UsageError("the gate takes one or two models", "give [CANDIDATE.onnx] MODEL")
    name = names[-1]
    model = resolve_model_name(name)
    own = candidate_path(Path(model))
    if len(names) == 1 and not own.exists():
        current = open_model(model)
        click.echo(f"{current.path} has no candidate: there is no {own}, and nothing is replaced")
        return
    new = load_model(Path(names[0]) if len(names) == 2 else own)
    if _is_new_name(name, model, new):
        # Nothing to compare with.
        target, card = own_model_path(name), read_card(new)
        if not dry_run:
            publish_model(new.graph, card, target)
        click.echo(f"there is no model {name} yet: {new.path} is the first")
        return
    old = open_model(model)
    target = own_model_path(new.path.stem) if model in list_shipped_models() else old.path
    check_compatible(new, old)
    if new.spec.fusion:
        check_pair(new, resolve_model_name(new.spec.fusion.face_model))
    card = read_card(new)
    review = make_review(review_files, photos)
    comparison, held, labels, labelled = None, None, old.spec.outputs, None
    source = _choose_data(data, run_folder)
    if review and not source:
        reviewed = read_held_out(review, new, old)
        held, labels = reviewed.get_split(reviewed.held), reviewed.labels
    else:
        labelled = load_dataset(
            source or FERPLUS_FOLDER,
            derive_framing(old),
            review=review,
            abstain=abstain,
            cache=find_crop_cache(),
        )
        held, labels = labelled.held, labelled.labels
        known = _list_trained_on(new, old, labelled)
        part = keep_unseen(labelled.get_split(split), known)
        comparison = compare_models(new, old, part, labels)
        click.echo(format_comparison(comparison))
    checks = judge_comparison(comparison, Requirement(require)) if comparison else []
    if review:
        if held is not None and len(held):
            held = keep_unseen(held, _list_trained_on(new, old, labelled))
        found = compare_reviewed(new, old, held, labels)
        click.echo(f"\nOn held-out reviewed answers:\n\n{format_reviewed(found)}")
        checks = judge_reviewed(found, comparison, Requirement(require))
    click.echo(f"\n{format_checks(checks)}\n")
    require_passed(checks, new.path)
    if not dry_run:
        publish_model(new.graph, card, target)
        click.echo(f"copied {new.path} to {target}")
        if len(names) == 1:
            remove_model(new.path)


def _list_trained_on(new: Model, old: Model, data: Dataset | None) -> list[TrainedOn]:
    from trainer.evaluation.trained_on import find_trained_on

    return [find_trained_on(model.spec, str(model.path), data) for model in (new, old)]


def _choose_data(data: Path | None, run_folder: Path | None) -> Path | None:
    """Return the given data or those of the run; None if neither are known."""
    from trainer.datasets.sources import SOURCE_FILE, choose_source
    from trainer.training.run_folder import find_latest_run

    if data is None and run_folder is not None:
        folder = find_latest_run(run_folder)
        if (folder / SOURCE_FILE).is_file():
            return choose_source(None, folder)
    return data


def _is_new_name(name: str, model: str, candidate: Model) -> bool:
    """Return whether MODEL is only a name so far, the candidate's own."""
    is_name = Path(name).name == name and not name.endswith(SUFFIX)
    is_known = model in list_shipped_models() or Path(model).exists()
    return is_name and not is_known and candidate.spec.name == name
