"""The command ``trainer publish``."""

from __future__ import annotations

from pathlib import Path

import click

from batch.errors import InputError, UsageError
from batch.models.shipped import NAME_SEPARATOR
from trainer.cli.shared_options import license_option, resolve_model


@click.command()
@click.argument("model", callback=resolve_model)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@license_option
@click.option(
    "--license-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The text of the licence, to publish with the model.",
)
def publish(model: str, folder: Path, license_id: str | None, license_file: Path | None) -> None:
    """Write a model as a folder for the Hugging Face hub.

    MODEL is the path of an .onnx file with its card beside it, or the name of a shipped model or of
    your own. A pair is published as two models. Nothing is uploaded.
    """
    from trainer.evaluation.exported_models import open_model, resolve_default_name
    from trainer.exporting.hub_folder import make_hub_files, write_hub_folder
    from trainer.exporting.publish_model import read_card

    model = resolve_default_name(model)
    if NAME_SEPARATOR in model and not Path(model).is_file():
        raise UsageError(f"{model} names two models", "publish each into a folder of its own")
    opened = open_model(model)
    text = None if license_file is None else _read_license_text(license_file)
    files = make_hub_files(opened, read_card(opened), license_id, text)
    written = write_hub_folder(files, folder)
    click.echo(f"{folder} {'has' if written else 'already has'} the model {opened.spec.name}")


def _read_license_text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror})", "give another --license-file"
        ) from error
