"""Cropping: the pixels of a photo that a model gets, the same in training and in labelling.

A change to the pixels needs a new ``PREPROCESSING_VERSION`` (``batch/vision/basis.py``).
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from batch.models.model import ResizeRule
from batch.records import Box, Photo, Pixels

# Before it is resized, an image is reduced by a whole factor to at least this many pixels per pixel
# of the model's input, along each side.
REDUCING_GAP = 3.0
# Grey level of the bars of ``ResizeRule.LETTERBOX``: black, as in ``tf.image.resize_with_pad`` and
# Pillow's ``ImageOps.pad``.
PADDING_LEVEL = 0

# Left, top, right and bottom in pixels.
CropFrame = tuple[float, float, float, float]


def crop(
    photo: Photo,
    box: Box,
    margin: float,
    height: int,
    width: int,
    channels: int,
    resize: str = ResizeRule.STRETCH,
) -> Pixels:
    """Crop a face and resize it to a model's input.

    Beyond the photo's edge, the edge pixels are repeated.

    Args:
        photo: the photo.
        box: the face.
        margin: as in ``find_face_square``.
        height: of the input, in pixels.
        width: of the input, in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R BT.601).
        resize: how the square is resized to the input, see ``ResizeRule``.

    Returns:
        uint8 [height, width, channels].
    """
    if box.in_detail and isinstance(photo.detail, Photo):
        photo = photo.detail
    left, top, side = find_face_square(photo, box, margin)
    frame = (left, top, left + side, top + side)
    return _resize_frame(photo.image, frame, height, width, channels, resize)


def find_face_square(photo: Photo, box: Box, margin: float) -> tuple[float, float, float]:
    """Compute the square that is cropped for a face.

    Its centre is that of the part of the box inside the photo: how far a face extends beyond the
    edge is a guess that changes with the detector's input. Its side is the longer side of that
    part, extended on each end.

    Args:
        photo: the photo.
        box: the face.
        margin: how far the square is extended on each end, as a share of the longer side.

    Returns:
        Left, top and side in pixels of ``photo.image``.
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
    """Clip a span to 0 and ``end``, keeping at least one pixel."""
    low = min(max(start, 0.0), end - 1.0)
    return low, max(min(start + length, end), low + 1.0)


def resize_photo(
    photo: Photo, height: int, width: int, channels: int, resize: str = ResizeRule.STRETCH
) -> Pixels:
    """Resize a whole photo to a model's input.

    Args:
        photo: the photo.
        height: of the input, in pixels.
        width: of the input, in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R BT.601).
        resize: how the photo is resized to the input, see ``ResizeRule``.

    Returns:
        uint8 [height, width, channels].
    """
    frame = (0.0, 0.0, float(photo.image.width), float(photo.image.height))
    return _resize_frame(photo.image, frame, height, width, channels, resize)


def fit_frame(frame: CropFrame, height: int, width: int, resize: str) -> CropFrame:
    """Compute the frame that a model's whole input shows of a face's square or of a photo.

    Args:
        frame: the square, or the whole photo.
        height: of the input, in pixels.
        width: of the input, in pixels.
        resize: see ``ResizeRule``.

    Returns:
        The frame itself, its centre with the input's aspect ratio (``crop``), or the frame with the
        bars around it (``letterbox``).
    """
    left, top, right, bottom = frame
    if resize == ResizeRule.CROP:
        scale = min((right - left) / width, (bottom - top) / height)
        return _centre_frame(frame, width * scale, height * scale)
    if resize == ResizeRule.LETTERBOX:
        rows, columns = _find_padded_size(frame, height, width)
        x, y = (width - columns) // 2, (height - rows) // 2
        across, down = (right - left) / columns, (bottom - top) / rows
        x_end, y_end = left + (width - x) * across, top + (height - y) * down
        return left - x * across, top - y * down, x_end, y_end
    return frame


def _centre_frame(frame: CropFrame, width: float, height: float) -> CropFrame:
    """Compute the frame of another size around the same centre."""
    left, top, right, bottom = frame
    x, y = (left + right - width) / 2, (top + bottom - height) / 2
    return x, y, x + width, y + height


def _find_padded_size(frame: CropFrame, height: int, width: int) -> tuple[int, int]:
    """Find the rows and columns of the input that a frame fills between the bars."""
    left, top, right, bottom = frame
    scale = min(width / (right - left), height / (bottom - top))
    rows, columns = round((bottom - top) * scale), round((right - left) * scale)
    return min(max(rows, 1), height), min(max(columns, 1), width)


def _resize_frame(
    image: Image.Image, frame: CropFrame, height: int, width: int, channels: int, resize: str
) -> Pixels:
    """Resize the part of an image inside a frame to an input, by a rule."""
    if resize != ResizeRule.LETTERBOX:
        fitted = fit_frame(frame, height, width, resize)
        return _stretch_frame(image, fitted, height, width, channels)
    rows, columns = _find_padded_size(frame, height, width)
    pixels = np.full((height, width, channels), PADDING_LEVEL, np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    pixels[top : top + rows, left : left + columns] = _stretch_frame(
        image, frame, rows, columns, channels
    )
    return pixels


def _stretch_frame(
    image: Image.Image, frame: CropFrame, height: int, width: int, channels: int
) -> Pixels:
    """Resize the part of an image inside a frame, first by whole factors."""
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
    """Round a span outwards to whole pixels of a side of ``length``, at least one."""
    first = min(max(math.floor(start), 0), length - 1)
    return first, max(min(math.ceil(end), length), first + 1)


def _extend_edges(part: Image.Image, frame: CropFrame) -> tuple[Image.Image, CropFrame]:
    """Repeat an image's edge pixels as far as a frame extends beyond them."""
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
