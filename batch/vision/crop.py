"""The pixels that a model sees of a photo: the same in training and in serving."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from batch.records import Box, Photo, Pixels

# An image is reduced by whole factors to no fewer pixels than this for each of the model's along a
# side, before it is resized.
REDUCING_GAP = 3.0

# Left, top, right and bottom.
CropFrame = tuple[float, float, float, float]


def crop(photo: Photo, box: Box, margin: float, height: int, width: int, channels: int) -> Pixels:
    """Cut out a face as its ``find_face_square`` and bring it to a model's size.

    Where the square reaches over the photo's edge the edge pixels go on. Shapes: uint8
    [height, width, channels]; ``channels`` 1 is grey (ITU-R BT.601).
    """
    if box.in_detail and isinstance(photo.detail, Photo):
        photo = photo.detail
    left, top, side = find_face_square(photo, box, margin)
    return _resize_frame(photo.image, (left, top, left + side, top + side), height, width, channels)


def find_face_square(photo: Photo, box: Box, margin: float) -> tuple[float, float, float]:
    """Give left, top and side, in pixels of ``Photo.image``, of the square that is a face.

    It stands on the centre of the part of the box that lies in the photo: how far a face goes on
    beyond the edge is a guess, which changes with the detector's view. Its side is that part's
    longer side, wider by ``margin`` of it on each side.
    """
    scale_x = photo.image.width / photo.width
    scale_y = photo.image.height / photo.height
    left, right = _clip_span(box.left, box.width, photo.width)
    top, bottom = _clip_span(box.top, box.height, photo.height)
    side = max((right - left) * scale_x, (bottom - top) * scale_y) * (1 + 2 * margin)
    x = (left + right) / 2 * scale_x - side / 2
    y = (top + bottom) / 2 * scale_y - side / 2
    return x, y, side


def _clip_span(start: float, length: float, end: float) -> tuple[float, float]:
    """Keep the part of a span that lies between 0 and ``end``, of one pixel at least."""
    low = min(max(start, 0.0), end - 1.0)
    return low, max(min(start + length, end), low + 1.0)


def resize_photo(photo: Photo, height: int, width: int, channels: int) -> Pixels:
    """Bring a whole photo to a model's size, stretched.

    Shapes: uint8 [height, width, channels].
    """
    frame = (0.0, 0.0, float(photo.image.width), float(photo.image.height))
    return _resize_frame(photo.image, frame, height, width, channels)


def _resize_frame(
    image: Image.Image, frame: CropFrame, height: int, width: int, channels: int
) -> Pixels:
    """Resize the part of an image in a frame: by whole factors first, then to a model's size."""
    left, top, right, bottom = frame
    across = _find_reduction(right - left, width)
    down = _find_reduction(bottom - top, height)
    x0, x1 = _round_outwards(left, right, image.width)
    y0, y1 = _round_outwards(top, bottom, image.height)
    inside = (x0, y0, x1, y1)
    part = image.crop(inside) if across == down == 1 else image.reduce((across, down), inside)
    if channels == 1:
        part = part.convert("L")
    frame = ((left - x0) / across, (top - y0) / down, (right - x0) / across, (bottom - y0) / down)
    part, frame = _extend_edges(part, frame)
    small = part.resize((width, height), Image.Resampling.BILINEAR, box=frame)
    return np.asarray(small).reshape(height, width, -1)


def _find_reduction(length: float, target: int) -> int:
    return max(1, int(length / target / REDUCING_GAP))


def _round_outwards(start: float, end: float, length: int) -> tuple[int, int]:
    """Give the whole pixels of a side of ``length`` that a span touches, one at least."""
    first = min(max(math.floor(start), 0), length - 1)
    return first, max(min(math.ceil(end), length), first + 1)


def _extend_edges(part: Image.Image, frame: CropFrame) -> tuple[Image.Image, CropFrame]:
    """Repeat the edge pixels of an image as far as a frame reaches over them."""
    left, top, right, bottom = frame
    x, y = max(-math.floor(left), 0), max(-math.floor(top), 0)
    width, height = part.size
    x_end, y_end = x + width, y + height
    columns, rows = max(math.ceil(right), width) + x, max(math.ceil(bottom), height) + y
    if (columns, rows) == part.size:
        return part, frame
    inside = np.asarray(part)
    pixels = np.empty((rows, columns, *inside.shape[2:]), np.uint8)
    pixels[y:y_end, x:x_end] = inside
    pixels[y:y_end, :x] = inside[:, :1]
    pixels[y:y_end, x_end:] = inside[:, -1:]
    pixels[:y] = pixels[y]
    pixels[y_end:] = pixels[y_end - 1]
    return Image.fromarray(pixels), (left + x, top + y, right + x, bottom + y)
