"""The command ``trainer render``."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.errors import OutputError

if TYPE_CHECKING:
    from PIL import Image


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--count",
    type=click.IntRange(1),
    default=130,
    show_default=True,
    metavar="N",
    help="Number of pictures, the same number of each kind.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of all random numbers.",
)
def render(folder: Path, count: int, seed: int) -> None:
    """Render pictures without a person.

    They are pages, screenshots, charts, codes and the like. DIR gets a sub-folder of PNG files for
    each kind; the same seed gives the same pictures.
    """
    from trainer.datasets.rendered_pictures import render_pictures

    try:
        for number, (kind, picture) in enumerate(render_pictures(count, seed)):
            path = folder / kind.value / f"{seed + number:06}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_picture(path, picture)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written ({error.strerror})", "choose another folder"
        ) from error
    click.echo(f"{folder} has {count:,} rendered pictures")


def _write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture unless the file has it already; a file with other content is kept."""
    png = BytesIO()
    picture.save(png, "PNG")
    try:
        with path.open("xb") as file:
            file.write(png.getvalue())
    except FileExistsError:
        if path.read_bytes() != png.getvalue():
            raise OutputError(
                f"{path} already has other content", "remove it, or choose another folder"
            ) from None
