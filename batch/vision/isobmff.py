"""The boxes of ISO base media files (ISO/IEC 14496-12), as AVIF, HEIC and JPEG XL have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


def iter_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Give type, start of content and end of the boxes between two places."""
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head:  # 0 means "to the end of the file"; the others are invalid
            size = end - at
        yield data[at + 4 : at + 8], at + head, at + size
        at += size


# == The head of a JPEG XL (ISO/IEC 18181): its size before it is decoded, and which side is up.

_CODESTREAM = b"\xff\x0a"
_PART_NUMBER = 4  # bytes that a part of a codestream (box jxlp) has in front
_HEAD_BYTES = 64  # bytes of a codestream, of which what is asked for takes the first ten
_DISTANCES = (9, 13, 18, 30)  # bits of a side, by a selector
# Width by height, by another one.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


class Header(NamedTuple):
    """Width and height in pixels as stored, and the EXIF orientation that decoders apply."""

    width: int
    height: int
    orientation: int


class _BitReader:
    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value

    def take_side(self, small: int) -> int:
        return (self.take(5) + 1) * 8 if small else self.take(_DISTANCES[self.take(2)]) + 1


def read_header(data: bytes) -> Header | None:
    """Read the head of a codestream, by itself or in a container; None if there is none."""
    codestream = _find_codestream(data)
    if not codestream.startswith(_CODESTREAM):
        return None
    bits = _BitReader(codestream[2:])
    small = bits.take(1)
    height = bits.take_side(small)
    ratio = bits.take(3)
    over, under = _RATIOS.get(ratio, (0, 0))
    width = height * over // under if ratio else bits.take_side(small)
    has_fields = not bits.take(1) and bits.take(1)
    return Header(width, height, bits.take(3) + 1 if has_fields else 1)


def _find_codestream(data: bytes) -> bytes:
    """Give the beginning of the codestream."""
    if data[4:8] != b"JXL ":
        return data[:_HEAD_BYTES]
    for kind, start, _ in iter_boxes(data, 0, len(data)):
        if kind in (b"jxlc", b"jxlp"):
            at = start + (_PART_NUMBER if kind == b"jxlp" else 0)
            return data[at : at + _HEAD_BYTES]
    return b""
