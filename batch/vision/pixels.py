"""Pixel arithmetic of decoding: shrink a picture, make it RGB, turn it upright.

A change to the result needs a new ``PREPROCESSING_VERSION`` (``batch/vision/basis.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from batch.options import MAX_SIDE
from batch.vision import tiff

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# EXIF 2.32, tag 274: how the stored rows and columns become the upright picture.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)

# 32-bit grey is stretched from its darkest to its brightest value, without outliers.
MAX_SAMPLED_PIXELS = 1_000_000  # sampled to find the range
MIN_DISTINCT_VALUES = 16  # needed to detect outliers
# There are outliers if the full range is more than this many times that of the middle 98 %.
OUTLIER_FACTOR = 4


def finish_pixels(
    image: Image.Image, orientation: int, size: tuple[int, int] | None = None
) -> Image.Image:
    """Shrink a decoded picture, convert it to RGB and turn it upright.

    Args:
        image: as Pillow decoded it, in any mode.
        orientation: EXIF orientation.
        size: width and height to resize to, before turning; None to shrink by a whole factor
            until no side is over ``MAX_SIDE`` pixels.
    """
    picture = _to_rgb(image, lambda image: _resize(image, size) if size else _shrink(image))
    return picture.transpose(TRANSPOSES[orientation]) if orientation in TRANSPOSES else picture


def _shrink(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // MAX_SIDE)
    return image.reduce(factor) if factor > 1 else image


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _to_rgb(image: Image.Image, shrink: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert to RGB and shrink, in the order that takes the least memory.

    16-bit grey keeps its high byte, 32-bit grey is stretched, transparency is laid on white.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow inverts 8-bit grey itself.
        is_negative = getattr(image, "tag_v2", {}).get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO
        image = _stretch_range(image) if image.mode in ("I", "F") else _keep_high_byte(image)
        image = ImageOps.invert(image) if is_negative else image
    if not image.has_transparency_data:
        return shrink(image if image.mode == "RGB" else image.convert("RGB"))
    # Shrunk first, because full-size RGBA takes the most memory.
    image = shrink(image if image.mode == "RGBA" else image.convert("RGBA"))
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def _keep_high_byte(image: Image.Image) -> Image.Image:
    import numpy as np

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _stretch_range(image: Image.Image) -> Image.Image:
    """Stretch 32-bit grey from its darkest to its brightest value that is not an outlier."""
    import numpy as np

    grey = np.asarray(image).astype(np.float64)
    darkest, brightest = _find_range(grey)
    # In place: 8 bytes per pixel are more than any other picture takes.
    np.nan_to_num(grey, copy=False, nan=darkest, posinf=brightest, neginf=darkest)
    np.clip(grey, darkest, brightest, out=grey)
    grey -= darkest
    grey *= 255 / (brightest - darkest or 1)
    return Image.fromarray(np.rint(grey, out=grey).astype(np.uint8))


def _find_range(grey: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Find the darkest and the brightest value of a picture, without outliers.

    A marker for missing values, such as -32,768 or 1e30, may fill half of a picture, but is a
    single value. So distinct values are counted: if the middle ones span only a small part of the
    full range, the others are outliers.
    """
    import numpy as np

    values = grey.ravel()[:: -(-grey.size // MAX_SAMPLED_PIXELS)]
    values = np.unique(values[np.isfinite(values)])
    if not len(values):
        return 0, 0
    finite = np.isfinite(grey)
    darkest = float(grey.min(where=finite, initial=values[0]))
    brightest = float(grey.max(where=finite, initial=values[-1]))
    middle = values[1 + len(values) // 100 : -1 - len(values) // 100]
    if (
        len(values) < MIN_DISTINCT_VALUES
        or OUTLIER_FACTOR * (middle[-1] - middle[0]) >= brightest - darkest
    ):
        return darkest, brightest
    return float(middle[0]), float(middle[-1])
