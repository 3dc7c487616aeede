"""``trainer export``."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.errors import InputError, UsageError
from batch.records import Abstain
from trainer.cli.shared_options import (
    abstain_option,
    beside_option,
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


def _parse_correction(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> float | None:
    """Read ``--prior-correction``: None for auto."""
    if value == "auto":
        return None
    try:
        strength = float(value)
    except ValueError:
        strength = math.nan
    if not 0 <= strength <= 1:
        raise UsageError(f"--prior-correction {value} is not auto or 0 to 1", "leave it out for 0")
    return strength


@click.command()
@run_option("runs/face", "The folder of a training.")
@optional_data_option("the data of the run")
@abstain_option
@beside_option
@review_options("As for `train`, the same reviews")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.onnx",
    help="The model file; its card and SHA256SUMS are written beside it.  [default: NAME.onnx in "
    "~/.local/share/batch-label/models, where --model finds it by its name]",
)
@click.option("--name", help="The model's name.  [default: the output file's]")
@click.option("--model-version", default="1", show_default=True, help="The model's version.")
@click.option(
    "--labels",
    metavar="NEW=OLD,...",
    help="Only these labels of the training, under new names: happy=happiness,sad=sadness.",
)
@click.option(
    "--rest",
    type=click.Choice(["neither"]),
    help="Answer neither for the labels of the training that --labels does not name.",
)
@risk_option(0.05)
@click.option(
    "--prior-correction",
    default="0",
    show_default=True,
    metavar="NUMBER|auto",
    callback=_parse_correction,
    help="Favour rare classes: subtract this much, 0 to 1, of the logarithm of each class's share "
    "in training; auto chooses it on held-out samples.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "float16", "float32", "int8"]),
    default="auto",
    show_default=True,
    help="How weights are stored; auto takes float16 where it costs no right answer, int8 also "
    "computes in integers.",
)
@click.option(
    "--mirrored",
    is_flag=True,
    help="Look at every picture a second time, in a mirror: more right answers in twice the time.",
)
@click.option(
    "--fusion",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The fusion.json of `trainer fuse`, for a model that speaks together with a face model.",
)
@click.option("--credit", metavar="TEXT", help="What the card says of the data and their licence.")
@click.option(
    "--created",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The date in the file, YYYY-MM-DD.  [default: today, UTC]",
)
def export(
    run_folder: Path,
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
    created: datetime | None,
) -> None:
    """Write a trained network as a model file for batch-label."""
    from trainer.datasets.sources import choose_source, load_dataset
    from trainer.evaluation.tables import format_evaluation
    from trainer.exporting.export import ExportOptions
    from trainer.exporting.export import export_model as build
    from trainer.exporting.model_card import card
    from trainer.exporting.publish_model import publish_model
    from trainer.exporting.weight_formats import WeightFormat
    from trainer.training.checkpoint import load_trained_network

    show_progress()
    if output is None:
        if name is None:
            raise UsageError("the model has no name", "give --name, or a file with --output")
        output = own_model_path(name)
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
        fusion=_read_fusion(fusion) if fusion else None,
    )
    trained = load_trained_network(run_folder)
    source, review = choose_source(data, run_folder), make_review(review_files, photos)
    labelled = load_dataset(source, trained.framing, beside, review, abstain)
    if credit:
        labelled = replace(labelled, credit=credit)
    exported = build(trained, labelled, options)
    publish_model(exported.graph, card(exported, trained, labelled), output)
    click.echo(format_evaluation(exported.test))
    click.echo(f"\nThe model is {output}")


def _read_fusion(path: Path) -> Fusion:
    from batch.models.fusion import unpack_fusion

    try:
        return unpack_fusion(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror})", "run `trainer fuse`"
        ) from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        problem = f"{path} is not a fusion of this release ({type(error).__name__}: {error})"
        raise InputError(problem, "run `trainer fuse` again") from error


def _parse_labels(labels: str | None) -> dict[str, str] | None:
    """Read ``new=old,...``; a name by itself stays as it is."""
    if labels is None:
        return None
    pairs = [pair.partition("=") for pair in labels.split(",")]
    renamed = {new.strip(): (old or new).strip() for new, _, old in pairs}
    if len(renamed) < len(pairs) or "" in renamed:
        raise UsageError(f"--labels {labels!r} has an empty or repeated name", "write NEW=OLD,...")
    return renamed
