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

from batch.explaining.explanation import Explanation, View
from batch.records import Pixels

# Centres of spots in a row and in a column, from edge to edge of the view.
SPOTS_PER_SIDE = 13
# Width of a spot, where it hides half and more, as a share of the view's side.
SPOT_WIDTH = 0.25
# Width of a Gaussian at half of its height, in standard deviations.
FWHM_IN_SIGMAS = 2.355
# Views that are made at a time, so that a few MB are enough.
VIEWS_PER_BATCH = 32

Floats = npt.NDArray[np.float32]


def occlude_spots(view: Pixels) -> Iterator[Pixels]:
    """Hide each spot of a view in turn, row by row.

    Shapes: uint8 [height, width, channels] in, uint8 [n, height, width, channels] out, in parts
    that are ``SPOTS_PER_SIDE`` squared views together.
    """
    height, width, _ = view.shape
    blurred = _blur_view(view).astype(np.float32)
    change = blurred - view
    rows, columns = _spot_masks(height), _spot_masks(width)
    masks = (row[:, None] * column[None, :] for row in rows for column in columns)
    part: list[Pixels] = []
    for mask in masks:
        part.append(np.rint(view + mask[..., None] * change).astype(np.uint8))
        if len(part) == VIEWS_PER_BATCH:
            yield np.stack(part)
            part.clear()
    if part:
        yield np.stack(part)


def upsample_spots(worth: Floats, height: int, width: int) -> Floats:
    """Draw what spots are worth as a map of any size.

    A pixel gets the mean of the spots over it, each weighted by how far it hides the pixel.
    Shapes: float32 [POSITIONS, POSITIONS] in, float32 [height, width] out.
    """
    rows, columns = _spot_masks(height), _spot_masks(width)
    total = np.outer(rows.sum(axis=0), columns.sum(axis=0))
    heat: Floats = (rows.T @ worth @ columns / total).astype(np.float32)
    return heat


def _spot_masks(side: int) -> Floats:
    """How far each spot of a row hides each pixel, 0 to 1: float32 [POSITIONS, side]."""
    centres = np.linspace(0, 1, SPOTS_PER_SIDE)
    pixels = (np.arange(side) + 0.5) / side
    distance = (pixels[None, :] - centres[:, None]) / (SPOT_WIDTH / FWHM_IN_SIGMAS)
    return np.exp(-0.5 * distance**2).astype(np.float32)


def _blur_view(view: Pixels) -> Pixels:
    """Blur a view until nothing of a spot's size is left in it."""
    radius = max(view.shape[:2]) * SPOT_WIDTH / 2
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(view[..., n])).filter(_blur(radius)))
        for n in range(view.shape[2])
    ]
    return np.stack(channels, axis=-1)


def _blur(radius: float) -> ImageFilter.GaussianBlur:
    return ImageFilter.GaussianBlur(radius)


# == What a photo's answer rests on, pixel by pixel and as colours over its pixels.

# Told apart by those too who can't tell red from green.
_FOR_COLOUR = np.asarray([217, 54, 20], dtype=np.float32)
_AGAINST_COLOUR = np.asarray([33, 102, 200], dtype=np.float32)
# Log-odds that have the full colour, at least: what is worth less must not look like much. At a
# probability of one half it is 12 points.
MIN_SCALE = 0.5
# How far the strongest colour covers the photo, 0 to 1.
OPACITY = 0.75
# The photo under the colours, in grey and paler.
CONTRAST = 0.85
BRIGHTNESS = 30.0


def sum_heat(explanation: Explanation) -> Floats:
    """Add up what the views say of each pixel of ``Photo.pixels``: float32 [height, width]."""
    height, width, _ = explanation.photo.pixels.shape
    heat = np.zeros((height, width), dtype=np.float32)
    for view in explanation.views:
        _add_view(heat, view)
    return heat


def _add_view(heat: Floats, view: View) -> None:
    x0, y0 = round(view.left), round(view.top)
    x1 = max(round(view.left + view.width), x0 + 1)
    y1 = max(round(view.top + view.height), y0 + 1)
    inside = upsample_spots(view.worth, y1 - y0, x1 - x0)[max(0, -y0) :, max(0, -x0) :]
    place = heat[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
    place += inside[: place.shape[0], : place.shape[1]]


def find_scale(*heats: Floats) -> float:
    """Give the log-odds that have the full colour."""
    return max(MIN_SCALE, *(float(np.abs(heat).max()) for heat in heats))


def overlay_heat(pixels: Pixels, heat: Floats, scale: float) -> Image.Image:
    """Lay a heat map over a photo in grey: red speaks for the label, blue against it.

    Shapes: uint8 [height, width, 3] and float32 [height, width]; ``scale`` is the log-odds of
    the full colour.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    under = grey[..., None] * CONTRAST + BRIGHTNESS
    return Image.fromarray(np.rint(_blend(under, heat / scale)).astype(np.uint8))


def colour_bar(height: int, width: int) -> Image.Image:
    """Draw all colours from full blue to full red, over white as a bright photo shows them."""
    strength = np.broadcast_to(np.linspace(-1, 1, width, dtype=np.float32), (height, width))
    white = np.full((height, width, 1), 255, dtype=np.float32)
    return Image.fromarray(np.rint(_blend(white, strength)).astype(np.uint8))


def _blend(under: Floats, strength: Floats) -> Floats:
    colour = np.where(strength[..., None] > 0, _FOR_COLOUR, _AGAINST_COLOUR)
    share = np.minimum(np.abs(strength), 1)[..., None] * OPACITY
    return (under * (1 - share) + colour * share).astype(np.float32)
