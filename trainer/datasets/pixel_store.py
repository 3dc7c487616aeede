"""Arrays of pixels that are as large as the data set: in memory or, if large, in a temporary file.

The system keeps the pages of such a file in memory while it has room, and reads them again when it
has none, so the memory that a training needs does not grow with the number of photos. The file has
no name: it is gone when its process ends, however that ends.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batch.errors import OutputError

Pixels = npt.NDArray[np.uint8]

# Larger arrays are in a file. 256 MiB are 3,495 RGB samples of 160 pixels, or 116,508 grey ones of
# 48.
MAX_BYTES_IN_MEMORY = 256 * 1024**2
# Samples that are copied at once.
BATCH_SIZE = 256
# On many systems the first is in memory, and the second is on a disk.
MEMORY_FOLDER, DISK_FOLDER = Path("/tmp"), Path("/var/tmp")

logger = logging.getLogger(__name__)


def allocate_pixels(shape: tuple[int, ...]) -> Pixels:
    """Allocate an array of pixels without values, in a temporary file if it is large.

    Raises:
        OutputError: the disk is full, or the folder does not exist.
    """
    size = math.prod(shape)
    if size <= MAX_BYTES_IN_MEMORY:
        return np.empty(shape, np.uint8)
    folder = _choose_folder()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved now, because a write to a mapped page that finds the disk full is a SIGBUS.
            os.posix_fallocate(file.fileno(), 0, size)
            mapped: Pixels = np.asarray(np.memmap(file, np.uint8, "r+", shape=shape))
    except OSError as error:
        raise OutputError(
            f"{folder} has no room for the pixels of the samples, {size / 1e9:.1f} GB "
            f"({error.strerror})",
            "free space, or name another folder by the variable TMPDIR",
        ) from error
    return mapped


def select_pixels(pixels: Pixels, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Pixels:
    """Copy the samples at a mask, bool [n], or at indices: uint8 [m, H, W, C]."""
    places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
    selected = allocate_pixels((len(places), *pixels.shape[1:]))
    for at in range(0, len(places), BATCH_SIZE):
        selected[at : at + BATCH_SIZE] = pixels[places[at : at + BATCH_SIZE]]
    return selected


def join_pixels(parts: Sequence[Pixels]) -> Pixels:
    """Concatenate samples, uint8 [n, H, W, C] each."""
    joined = allocate_pixels((sum(map(len, parts)), *parts[0].shape[1:]))
    at = 0
    for part in parts:
        joined[at : at + len(part)] = part
        at += len(part)
    return joined


@cache  # one warning for all arrays
def _warn_of_missing(given: str) -> None:
    logger.warning("WARNING: TMPDIR names %s, which is not a folder, so it is not used", given)


def _choose_folder() -> Path:
    """Choose the folder of temporary files: the user's or, by default, one on a disk.

    Raises:
        OutputError: no folder can be written.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError(
            f"there is no folder for the pixels of the samples ({error.strerror})",
            "name a folder that can be written, with free space, by the variable TMPDIR",
        ) from error
    given = os.environ.get("TMPDIR")
    if given and not Path(given).is_dir():
        _warn_of_missing(given)
    return DISK_FOLDER if folder == MEMORY_FOLDER and os.access(DISK_FOLDER, os.W_OK) else folder
