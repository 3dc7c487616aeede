"""The command ``trainer export``."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.errors import InputError, UsageError
from batch.log import count_text
from batch.records import Abstain
from trainer.cli.shared_options import (
    abstain_option,
    beside_option,
    find_crop_cache,
    license_option,
    make_review,
    optional_data_option,
    own_model_path,
    review_options,
    risk_option,
    run_option,
    show_progress,
)

if TYPE_CHECKING:
    from batch.models.fusion import Fusion
    from trainer.training.checkpoint import TrainedNetwork


def _parse_correction(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> float | None:
    """Parse ``--prior-correction``; None stands for ``auto``."""
    if value == "auto":
        return None
    try:
        strength = float(value)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= 1:
        raise UsageError(
            f"--prior-correction {value} is not auto or a number from 0 to 1", "omit it for 0"
        )
    return strength


@click.command()
@run_option(
    "runs/face",
    "The --run folder of the training; the newest of DIR, DIR-2, ... is exported.",
)
@click.option(
    "--unfinished", is_flag=True, help="Export a training that has not run all of its epochs."
)
@optional_data_option("the data of the run")
@abstain_option
@beside_option
@review_options("The same reviews as for `train`")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.onnx",
    help="The model file; its card and SHA256SUMS are written beside it.  [default: NAME.onnx in "
    "~/.local/share/batch-label/models, where --model finds it by name, or NAME.candidate.onnx "
    "there if NAME.onnx exists, for `trainer gate NAME`]",
)
@click.option("--name", help="The model's name.  [default: the output file's]")
@click.option("--model-version", default="1", show_default=True, help="The model's version.")
@click.option(
    "--labels",
    metavar="NEW=OLD,...",
    help="Export only these labels, with new names: happy=happiness,sad=sadness.",
)
@click.option(
    "--rest",
    type=click.Choice(["neither"]),
    help="Output neither for the labels that --labels does not name.",
)
@risk_option(0.05)
@click.option(
    "--prior-correction",
    default="0",
    show_default=True,
    metavar="NUMBER|auto",
    callback=_parse_correction,
    help="Favour rare classes: subtract this share, 0 to 1, of the logarithm of each class's share "
    "in the training data; auto chooses it on held-out samples.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "float16", "float32", "int8"]),
    default="auto",
    show_default=True,
    help="Format of the weights; auto chooses float16 unless it costs accuracy, int8 also computes "
    "in integers.",
)
@click.option(
    "--mirrored",
    is_flag=True,
    help="Also run the model on the mirror image: more accurate, in twice the time.",
)
@click.option(
    "--fusion",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The fusion.json of `trainer fuse`, for a model that is fused with a face model.",
)
@click.option("--credit", metavar="TEXT", help="Authors and licence of the data, for the card.")
@license_option
@click.option(
    "--created",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The date in the file, YYYY-MM-DD.  [default: today, UTC]",
)
def export(
    run_folder: Path,
    unfinished: bool,
    data: Path | None,
    abstain: dict[str, str],
    beside: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    output: Path | None,
    name: str | None,
    model_version: str,
    labels: str | None,
    rest: str | None,
    risk: float,
    prior_correction: float | None,
    weights: str,
    mirrored: bool,
    fusion: Path | None,
    credit: str | None,
    license_id: str | None,
    created: datetime | None,
) -> None:
    """Export a trained network as a model file."""
    from batch.models.contract import load_model
    from trainer.datasets.sources import choose_source, load_dataset
    from trainer.evaluation.gate import check_compatible
    from trainer.evaluation.gate_checks import CandidateRejected
    from trainer.evaluation.tables import MIN_SAMPLES, format_evaluation
    from trainer.exporting.export import ExportOptions, export_model
    from trainer.exporting.model_card import write_card
    from trainer.exporting.publish_model import candidate_path, publish_model
    from trainer.exporting.weight_formats import WeightFormat
    from trainer.training.checkpoint import load_trained_network
    from trainer.training.run_folder import find_latest_run

    show_progress()
    is_candidate = False
    if output is None:
        if name is None:
            raise UsageError("the model has no name", "give --name, or a file with --output")
        output = own_model_path(name)
        is_candidate = output.exists()  # only the gate replaces a model
        output = candidate_path(output) if is_candidate else output
    options = ExportOptions(
        name=name or output.stem,
        created=(created or datetime.now(UTC)).date().isoformat(),
        version=model_version,
        labels=_parse_labels(labels),
        rest=Abstain(rest) if rest else None,
        risk=risk,
        prior_correction=prior_correction,
        weights=WeightFormat(weights),
        mirrored=mirrored,
    )
    folder = find_latest_run(run_folder)
    trained = load_trained_network(folder)
    missing = _describe_missing_epochs(trained)
    if missing and not unfinished:
        raise UsageError(
            f"the training in {folder} is not finished: {missing}",
            "give the same `trainer train` command again to resume it, or export it as it is with "
            "--unfinished",
        )
    click.echo(f"Exporting the training in {folder}", err=True)
    if fusion is not None:
        options = replace(options, fusion=_read_fusion(fusion, trained))
    source, review = choose_source(data, folder), make_review(review_files, photos)
    labelled = load_dataset(source, trained.framing, beside, review, abstain, find_crop_cache())
    if missing:
        warning = f"The training was not finished: {missing}."
        labelled = replace(labelled, warning=f"{warning} {labelled.warning}".rstrip())
        click.echo(f"WARNING: {warning}", err=True)
    if credit:
        labelled = replace(labelled, credit=credit)
    exported = export_model(trained, labelled, options)
    if exported.validation < MIN_SAMPLES:
        click.echo(
            f"WARNING: the temperature ({exported.calibration.temperature:g}) and the thresholds "
            f"are chosen on {count_text(exported.validation, 'sample')}, fewer than "
            f"{MIN_SAMPLES}, so they may be far off; add photos, or use `trainer crossvalidate` "
            'and learn_from = "all"',
            err=True,
        )
    click.echo(format_evaluation(exported.test))
    if is_candidate and name and own_model_path(name).read_bytes() == exported.graph:
        click.echo(f"\nThe model is unchanged: {own_model_path(name)}")
        return
    publish_model(exported.graph, write_card(exported, trained, labelled, license_id), output)
    click.echo(f"\nThe model is {output}")
    if is_candidate:
        try:
            check_compatible(load_model(output), load_model(own_model_path(str(name))))
        except CandidateRejected as error:
            click.echo(f"WARNING: {error}", err=True)
            return
        gate = ["trainer", "gate", str(name), "--run", str(run_folder)]
        for file in review_files:
            gate += ["--review", str(file), "--photos", str(photos)]
        click.echo(f"It replaces {name} if it passes `{shlex.join(gate)}`")


def _describe_missing_epochs(trained: TrainedNetwork) -> str:
    """Describe an unfinished training as text; empty for a finished one."""
    if trained.is_finished:
        return ""
    done = trained.history[-1].epoch if trained.history else 0
    return f"{done} of {trained.config.epochs} epochs"


def _read_fusion(path: Path, trained: TrainedNetwork) -> Fusion:
    """Read the file of ``trainer fuse``, which must belong to the network."""
    from batch.models.fusion import unpack_fusion
    from trainer.evaluation.out_of_fold import Recipe

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe(**values.pop("recipe"))
        fusion = unpack_fusion(json.dumps(values))
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror})", "run `trainer fuse`"
        ) from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        problem = f"{path} is not a fusion of this release ({type(error).__name__}: {error})"
        raise InputError(problem, "run `trainer fuse` again") from error
    recipe.require_same(trained.recipe, str(path))
    return fusion


def _parse_labels(labels: str | None) -> dict[str, str] | None:
    """Parse ``new=old,...``; a name without ``=`` keeps its name."""
    if labels is None:
        return None
    pairs = [pair.partition("=") for pair in labels.split(",")]
    renamed = {new.strip(): (old or new).strip() for new, _, old in pairs}
    if len(renamed) < len(pairs) or "" in renamed:
        raise UsageError(f"--labels {labels!r} has an empty or repeated name", "write NEW=OLD,...")
    return renamed
