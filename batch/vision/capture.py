"""When, with what and where a photo was taken: its EXIF tags (EXIF 2.32, CIPA DC-008-2019)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeAlias

from PIL import ExifTags, Image
from PIL.ExifTags import GPS, Base

from batch.path_text import is_printable
from batch.records import Capture
from batch.row_json import MAX_CAMERA_CHARS

Tags: TypeAlias = Mapping[int, Any]

# Times of the shot and their offsets from UTC. The tag ``DateTime`` is not one: programs set it
# when they save a file.
_TIME_TAGS = (
    (Base.DateTimeOriginal, Base.OffsetTimeOriginal),
    (Base.DateTimeDigitized, Base.OffsetTimeDigitized),
)
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d")
# Pillow reads tags only after these bytes, by byte order. Raws of Olympus and Panasonic have other
# numbers in the last two.
_TIFF_STARTS = {b"II": b"II*\0", b"MM": b"MM\0*"}
_MAX_TAG_CHARS = 1_000  # of a text that is examined
_MINUTES, _SECONDS = 60, 3_600  # per degree


def read_capture(image: Image.Image, raw_tags: tuple[bytes, ...] = ()) -> Capture:
    """Read the capture of a photo; what is missing or damaged is None.

    Args:
        image: the opened photo.
        raw_tags: TIFF structures of a camera raw, with tags that its preview may lack.
    """
    sources = [*_read_tags(image.getexif), *_read_raw_tags(raw_tags)]
    main, shot, place = ([tags[kind] for tags in sources] for kind in range(3))
    latitude, longitude = _find(place, _read_position) or (None, None)
    return Capture(
        _find([*shot, *main], _read_time), _find(main, _read_camera), latitude, longitude
    )


def _read_raw_tags(structures: tuple[bytes, ...]) -> Iterator[tuple[Tags, Tags, Tags]]:
    for data in structures:

        def load(data: bytes = data) -> Image.Exif:
            exif = Image.Exif()
            start = _TIFF_STARTS[data[:2]]
            exif.load(data if data[:4] == start else start + data[4:])
            return exif

        for main, shot, place in _read_tags(load):
            # A CR3 has a structure for each kind of tags, which are then the main ones.
            yield main, {**main, **shot}, {**main, **place}


def _read_tags(load: Callable[[], Image.Exif]) -> Iterator[tuple[Tags, Tags, Tags]]:
    """Yield the main tags, those of the shot and those of the place; none if they are damaged."""
    with suppress(Exception):  # Pillow raises nearly every built-in exception
        exif = load()
        if len(exif):
            yield (
                exif,
                _read_group(exif, ExifTags.IFD.Exif),
                _read_group(exif, ExifTags.IFD.GPSInfo),
            )


def _read_group(exif: Image.Exif, group: int) -> Tags:
    with suppress(Exception):
        return exif.get_ifd(group)
    return {}


def _find(groups: list[Tags], read: Callable[[Tags], Any]) -> Any:
    """Return the first result that is not None."""
    for tags in groups:
        with suppress(Exception):  # such as a text instead of a number
            result = read(tags)
            if result is not None:
                return result
    return None


def _read_time(tags: Tags) -> str | None:
    for tag, offset_tag in _TIME_TAGS:
        found = _TIME.match(_read_text(tags, tag))
        if found is None:
            continue
        with suppress(ValueError):  # zeros, or the 31st of February
            taken = datetime(*map(int, found.groups())).isoformat()  # type: ignore[arg-type]
            offset = _OFFSET.fullmatch(_read_text(tags, offset_tag))
            return taken + (offset[0] if offset else "")
    return None


def _read_camera(tags: Tags) -> str | None:
    make, model = _read_text(tags, Base.Make), _read_text(tags, Base.Model)
    maker = make.partition(" ")[0].lower()
    # Most models begin with the maker: Canon, Canon EOS R5.
    camera = model if model and model.lower().startswith(maker) else f"{make} {model}".strip()
    return camera[:MAX_CAMERA_CHARS].rstrip() or None


def _read_position(tags: Tags) -> tuple[float, float] | None:
    sides = (
        (GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS", 90),
        (GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW", 180),
    )
    values = []
    for tag, reference_tag, references, limit in sides:
        degrees, minutes, seconds = map(float, tags[tag])
        value = degrees + minutes / _MINUTES + seconds / _SECONDS
        reference = _read_text(tags, reference_tag).upper()
        if (
            not math.isfinite(value)
            or not 0 <= value <= limit
            or reference not in tuple(references)
        ):
            return None
        values.append(-value if reference == references[1] else value)
    return values[0], values[1]


def _read_text(tags: Tags, tag: int) -> str:
    """Read a text, up to its first NUL, on one line; empty if it is missing or not printable."""
    value = tags.get(tag, "")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    # Pillow decodes texts as Latin-1; cameras write ASCII, and phones UTF-8.
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode("utf-8")
    text = " ".join(text[:_MAX_TAG_CHARS].partition("\0")[0].split())
    return text if is_printable(text) else ""
