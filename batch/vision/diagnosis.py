"""Why a file can't be decoded: which format it has, and whether its end is missing."""

from __future__ import annotations

import io
import re

from PIL import Image, UnidentifiedImageError

from batch.file_types import CONVERT_REMEDY, FILE_TYPES
from batch.records import Reason
from batch.vision import jpeg, tiff
from batch.vision.isobmff import iter_boxes

DETAIL_LENGTH = 200  # characters
# What Pillow's readers say of a sound file that they were not made for.
UNSUPPORTED_WORDS = ("unknown pixel mode", "unsupported", "cannot handle", "not supported")
# What libavif says of coded pictures, rather than of how they are put together.
_DAMAGED_CODE = re.compile("planes failed|truncated", re.IGNORECASE)
_PIECE_TYPES = (b"grid", b"iovl", b"auxC")  # pictures made of others, and alpha channels
_FULL_BOX = 4  # bytes of version and flags, which a meta box has before the boxes in it
_READABLE_FORMATS = ", ".join(kind.name for kind in FILE_TYPES if kind.decoder)


def diagnose(data: bytes, formats: tuple[str, ...], error: Exception) -> tuple[Reason, str]:
    """Say why Pillow could not decode a file's bytes as one of ``formats``, in one line."""
    frame = jpeg.read_frame(data) if data.startswith(b"\xff\xd8") else None
    if frame and (process := jpeg.PROCESSES.get(frame.marker)):
        return Reason.UNSUPPORTED, f"a {process} file, which can't be read here: {CONVERT_REMEDY}"
    if formats == ("JXL",):  # whose decoder gives no reasons
        return Reason.CORRUPT, "its JPEG XL data are cut off or damaged"
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if isinstance(error, UnidentifiedImageError):  # its text is but an object's address
        claimed = [name for name in formats if _accepts(name, data[:16])]
        if not claimed:
            return Reason.NOT_AN_IMAGE, f"its content is none of {_READABLE_FORMATS}"
        text = (
            f"its {claimed[0]} header can't be understood ({_find_reader_error(claimed[0], data)})"
        )
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if "truncated" in text.lower() or _is_cut_short(data):
        return Reason.TRUNCATED, text[:DETAIL_LENGTH]
    if formats == ("AVIF",) and _is_composed(data) and not _DAMAGED_CODE.search(text):
        text = f"an AVIF file that is put together in a way not known here: {text}"
        return Reason.UNSUPPORTED, text[:DETAIL_LENGTH]
    unsupported = any(words in text.lower() for words in UNSUPPORTED_WORDS)
    return (Reason.UNSUPPORTED if unsupported else Reason.CORRUPT), text[:DETAIL_LENGTH]


def _find_reader_error(name: str, data: bytes) -> str:
    """Ask a format's own reader, whose error `Image.open` keeps to itself."""
    try:
        Image.OPEN[name][0](io.BytesIO(data), "")
    except Exception as error:
        return str(error) or type(error).__name__
    return "its content is not what its first bytes say"


def _accepts(name: str, prefix: bytes) -> bool:
    accept = Image.OPEN[name][1]
    return accept is None or bool(accept(prefix))


def _is_cut_short(data: bytes) -> bool:
    """Tell from a broken file's own marks whether its end is missing."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"GIF8"):
        return not data.endswith(b";")
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if data[4:8] == b"ftyp":
        return _find_boxes_end(data) > len(data)
    if data[:2] in (b"II", b"MM"):
        directory = tiff.read_first_directory(data)
        return directory is None or tiff.find_end(directory) > len(data)
    return False


def _is_composed(data: bytes) -> bool:
    """Tell whether an AVIF is sound as a container, and made of several pieces or with alpha."""
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
    """Tell where the last top-level box of an ISO base media file should end."""
    return max((end for _, _, end in iter_boxes(data, 0, len(data))), default=0)
