"""Boxes of ISO base media files (ISO/IEC 14496-12: AVIF, HEIC, JPEG XL), and JPEG XL's header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_JXL_SIGNATURE = b"\xff\x0a"  # of a codestream
_JXL_PART_NUMBER = 4  # bytes before a partial codestream (box jxlp)
_JXL_HEADER_BYTES = 64  # bytes of a codestream that are read; the header takes the first ten
_JXL_SIDE_BITS = (9, 13, 18, 30)  # bits of a side, by its selector
# Width to height, by selector.
_JXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def iter_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start of content and end of each box between two positions."""
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head:  # 0 means "to the end of the file"; other values are invalid
            size = end - at
        yield data[at + 4 : at + 8], at + head, at + size
        at += size


class JxlHeader(NamedTuple):
    """Width and height in pixels as stored, and the EXIF orientation that decoders apply."""

    width: int
    height: int
    orientation: int


def read_jxl_header(data: bytes) -> JxlHeader | None:
    """Read the header of a JPEG XL codestream (ISO/IEC 18181), bare or in a container.

    Returns:
        None if there is no codestream.
    """
    codestream = _find_codestream(data)
    if not codestream.startswith(_JXL_SIGNATURE):
        return None
    bits = _BitReader(codestream[2:])
    small = bits.take(1)
    height = bits.take_side(small)
    ratio = bits.take(3)
    over, under = _JXL_RATIOS.get(ratio, (0, 0))
    width = height * over // under if ratio else bits.take_side(small)
    has_fields = not bits.take(1) and bits.take(1)
    return JxlHeader(width, height, bits.take(3) + 1 if has_fields else 1)


class _BitReader:
    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value

    def take_side(self, small: int) -> int:
        return (self.take(5) + 1) * 8 if small else self.take(_JXL_SIDE_BITS[self.take(2)]) + 1


def _find_codestream(data: bytes) -> bytes:
    """Return the first bytes of the codestream, b"" if a container has none."""
    if data[4:8] != b"JXL ":
        return data[:_JXL_HEADER_BYTES]
    for kind, start, _ in iter_boxes(data, 0, len(data)):
        if kind in (b"jxlc", b"jxlp"):
            at = start + (_JXL_PART_NUMBER if kind == b"jxlp" else 0)
            return data[at : at + _JXL_HEADER_BYTES]
    return b""
