"""The pixels that a model sees of a photo: the same in training and in serving."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from batch.records import Box, Photo, Pixels


def crop(photo: Photo, box: Box, margin: float, height: int, width: int, channels: int) -> Pixels:
    """Cut out a face as its ``face_square`` and bring it to a model's size.

    Where the square reaches over the photo's edge the edge pixels go on. Shapes: uint8
    [height, width, channels]; ``channels`` 1 is grey (ITU-R BT.601).
    """
    if box.in_detail and isinstance(photo.detail, Photo):
        photo = photo.detail
    left, top, side = face_square(photo, box, margin)
    # Whole pixels around the square, so that the resize below can start and end between them.
    x0, y0 = math.floor(left), math.floor(top)
    x1, y1 = max(math.ceil(left + side), x0 + 1), max(math.ceil(top + side), y0 + 1)
    region = _cut(photo.pixels, y0, y1, x0, x1, channels)
    inner = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    return _resized(region, inner, height, width)


def face_square(photo: Photo, box: Box, margin: float) -> tuple[float, float, float]:
    """Give left, top and side, in pixels of ``Photo.pixels``, of the square that is a face.

    It stands on the centre of the part of the box that lies in the photo: how far a face goes on
    beyond the edge is a guess, which changes with the detector's view. Its side is that part's
    longer side, wider by ``margin`` of it on each side.
    """
    scale_x = photo.pixels.shape[1] / photo.width
    scale_y = photo.pixels.shape[0] / photo.height
    left, right = _within(box.left, box.width, photo.width)
    top, bottom = _within(box.top, box.height, photo.height)
    side = max((right - left) * scale_x, (bottom - top) * scale_y) * (1 + 2 * margin)
    x = (left + right) / 2 * scale_x - side / 2
    y = (top + bottom) / 2 * scale_y - side / 2
    return x, y, side


def _within(start: float, length: float, end: float) -> tuple[float, float]:
    """Keep the part of a span that lies between 0 and ``end``, of one pixel at least."""
    low = min(max(start, 0.0), end - 1.0)
    return low, max(min(start + length, end), low + 1.0)


def whole(photo: Photo, height: int, width: int, channels: int) -> Pixels:
    """Bring a whole photo to a model's size, stretched.

    Shapes: uint8 [height, width, channels].
    """
    frame = (0.0, 0.0, float(photo.pixels.shape[1]), float(photo.pixels.shape[0]))
    return _resized(_image(photo.pixels, channels), frame, height, width)


def _cut(pixels: Pixels, y0: int, y1: int, x0: int, x1: int, channels: int) -> Image.Image:
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(y0, y1), 0, height - 1)
    columns = np.clip(np.arange(x0, x1), 0, width - 1)
    inside = _image(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], channels)
    if inside.size == (x1 - x0, y1 - y0):
        return inside
    # One axis after the other takes a quarter of the time of both at once.
    around = np.asarray(inside).take(rows - rows[0], axis=0).take(columns - columns[0], axis=1)
    return Image.fromarray(around)


def _image(pixels: Pixels, channels: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.convert("L") if channels == 1 else image


def _resized(
    image: Image.Image, box: tuple[float, float, float, float], height: int, width: int
) -> Pixels:
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    small = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(small).reshape(height, width, -1)
