"""What is there of a truncated photo: Pillow told to go on, in one thread and for one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

# Share of a photo's rows that must be there: with less it says more of its sky than of anybody.
LEAST_ROWS = 0.5


class _Leniency(threading.local):
    """True in a thread that is salvaging, and False in all others."""

    on = False

    def __bool__(self) -> bool:
        return self.on


# Pillow has one switch for the whole process, of which it only asks whether it is true. In its
# place this one keeps what other threads decode at the same time as strict as ever.
_LENIENCY = _Leniency()
vars(ImageFile)["LOAD_TRUNCATED_IMAGES"] = _LENIENCY


@contextmanager
def leniency() -> Iterator[None]:
    """Let Pillow make a picture of a truncated file, in this thread, while the block runs."""
    _LENIENCY.on = True
    try:
        yield
    finally:
        _LENIENCY.on = False


def is_enough(image: Image.Image) -> bool:
    """Tell whether at least ``LEAST_ROWS`` of a salvaged photo's rows are there.

    Workers leave what is missing in one colour: rows in the file, which are columns where
    the photo was turned.
    """
    # Here, as what starts for every worker needs no arrays, and numpy is half of its start.
    import numpy as np

    pixels = np.asarray(image)
    rows = (pixels == pixels[:, :1]).all(axis=(1, 2)).mean()
    columns = (pixels == pixels[:1]).all(axis=(0, 2)).mean()
    return bool(max(rows, columns) <= 1 - LEAST_ROWS)
