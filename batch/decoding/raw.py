"""The preview inside a camera raw: the JPEG that the camera made of the same shot.

Every maker keeps it elsewhere, in directories, maker notes or boxes. So it is looked for by what
all have in common: it is a JPEG. Lossless JPEG, as which sensors' data are kept, is none of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from batch.decoding import tiff
from batch.decoding.jpeg import read_frame

LEAST_PREVIEW = 320  # pixels of its longer side: thumbnails are smaller
USABLE_PREVIEW = (
    f"a preview of {LEAST_PREVIEW} pixels or more that can be read here"
    " (a JPEG of 8 bits, grey or YCbCr, not lossless)"
)
MOST_PREVIEWS = 256  # starts of JPEGs that are looked at in a file; there are a handful
_START = b"\xff\xd8\xff"
_SETTINGS = b"CMT1"  # of a CR3: the box with the tags that a TIFF has in its first directory


@dataclass(frozen=True)
class Preview:
    """Where a preview begins, and the EXIF orientation of the shot (None: the preview knows)."""

    start: int
    orientation: int | None


def find_preview(data: bytes) -> Preview | None:
    """Find the largest JPEG in a camera raw, None if there is but a thumbnail."""
    parts = _find_parts(data)
    best, start, looked_at = (0, -1), -1, 0
    while looked_at < MOST_PREVIEWS and (start := data.find(_START, start + 1)) >= 0:
        if start in parts:
            continue
        looked_at += 1
        frame = read_frame(data, start)
        if frame and frame.is_photo and max(frame.width, frame.height) >= LEAST_PREVIEW:
            best = max(best, (frame.width * frame.height, -start))
    return Preview(-best[1], _orientation(data)) if best[0] else None


def is_shown_by_tiff(data: bytes) -> bool:
    """Tell whether the first picture of a raw's directories is a photo that a TIFF reader shows."""
    directory = tiff.first_directory(data)
    if directory is None or tiff.why_unsupported(data, directory):
        return False
    return max(directory.one(tiff.WIDTH, 0), directory.one(tiff.HEIGHT, 0)) >= LEAST_PREVIEW


def _find_parts(data: bytes) -> set[int]:
    """Give the places of tiles and strips: each may be a JPEG by itself, but is not a preview.

    The only strip of a picture is one, unless it is what a sensor has seen.
    """
    places: set[int] = set()
    try:
        for directory in tiff.directories(data):
            strips = directory.tags.get(tiff.STRIP_OFFSETS, ())
            if len(strips) > 1 or directory.one(tiff.PHOTOMETRIC, 0) in tiff.MOSAIC:
                places.update(strips)
            places.update(directory.tags.get(tiff.TILE_OFFSETS, ()))
    except (struct.error, OverflowError):  # no directories, or those of another kind
        pass
    return places


def _orientation(data: bytes) -> int | None:
    """Give the orientation that a raw's own tags say; its preview mostly has no tags."""
    at = data.find(_SETTINGS, 0, 1 << 16) if data[4:8] == b"ftyp" else 0
    start = at + len(_SETTINGS) if data[4:8] == b"ftyp" else 0
    if at < 0 or data[start : start + 2] not in (b"II", b"MM"):
        return None
    directory = tiff.first_directory(data[start : start + (1 << 20)])
    return directory.one(tiff.ORIENTATION, 1) if directory else None
