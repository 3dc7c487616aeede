"""Offsets of the parts of an image file: segments, chunks, boxes, blocks and fields."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

from PIL import TiffImagePlugin

MAX_SEGMENTS = 500
Order = Literal["little", "big"]


class Segment(NamedTuple):
    """A part of a file.

    Attributes:
        start: the offset of its first byte.
        end: the offset after its last byte.
        size_at: the offset of its length field; None without one.
        size_bytes: the size of the length field, in bytes.
        order: the byte order of the length field.
    """

    start: int
    end: int
    size_at: int | None = None
    size_bytes: int = 4
    order: Order = "big"


def find_segments(data: bytes) -> list[Segment]:
    """Split a file into its parts, up to the first damage; at most ``MAX_SEGMENTS`` parts."""
    found: list[Segment] = []
    with suppress(IndexError, SyntaxError, struct.error):
        for part in itertools.islice(_iter_segments(data), MAX_SEGMENTS):
            found.append(part)
    return [part for part in found if part.start < part.end <= len(data)]


def _iter_segments(data: bytes) -> Iterator[Segment]:
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG"):
        return _chunks(data, 8, overhead=12, size_at=0, order="big")
    if data.startswith(b"RIFF"):
        return _chunks(data, 12, overhead=8, size_at=4, order="little")
    if data[4:8] == b"ftyp":
        return _boxes(data, 0, len(data))
    if data[:2] in (b"II", b"MM"):
        return _tiff(data)
    if data.startswith(b"GIF"):
        return _gif(data)
    return _fields_of_bmp() if data.startswith(b"BM") else iter(())


def _jpeg(data: bytes) -> Iterator[Segment]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:  # scan data follow the header and end at the next marker
            while end + 1 < len(data) and not (
                data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))
            ):
                end += 1
        yield Segment(at, end, at + 2, 2)
        at = end


def _chunks(
    data: bytes, at: int, *, overhead: int, size_at: int, order: Order
) -> Iterator[Segment]:
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + size_at : at + size_at + 4], order)
        even = size % 2 if order == "little" else 0
        end = min(len(data), at + overhead + size + even)
        yield Segment(at, end, at + size_at, 4, order)
        at = end


CONTAINERS = frozenset(b"moov trak mdia minf stbl iprp ipco meta dinf".split())


def _boxes(data: bytes, at: int, stop: int) -> Iterator[Segment]:
    while at + 8 <= stop:
        size = int.from_bytes(data[at : at + 4], "big")
        end = min(stop, at + size) if size >= 8 else stop
        yield Segment(at, end, at)
        kind = data[at + 4 : at + 8]
        if kind in CONTAINERS:
            yield from _boxes(data, at + (12 if kind == b"meta" else 8), end)
        at = end


def _tiff(data: bytes) -> Iterator[Segment]:
    """Yield the entries of all directories: tag, type, count and value."""
    big = data[2:4] in (b"+\0", b"\0+")
    order: Order = "little" if data[:2] == b"II" else "big"
    head, entry, word = (8, 20, 8) if big else (2, 12, 4)
    at = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8]).next
    for _ in range(8):
        if not 0 < at < len(data):
            return
        count = int.from_bytes(data[at : at + head], order)
        yield Segment(at, at + head, at, head, order)
        for number in range(min(count, 64)):
            start = at + head + number * entry
            yield Segment(start, start + entry, start + 4, word, order)
        link = at + head + count * entry
        yield Segment(link, link + word, link, word, order)
        at = int.from_bytes(data[link : link + word], order)


def _gif(data: bytes) -> Iterator[Segment]:
    palette = 3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0
    yield Segment(6, 13 + palette, 6, 2, "little")
    at = 13 + palette
    while at < len(data) and data[at] in (0x21, 0x2C):
        start = at
        if data[at] == 0x2C:
            local = 3 << ((data[at + 9] & 7) + 1) if data[at + 9] & 0x80 else 0
            at += 11 + local
        else:
            at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
        yield Segment(start, at, start + 5, 2, "little")


def _fields_of_bmp() -> Iterator[Segment]:
    for at, size in ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4),
                     (34, 4), (46, 4), (50, 4)):  # fmt: skip
        yield Segment(at, at + size, at, size, "little")
