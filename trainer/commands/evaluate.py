"""``trainer evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.errors import UsageError
from trainer.commands.options import (
    FERPLUS,
    abstain_option,
    resolve_model,
    review_of,
    review_options,
    run_data_option,
    show_progress,
    split_option,
    write_text,
)

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation
    from trainer.reviewing.review import Review


@click.command()
@click.argument("model", metavar="MODEL", callback=resolve_model)
@run_data_option(f"{FERPLUS}, or with --review none")
@review_options("See how right the model is on answers that people reviewed")
@abstain_option
@split_option("The part to use; all suits data that the model never saw.")
@click.option(
    "--end-to-end",
    is_flag=True,
    help="Label whole photos as batch-label does; DATA has a sub-folder for each class.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Also as JSON."
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also draw confusion.png and reliability.png there.",
)
def evaluate(
    model: str,
    data: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    abstain: dict[str, str],
    split: str,
    end_to_end: bool,
    json_file: Path | None,
    plots: Path | None,
) -> None:
    """Run a model on labelled pictures and print how right it is.

    MODEL is the path of an .onnx file, the name of a shipped model or of your own, or "default".
    """
    show_progress()
    review = review_of(review_files, photos)
    if review and (data or plots):
        raise UsageError("--review stands alone", "drop --data and --plots, or evaluate twice")
    values: dict[str, Any]
    if review:
        text, values = _again(model, review, split, end_to_end)
        evaluation = None
    elif end_to_end:
        evaluation, text, values = _photos(model, data or FERPLUS, abstain)
    else:
        evaluation, text, values = _part(model, data or FERPLUS, split, abstain)
    click.echo(text)
    if json_file is not None:
        write_text(json_file, json.dumps(values, indent=2, allow_nan=False) + "\n")
    if plots is not None and evaluation is not None:
        _draw(evaluation, plots)


def _part(
    model: str, data: Path, split: str, abstain: dict[str, str]
) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.datasets.sources import load_data
    from trainer.evaluate import evaluate_model, figures
    from trainer.evaluation.tables import table
    from trainer.exporting.models import framing_for, open_model

    loaded = open_model(model)
    labelled = load_data(data, framing_for(loaded), abstain=abstain)
    evaluation = evaluate_model(loaded, labelled.part(split), labelled.labels)
    return evaluation, table(evaluation), figures(evaluation)


def _photos(
    model: str, data: Path, abstain: dict[str, str]
) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.evaluation.end_to_end import end_to_end_figures, run_end_to_end
    from trainer.evaluation.tables import end_to_end_table

    found = run_end_to_end(data, model, abstain)
    return found.answered, end_to_end_table(found), end_to_end_figures(found)


def _again(model: str, review: Review, split: str, end_to_end: bool) -> tuple[str, dict[str, Any]]:
    from trainer.evaluation.tables import retrial_table
    from trainer.exporting.models import open_model
    from trainer.reviewing.retrial import retrial_figures, retry, retry_end_to_end

    if end_to_end:
        retrial = retry_end_to_end(model, review, split)
    else:
        retrial = retry(open_model(model), review, split)
    return retrial_table(retrial), retrial_figures(retrial)


def _draw(evaluation: Evaluation, folder: Path) -> None:
    from trainer.plots import confusion, reliability

    folder.mkdir(parents=True, exist_ok=True)
    confusion(evaluation, folder / "confusion.png")
    reliability(evaluation.reliability, folder / "reliability.png")
