"""What a photo's answer rests on, pixel by pixel and as colours over its pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from batch.explaining.explanation import Explanation, View
from batch.explaining.occlusion import Floats, spread
from batch.records import Pixels

# Told apart by those too who can't tell red from green.
_FOR = np.asarray([217, 54, 20], dtype=np.float32)
_AGAINST = np.asarray([33, 102, 200], dtype=np.float32)
# Log-odds that have the full colour, at least: what is worth less must not look like much. At a
# probability of one half it is 12 points.
LEAST_SCALE = 0.5
# How far the strongest colour covers the photo, 0 to 1.
OPACITY = 0.75
# The photo under the colours, in grey and paler.
CONTRAST = 0.85
LIFT = 30.0


def heat_of(explanation: Explanation) -> Floats:
    """Add up what the views say of each pixel of ``Photo.pixels``: float32 [height, width]."""
    height, width, _ = explanation.photo.pixels.shape
    heat = np.zeros((height, width), dtype=np.float32)
    for view in explanation.views:
        _add(heat, view)
    return heat


def _add(heat: Floats, view: View) -> None:
    x0, y0 = round(view.left), round(view.top)
    x1 = max(round(view.left + view.width), x0 + 1)
    y1 = max(round(view.top + view.height), y0 + 1)
    inside = spread(view.worth, y1 - y0, x1 - x0)[max(0, -y0) :, max(0, -x0) :]
    place = heat[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
    place += inside[: place.shape[0], : place.shape[1]]


def scale_of(*heats: Floats) -> float:
    """Give the log-odds that have the full colour."""
    return max(LEAST_SCALE, *(float(np.abs(heat).max()) for heat in heats))


def coloured(pixels: Pixels, heat: Floats, scale: float) -> Image.Image:
    """Lay a heat map over a photo in grey: red speaks for the label, blue against it.

    Shapes: uint8 [height, width, 3] and float32 [height, width]; ``scale`` is the log-odds of
    the full colour.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    under = grey[..., None] * CONTRAST + LIFT
    return Image.fromarray(np.rint(_mixed(under, heat / scale)).astype(np.uint8))


def colour_bar(height: int, width: int) -> Image.Image:
    """Draw all colours from full blue to full red, over white as a bright photo shows them."""
    strength = np.broadcast_to(np.linspace(-1, 1, width, dtype=np.float32), (height, width))
    white = np.full((height, width, 1), 255, dtype=np.float32)
    return Image.fromarray(np.rint(_mixed(white, strength)).astype(np.uint8))


def _mixed(under: Floats, strength: Floats) -> Floats:
    colour = np.where(strength[..., None] > 0, _FOR, _AGAINST)
    share = np.minimum(np.abs(strength), 1)[..., None] * OPACITY
    return (under * (1 - share) + colour * share).astype(np.float32)
