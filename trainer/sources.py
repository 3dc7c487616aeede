"""Where labelled pictures come from: tells FER+ from a user's own folders."""

from __future__ import annotations

import logging
from pathlib import Path

from batch.errors import InputError, UsageError
from batch.records import Region
from trainer.data import Dataset, Framing
from trainer.ferplus import FRAMING, is_ferplus, load_ferplus
from trainer.folders import load_folders

logger = logging.getLogger(__name__)


def load_data(path: Path, framing: Framing | None) -> Dataset:
    """Read FER+ or a folder with a sub-folder for each class; what is left out is logged.

    ``framing`` says how samples are cut, None leaves it to the data.

    Raises:
        InputError: there is nothing, or it is neither.
        UsageError: FER+ can't be had in that framing.
    """
    if not path.exists():
        raise InputError(f"there are no data at {path}", "give --data PATH; see docs/training.md")
    if is_ferplus(path):
        if framing not in (None, FRAMING):
            raise UsageError(
                f"{path} is FER+, whose samples are grey faces {FRAMING.side} pixels wide",
                "give photos in folders for other samples",
            )
        return load_ferplus(path)
    data = load_folders(path, framing or Framing())
    for name, reason in data.left_out:
        logger.warning("left out %s: %s", name, reason)
    return data


def framing_of(
    region: str | None, side: int | None, rgb: bool, margin: float | None
) -> Framing | None:
    """Fill up what was said of the samples with the usual, None where nothing was said."""
    if region is None and side is None and margin is None and not rgb:
        return None
    usual = Framing()
    return Framing(
        region=usual.region if region is None else Region(region),
        margin=usual.margin if margin is None else margin,
        side=side or usual.side,
        channels=3 if rgb else usual.channels,
    )
