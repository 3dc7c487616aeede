"""The preview inside a camera raw: the JPEG that the camera made of the same shot.

Every maker stores it elsewhere, in directories, maker notes or boxes. So the search uses what all
have in common: a preview is a JPEG that any viewer shows, not a lossless JPEG of sensor data.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from batch.vision import tiff
from batch.vision.jpeg import read_frame

MIN_PREVIEW_SIDE = 320  # pixels of the longer side: thumbnails are smaller
USABLE_PREVIEW = (
    f"a preview of {MIN_PREVIEW_SIDE} pixels or more that can be read here"
    " (a JPEG of 8 bits, grey or YCbCr, not lossless)"
)
MAX_PREVIEWS = 256  # JPEGs that are examined in a file; cameras store a handful
_START = b"\xff\xd8\xff"
# Boxes of a CR3 with the tags that a TIFF has in its first directory, of the shot and of the place,
# and where they are searched.
_CR3_BOXES = (b"CMT1", b"CMT2", b"CMT4")
_CR3_TAGS_WITHIN = 1 << 16  # bytes
_CR3_TAGS_SIZE = 1 << 20  # bytes of the tags that are read


@dataclass(frozen=True)
class Preview:
    """A preview in a camera raw.

    Attributes:
        start: its first byte in the file.
        orientation: EXIF orientation of the shot, None if the raw has no tags.
    """

    start: int
    orientation: int | None


def is_raw(data: bytes) -> bool:
    """Return whether a file is a camera raw, not an ordinary TIFF: it holds sensor data."""
    try:
        for directory in tiff.iter_directories(data):
            if (
                tiff.DNG_VERSION in directory.tags
                or directory.first(tiff.PHOTOMETRIC, 0) in tiff.MOSAIC
            ):
                return True
    except (struct.error, OverflowError):
        pass
    return False


def find_preview(data: bytes) -> Preview | None:
    """Find the largest JPEG in a camera raw; None if there are only thumbnails."""
    parts = _find_parts(data)
    best, start, examined = (0, -1), -1, 0
    while examined < MAX_PREVIEWS and (start := data.find(_START, start + 1)) >= 0:
        if start in parts:
            continue
        examined += 1
        frame = read_frame(data, start)
        if frame and frame.is_photo and max(frame.width, frame.height) >= MIN_PREVIEW_SIDE:
            best = max(best, (frame.width * frame.height, -start))
    return Preview(-best[1], _read_orientation(data)) if best[0] else None


def is_shown_by_tiff(data: bytes) -> bool:
    """Return whether the first picture in a raw's directories is a photo a TIFF reader decodes."""
    directory = tiff.read_first_directory(data)
    if directory is None or tiff.describe_unsupported(data, directory):
        return False
    return max(directory.first(tiff.WIDTH, 0), directory.first(tiff.HEIGHT, 0)) >= MIN_PREVIEW_SIDE


def _find_parts(data: bytes) -> set[int]:
    """Find the starts of tiles and strips, which may be JPEGs but are not previews.

    A picture with a single strip may be a preview, unless it is sensor data.
    """
    starts: set[int] = set()
    try:
        for directory in tiff.iter_directories(data):
            strips = directory.tags.get(tiff.STRIP_OFFSETS, ())
            if len(strips) > 1 or directory.first(tiff.PHOTOMETRIC, 0) in tiff.MOSAIC:
                starts.update(strips)
            starts.update(directory.tags.get(tiff.TILE_OFFSETS, ()))
    except (struct.error, OverflowError):  # not built like a TIFF
        pass
    return starts


def _read_orientation(data: bytes) -> int | None:
    """Read the orientation from a raw's own tags, as few previews have one."""
    tags = next(iter(find_tags(data)), b"")
    directory = tiff.read_first_directory(tags) if tags[:2] in (b"II", b"MM") else None
    return directory.first(tiff.ORIENTATION, 1) if directory else None


def find_tags(data: bytes) -> tuple[bytes, ...]:
    """Find the TIFF structures with the tags of a raw; few previews have all of them."""
    if data[4:8] == b"ftyp":
        found = (_find_cr3_box(data, name) for name in _CR3_BOXES)
        return tuple(box for box in found if box)
    return (data,) if data[:2] in (b"II", b"MM") else ()


def _find_cr3_box(data: bytes, name: bytes) -> bytes:
    at = data.find(name, 0, _CR3_TAGS_WITHIN)
    start = at + len(name)
    return data[start : start + _CR3_TAGS_SIZE] if at >= 0 else b""
