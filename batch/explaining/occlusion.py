"""What a model would see with one spot hidden, and what such spots are worth.

After the occlusion maps of Zeiler & Fergus 2014 (arXiv 1311.2901, section 4.2). A spot is blurred
through a soft mask where theirs is a grey square: a square's edges and its grey are marks of their
own, and a network answers to them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from batch.records import Pixels

# Centres of spots in a row and in a column, from edge to edge of the view.
POSITIONS = 13
# Width of a spot, where it hides half and more, as a share of the view's side.
SPOT = 0.25
# Width of a Gaussian at half of its height, in standard deviations.
HALF_WIDTH = 2.355
# Views that are made at a time, so that a few MB are enough.
AT_ONCE = 32

Floats = npt.NDArray[np.float32]


def hidden(view: Pixels) -> Iterator[Pixels]:
    """Hide each spot of a view in turn, row by row.

    Shapes: uint8 [height, width, channels] in, uint8 [n, height, width, channels] out, in parts
    that are ``POSITIONS`` squared views together.
    """
    height, width, _ = view.shape
    blurred = _blurred(view).astype(np.float32)
    change = blurred - view
    rows, columns = _windows(height), _windows(width)
    masks = (row[:, None] * column[None, :] for row in rows for column in columns)
    part: list[Pixels] = []
    for mask in masks:
        part.append(np.rint(view + mask[..., None] * change).astype(np.uint8))
        if len(part) == AT_ONCE:
            yield np.stack(part)
            part.clear()
    if part:
        yield np.stack(part)


def spread(worth: Floats, height: int, width: int) -> Floats:
    """Draw what spots are worth as a map of any size.

    A pixel gets the mean of the spots over it, each weighted by how far it hides the pixel.
    Shapes: float32 [POSITIONS, POSITIONS] in, float32 [height, width] out.
    """
    rows, columns = _windows(height), _windows(width)
    total = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    heat: Floats = (rows.T @ worth @ columns / total).astype(np.float32)
    return heat


def _windows(side: int) -> Floats:
    """How far each spot of a row hides each pixel, 0 to 1: float32 [POSITIONS, side]."""
    centres = np.linspace(0, 1, POSITIONS)
    pixels = (np.arange(side) + 0.5) / side
    distance = (pixels[None, :] - centres[:, None]) / (SPOT / HALF_WIDTH)
    return np.exp(-0.5 * distance**2).astype(np.float32)


def _blurred(view: Pixels) -> Pixels:
    """Blur a view until nothing of a spot's size is left in it."""
    radius = max(view.shape[:2]) * SPOT / 2
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(view[..., n])).filter(_blur(radius)))
        for n in range(view.shape[2])
    ]
    return np.stack(channels, axis=-1)


def _blur(radius: float) -> ImageFilter.GaussianBlur:
    return ImageFilter.GaussianBlur(radius)
