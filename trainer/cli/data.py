"""``trainer data``."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.cli.shared_options import show_progress


@click.command()
@click.option(
    "--to",
    "home",
    type=click.Path(path_type=Path),
    default=Path("data/ferplus"),
    show_default=True,
    metavar="DIR",
    help="The folder that it comes to; if it is there, it is checked.",
)
@click.option("--url", metavar="URL", help="Another place of the same archive.")
def data(home: Path, url: str | None) -> None:
    """Download FER+, the faces and votes that the shipped face models learnt from."""
    from trainer.datasets.ferplus_download import ARCHIVE_URL, obtain_ferplus

    show_progress()
    obtain_ferplus(home, url or ARCHIVE_URL)
