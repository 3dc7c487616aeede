"""Occlusion maps: the effect of hiding one spot of a model's input at a time.

After Zeiler & Fergus 2014 (arXiv 1311.2901, section 4.2). They hide a spot with a grey square; here
it is blurred through a soft mask, as networks react to the edges and the grey of a square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from batch.records import Pixels, Region

# Spots per row and per column; the outer ones are centred on the edges of the view.
SPOTS_PER_SIDE = 13
# Width of a spot at half its strength, as a share of the view's side.
SPOT_WIDTH = 0.25
# Full width at half maximum of a Gaussian, in standard deviations.
FWHM_IN_SIGMAS = 2.355
# Views made at a time, which bounds memory to a few MB.
VIEWS_PER_BATCH = 32

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """A part of a photo that a model saw, and the importance of its spots to the answer.

    Attributes:
        region: whether the part is a face or the whole photo.
        left: left edge in pixels of ``Photo.pixels``; a view may extend beyond the photo.
        top: top edge in pixels.
        width: width in pixels.
        height: height in pixels.
        importance: float32 [rows, columns], by how much the log-odds of the answer fall if the spot
            centred there is hidden; the outer spots are centred on the edges of the view.
    """

    region: Region
    left: float
    top: float
    width: float
    height: float
    importance: Floats


def occlude_spots(view: Pixels) -> Iterator[Pixels]:
    """Hide each spot of a view in turn, row by row.

    Args:
        view: uint8 [height, width, channels].

    Yields:
        Batches of views, uint8 [n, height, width, channels]; ``SPOTS_PER_SIDE`` squared in all.
    """
    height, width, _ = view.shape
    change = _blur_view(view).astype(np.float32) - view
    rows, columns = _make_spot_masks(height), _make_spot_masks(width)
    masks = (row[:, None] * column[None, :] for row in rows for column in columns)
    batch: list[Pixels] = []
    for mask in masks:
        batch.append(np.rint(view + mask[..., None] * change).astype(np.uint8))
        if len(batch) == VIEWS_PER_BATCH:
            yield np.stack(batch)
            batch.clear()
    if batch:
        yield np.stack(batch)


def upsample_spots(importance: Floats, height: int, width: int) -> Floats:
    """Turn the values of spots into a map of any size.

    A pixel gets the mean of the spots that cover it, weighted by how much each hides it.

    Args:
        importance: float32 [SPOTS_PER_SIDE, SPOTS_PER_SIDE].
        height: height of the map in pixels.
        width: width of the map in pixels.

    Returns:
        float32 [height, width].
    """
    rows, columns = _make_spot_masks(height), _make_spot_masks(width)
    total = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    heat: Floats = (rows.T @ importance @ columns / total).astype(np.float32)
    return heat


def sum_heat(views: Iterable[View], height: int, width: int) -> Floats:
    """Add up the maps of views over a photo: float32 [height, width], log-odds per pixel."""
    heat = np.zeros((height, width), dtype=np.float32)
    for view in views:
        x0, y0 = round(view.left), round(view.top)
        x1 = max(round(view.left + view.width), x0 + 1)
        y1 = max(round(view.top + view.height), y0 + 1)
        inside = upsample_spots(view.importance, y1 - y0, x1 - x0)[max(0, -y0) :, max(0, -x0) :]
        target = heat[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
        target += inside[: target.shape[0], : target.shape[1]]
    return heat


def _make_spot_masks(side: int) -> Floats:
    """Make the masks of a row of spots, 0 to 1 per pixel: float32 [SPOTS_PER_SIDE, side]."""
    centres = np.linspace(0, 1, SPOTS_PER_SIDE)
    pixels = (np.arange(side) + 0.5) / side
    distance = (pixels[None, :] - centres[:, None]) / (SPOT_WIDTH / FWHM_IN_SIGMAS)
    return np.exp(-0.5 * distance**2).astype(np.float32)


def _blur_view(view: Pixels) -> Pixels:
    """Blur a view until no detail of the size of a spot is left."""
    blur = ImageFilter.GaussianBlur(max(view.shape[:2]) * SPOT_WIDTH / 2)
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(view[..., n])).filter(blur))
        for n in range(view.shape[2])
    ]
    return np.stack(channels, axis=-1)
