"""Diagnosis of files that can't be decoded: their format, and whether their end is missing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from PIL import Image, UnidentifiedImageError

from batch.file_types import CONVERT_REMEDY, FILE_TYPES
from batch.records import Reason
from batch.vision import jpeg, tiff
from batch.vision.isobmff import iter_boxes

DETAIL_LENGTH = 200  # characters
# Words of Pillow's readers for an intact file that they do not support.
UNSUPPORTED_WORDS = ("unknown pixel mode", "unsupported", "cannot handle", "not supported")
# Words of libavif for damaged pixel data, as opposed to an unsupported structure.
_DAMAGE_WORDS = re.compile("planes failed|truncated", re.IGNORECASE)
_PIECE_TYPES = (b"grid", b"iovl", b"auxC")  # composed pictures, and alpha channels
_FULL_BOX = 4  # bytes of version and flags, before the boxes in a meta box
_READABLE_FORMATS = ", ".join(kind.name for kind in FILE_TYPES if kind.decoder)


def diagnose(data: bytes, formats: tuple[str, ...], error: Exception) -> tuple[Reason, str]:
    """Find out why Pillow could not decode a file's bytes as one of ``formats``.

    Returns:
        The reason, and one line of explanation.
    """
    frame = jpeg.read_frame(data) if data.startswith(b"\xff\xd8") else None
    if frame and (process := jpeg.PROCESSES.get(frame.marker)):
        return Reason.UNSUPPORTED, f"a {process} file, which can't be read here: {CONVERT_REMEDY}"
    if formats == ("JXL",):  # its decoder gives no reasons
        return Reason.CORRUPT, "its JPEG XL data are cut off or damaged"
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if isinstance(error, UnidentifiedImageError):  # its text is only an object's address
        claimed = [name for name in formats if _accepts(name, data[:16])]
        if not claimed:
            return Reason.NOT_AN_IMAGE, f"its content is none of {_READABLE_FORMATS}"
        text = (
            f"its {claimed[0]} header can't be understood ({_find_reader_error(claimed[0], data)})"
        )
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if "truncated" in text.lower() or _is_cut_short(data, formats):
        return Reason.TRUNCATED, text[:DETAIL_LENGTH]
    if formats == ("AVIF",) and _is_composed(data) and not _DAMAGE_WORDS.search(text):
        text = f"an AVIF file with a structure that is not supported here: {text}"
        return Reason.UNSUPPORTED, text[:DETAIL_LENGTH]
    unsupported = any(words in text.lower() for words in UNSUPPORTED_WORDS)
    return (Reason.UNSUPPORTED if unsupported else Reason.CORRUPT), text[:DETAIL_LENGTH]


def _find_reader_error(name: str, data: bytes) -> str:
    """Return the error of a format's own reader, which ``Image.open`` hides."""
    try:
        Image.OPEN[name][0](io.BytesIO(data), "")
    except Exception as error:
        return str(error) or type(error).__name__
    return "its content does not match its first bytes"


def _accepts(name: str, prefix: bytes) -> bool:
    accept = Image.OPEN[name][1]
    return accept is None or bool(accept(prefix))


def _is_cut_short(data: bytes, formats: tuple[str, ...]) -> bool:
    """Tell from a broken file's structure whether its end is missing."""
    if len(formats) > 1:  # an unknown format
        return False
    end_mark = next(kind.end_mark for kind in FILE_TYPES if kind.decoder == formats[0])
    if end_mark:
        return not end_mark.search(data)
    ends_early = _END_CHECKS.get(formats[0])
    return ends_early is not None and ends_early(data)


def _is_composed(data: bytes) -> bool:
    """Return whether an AVIF is intact as a container, with several pieces or an alpha channel."""
    meta = next((box for box in iter_boxes(data, 0, len(data)) if box[0] == b"meta"), None)
    if meta is None or _find_boxes_end(data) != len(data):
        return False
    _, start, end = meta
    inside = list(iter_boxes(data, start + _FULL_BOX, end))
    kinds = {kind for kind, _, _ in inside}
    return (
        bool(inside)
        and inside[-1][2] == end
        and kinds >= {b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp"}
        and any(data.find(piece, start, end) >= 0 for piece in _PIECE_TYPES)
    )


def _find_boxes_end(data: bytes) -> int:
    """Find where the last top-level box of an ISO base media file should end."""
    return max((end for _, _, end in iter_boxes(data, 0, len(data))), default=0)


def _ends_before_boxes(data: bytes) -> bool:
    return _find_boxes_end(data) > len(data)


def _ends_before_riff(data: bytes) -> bool:
    return 8 + int.from_bytes(data[4:8], "little") > len(data)


def _ends_before_strips(data: bytes) -> bool:
    directory = tiff.read_first_directory(data)
    return directory is None or tiff.find_end(directory) > len(data)


# How to tell that a file's end is missing, for formats without an end mark, by
# ``FileType.decoder``.
_END_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "WEBP": _ends_before_riff,
    "AVIF": _ends_before_boxes,
    "HEIF": _ends_before_boxes,
    "TIFF": _ends_before_strips,
}
