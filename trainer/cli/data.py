"""The command ``trainer data``."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.cli.shared_options import FERPLUS_FOLDER, show_progress


@click.command()
@click.option(
    "--to",
    "home",
    type=click.Path(path_type=Path),
    default=FERPLUS_FOLDER,
    show_default=True,
    metavar="DIR",
    help="The folder to download to; if it exists, it is only checked.",
)
@click.option("--url", metavar="URL", help="Another address of the same archive.")
def data(home: Path, url: str | None) -> None:
    """Download FER+.

    These are the faces and votes that the shipped face models were trained on.
    """
    from trainer.datasets.ferplus_download import ARCHIVE_URL, obtain_ferplus

    show_progress()
    obtain_ferplus(home, url or ARCHIVE_URL)
