"""Why a file can't be decoded: which format it has, and whether its end is missing."""

from __future__ import annotations

import io

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from batch.records import Reason

DETAIL_LENGTH = 200  # characters
# What Pillow's readers say of a sound file that they were not made for.
UNSUPPORTED_WORDS = ("unknown pixel mode", "unsupported", "cannot handle", "not supported")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def diagnosis(data: bytes, formats: tuple[str, ...], error: Exception) -> tuple[Reason, str]:
    """Say why Pillow could not decode a file's bytes as one of ``formats``, in one line."""
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if isinstance(error, UnidentifiedImageError):  # its text is but an object's address
        claimed = [name for name in formats if _accepts(name, data[:16])]
        if not claimed:
            return Reason.NOT_AN_IMAGE, f"its content is none of {', '.join(FORMATS)}, HEIF"
        text = f"its {claimed[0]} header can't be understood ({_cause(claimed[0], data)})"
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if "truncated" in text.lower() or _is_cut_short(data):
        return Reason.TRUNCATED, text[:DETAIL_LENGTH]
    unsupported = any(words in text.lower() for words in UNSUPPORTED_WORDS)
    return (Reason.UNSUPPORTED if unsupported else Reason.CORRUPT), text[:DETAIL_LENGTH]


def _cause(name: str, data: bytes) -> str:
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
        return _boxes_end(data) > len(data)
    if data[:2] in (b"II", b"MM"):
        return _tiff_end(data) > len(data)
    return False


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box of an ISO base media file (ISO/IEC 14496-12) should end."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0 says "to the end", the others are no sizes
            return len(data)
        at += size
    return at


def _tiff_end(data: bytes) -> int:
    """Where the last strip or tile of a TIFF should end, or past the end if nothing says."""
    is_big = data[2:4] in (b"+\0", b"\0+")
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big else 8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        starts = (
            directory.get(TiffImagePlugin.STRIPOFFSETS) or directory[TiffImagePlugin.TILEOFFSETS]
        )
        sizes = (
            directory.get(TiffImagePlugin.STRIPBYTECOUNTS)
            or directory[TiffImagePlugin.TILEBYTECOUNTS]
        )
        return int(max(start + size for start, size in zip(starts, sizes, strict=True)))
    except Exception:  # the directory, which most programs write last, is cut itself
        return len(data) + 1
