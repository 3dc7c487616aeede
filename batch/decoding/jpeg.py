"""The markers of a JPEG (ITU-T T.81, annex B), and repairs of what every viewer puts up with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

START, END, SCAN = 0xD8, 0xD9, 0xDA
# Start of frame: baseline, extended, progressive and the rest. 0xC4, 0xC8 and 0xCC are others.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROCESSES = {
    0xC3: "lossless JPEG",
    0xC5: "hierarchical JPEG",
    0xC6: "hierarchical JPEG",
    0xC7: "hierarchical JPEG",
    0xCB: "lossless JPEG",
    0xCD: "hierarchical JPEG",
    0xCE: "hierarchical JPEG",
    0xCF: "hierarchical JPEG",
    0xF7: "JPEG-LS",
}
_STANDALONE = frozenset({0x01, START, *range(0xD0, 0xD8)})
_SEGMENTS = 1_024  # of a file before its first scan that are looked at
# What is needed of a file: its colours' meaning, orientation and tables. An application's segment
# begins so, and a shorter one is none to libjpeg.
_APPLICATIONS = {0xE0: (b"JFIF", 14), 0xE1: (b"Exif", 6), 0xEE: (b"Adobe", 12)}
_NEEDED = FRAMES | {0xC4, 0xCC, 0xDB, 0xDD}
# What decodes to different pixels.
_FILLINGS = (b"\0" * 64, b"\xa5\x5a\x3c" * 64)
_TAKEN_AWAY = 16  # bytes, more than what hides in one coefficient
EOI = b"\xff\xd9"


class Segment(NamedTuple):
    """A marker with its bytes from ``start`` (the marker's own) to ``end``."""

    marker: int
    start: int
    end: int


class Frame(NamedTuple):
    """What a start of frame says."""

    marker: int
    bits: int
    width: int
    height: int
    components: int

    @property
    def is_photo(self) -> bool:
        """Tell whether it is one that any viewer shows: 8 bits, with or without colours."""
        return self.marker in (0xC0, 0xC1, 0xC2) and self.bits == 8 and self.components in (1, 3)


def segments(data: bytes, start: int = 0) -> Iterator[Segment]:
    """Give the segments up to the first scan's, over fill bytes and garbage between them."""
    at = start + 2
    for _ in range(_SEGMENTS):
        at = data.find(b"\xff", at)
        while data[at + 1 : at + 2] == b"\xff":
            at += 1
        if at < 0 or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker == 0 or marker in _STANDALONE:
            at += 2
            continue
        if marker == END:
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield Segment(marker, at, end)
        if marker == SCAN:
            return
        at = end


def read_frame(data: bytes, start: int = 0) -> Frame | None:
    """Give the first start of frame of a JPEG that begins at ``start``."""
    for marker, at, end in segments(data, start):
        if (marker in FRAMES or marker == 0xF7) and end - at >= 10:
            body = data[at + 4 : at + 10]
            if len(body) < 6:
                return None
            height = int.from_bytes(body[1:3], "big")
            return Frame(marker, body[0], int.from_bytes(body[3:5], "big"), height, body[5])
    return None


def tidied(data: bytes) -> bytes:
    """Rewrite a JPEG's head without what no decoder needs, nor garbage between its segments."""
    kept = [data[:2]]
    for marker, start, end in segments(data):
        if marker == SCAN:
            return b"".join((*kept, data[start:]))
        name, length = _APPLICATIONS.get(marker, (b"", 0))
        known = name and data.startswith(name, start + 4) and end - start - 4 >= length
        if marker in _NEEDED or known:
            kept.append(data[start:end])
    return data


def endings(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Give a JPEG without an end two different ones, and another that takes some of its data away.

    Decoders pass over what is left before the end. So if all coded data are there, and nothing
    else, the first two give one picture and the third another.
    """
    # Without NULs of a file that was never written, and the first half of a marker.
    data = data.rstrip(b"\0\xff")
    return (
        data + _FILLINGS[0] + EOI,
        data + _FILLINGS[1] + EOI,
        data[:-_TAKEN_AWAY] + _FILLINGS[1] + EOI,
    )
