"""The command ``trainer gate``."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.cli.shared_options import (
    FERPLUS_FOLDER,
    abstain_option,
    make_review,
    optional_data_option,
    own_model_path,
    resolve_model,
    review_options,
    show_progress,
    split_option,
)


@click.command()
@click.argument("candidate", type=click.Path(path_type=Path), metavar="CANDIDATE.onnx")
@click.argument("model", metavar="MODEL", callback=resolve_model)
@optional_data_option(f"{FERPLUS_FOLDER}, or none with --review")
@review_options("Also compare both on held-out reviewed answers")
@abstain_option
@split_option("The split to use, on which neither model may have been trained.")
@click.option(
    "--require",
    type=click.Choice(["better", "as-good"]),
    default="better",
    show_default=True,
    help="What the candidate must prove; as-good is for a smaller or faster one.",
)
@click.option("--dry-run", is_flag=True, help="Only compare; replace nothing.")
def gate(
    candidate: Path,
    model: str,
    data: Path | None,
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
    the candidate becomes one of your own, under its file's name.
    """
    from batch.models.contract import load_model
    from batch.models.shipped import list_shipped_models
    from trainer.datasets.sources import load_dataset
    from trainer.evaluation.exported_models import derive_framing, open_model
    from trainer.evaluation.gate import (
        Requirement,
        check_comparison,
        check_compatible,
        check_reviewed,
        compare_models,
        compare_reviewed,
        read_held_out,
    )
    from trainer.evaluation.tables import format_comparison, format_reviewed
    from trainer.exporting.publish_model import publish_model, read_card

    show_progress()
    new, old = load_model(candidate), open_model(model)
    target = own_model_path(candidate.stem) if model in list_shipped_models() else old.path
    check_compatible(new, old)
    card = read_card(new)
    review = make_review(review_files, photos)
    comparison, held, labels = None, None, old.spec.outputs
    if review and not data:
        reviewed = read_held_out(review, new, old)
        held, labels = reviewed.get_split(reviewed.held), reviewed.labels
    else:
        labelled = load_dataset(
            data or FERPLUS_FOLDER, derive_framing(old), review=review, abstain=abstain
        )
        held, labels = labelled.held, labelled.labels
        comparison = compare_models(new, old, labelled.get_split(split), labels)
        click.echo(format_comparison(comparison))
    if review:
        found = compare_reviewed(new, old, held, labels)
        click.echo(f"\nOn held-out reviewed answers:\n\n{format_reviewed(found)}")
        check_reviewed(found, comparison, Requirement(require), new.path)
    elif comparison:
        check_comparison(comparison, Requirement(require), new.path)
    if not dry_run:
        publish_model(new.graph, card, target)
        click.echo(f"copied {new.path} to {target}")
