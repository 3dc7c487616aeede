"""The command `model`: what a model says of itself."""

from __future__ import annotations

import click

from batch.commands.failure import fail
from batch.commands.settings import model_of
from batch.errors import BatchLabelError
from batch.log import one_line
from batch.options import DEFAULT_MODEL, Options


@click.command("model")
@click.argument("name", default=DEFAULT_MODEL, metavar="[NAME|FILE]")
@click.option("--check", is_flag=True, help="Run the golden samples on the CPU, too.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object instead of text.")
def model(name: str, check: bool, as_object: bool) -> None:
    """Show a model's card: labels, input, data, figures.

    NAME is a shipped model's or your own, FILE an .onnx file, and FACE+PHOTO a pair of them;
    without one it is the default. A file that breaks the model contract is refused, as a run would.
    """
    from batch.contract.card import card_of, written
    from batch.models.ensemble import load_ensemble

    try:
        ensemble = load_ensemble(Options(model=model_of(name)))
        cards = [card_of(model, check) for model in ensemble.models]
        lines = written(ensemble, cards, as_object)
    except BatchLabelError as error:
        fail(error)
    for line in lines:
        # A model may say anything of itself. As bytes, whatever the terminal's encoding is.
        click.echo((line if as_object else one_line(line)).encode())
