"""``trainer evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.commands.options import data_option, show_progress, split_option, write_text

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation


@click.command()
@click.argument("model", metavar="MODEL")
@data_option
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
    data: Path,
    split: str,
    end_to_end: bool,
    json_file: Path | None,
    plots: Path | None,
) -> None:
    """Run a model on labelled pictures and print how right it is.

    MODEL is the path of an .onnx file, a shipped model's name, or "default".
    """
    show_progress()
    evaluation, text, values = _photos(model, data) if end_to_end else _part(model, data, split)
    click.echo(text)
    if json_file is not None:
        write_text(json_file, json.dumps(values, indent=2, allow_nan=False) + "\n")
    if plots is not None:
        _draw(evaluation, plots)


def _part(model: str, data: Path, split: str) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.evaluate import evaluate_model, figures
    from trainer.models import framing_for, open_model
    from trainer.sources import load_data
    from trainer.tables import table

    loaded = open_model(model)
    labelled = load_data(data, framing_for(loaded))
    evaluation = evaluate_model(loaded, labelled.part(split), labelled.labels)
    return evaluation, table(evaluation), figures(evaluation)


def _photos(model: str, data: Path) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.end_to_end import end_to_end_figures, run_end_to_end
    from trainer.tables import end_to_end_table

    found = run_end_to_end(data, model)
    return found.answered, end_to_end_table(found), end_to_end_figures(found)


def _draw(evaluation: Evaluation, folder: Path) -> None:
    from trainer.plots import confusion, reliability

    folder.mkdir(parents=True, exist_ok=True)
    confusion(evaluation, folder / "confusion.png")
    reliability(evaluation.reliability, folder / "reliability.png")
