"""JPEG markers (ITU-T T.81, annex B), and repairs of flaws that all viewers ignore."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

START, END, SCAN, RESTART_INTERVAL = 0xD8, 0xD9, 0xDA, 0xDD
# Start of frame: baseline, extended, progressive and others; 0xC4, 0xC8 and 0xCC are not.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Coding processes that are not decoded here.
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
_RESTARTS = range(0xD0, 0xD8)
_STANDALONE = frozenset({0x01, START, *_RESTARTS})
# A marker that ends a scan's coded data: not a stuffed byte, not a restart marker.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_PROGRESSIVE = 0xC2
_COEFFICIENTS = 64  # of a block
_ALL_BITS = 16  # missing bits of a coefficient that was not coded yet
_MAX_SEGMENTS = 1_024  # segments of a file that are read
# Segments that decoding needs: colour space, orientation and tables. An application segment begins
# with a name, and libjpeg ignores one that is shorter than this many bytes.
_APPLICATIONS = {0xE0: (b"JFIF", 14), 0xE1: (b"Exif", 6), 0xEE: (b"Adobe", 12)}
_NEEDED = FRAMES | {0xC4, 0xCC, 0xDB, RESTART_INTERVAL}
# Fillings for missing coded data that decode to different pixels.
_FILLINGS = (b"\0" * 64, b"\xa5\x5a\x3c" * 64)
_REMOVED_BYTES = 16  # more than one coefficient takes
EOI = b"\xff\xd9"  # the end marker


class Segment(NamedTuple):
    """A marker with its parameters: the bytes from ``start``, of the marker, to ``end``."""

    marker: int
    start: int
    end: int


class FrameHeader(NamedTuple):
    """A start of frame: bits per sample, width and height in pixels, number of components."""

    marker: int
    bits: int
    width: int
    height: int
    components: int

    @property
    def is_photo(self) -> bool:
        """Whether any viewer shows it: 8 bits, grey or colour."""
        return self.marker in (0xC0, 0xC1, 0xC2) and self.bits == 8 and self.components in (1, 3)


def iter_segments(data: bytes, start: int = 0, to_end: bool = False) -> Iterator[Segment]:
    """Yield the segments, skipping fill bytes and garbage between them.

    Args:
        data: bytes with a JPEG in them.
        start: where the JPEG begins.
        to_end: go on after the first scan's coded data; else its segment is the last.
    """
    at = start + 2
    for _ in range(_MAX_SEGMENTS):
        at = data.find(b"\xff", at)
        while at >= 0 and data[at + 1 : at + 2] == b"\xff":
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
            if not to_end:
                return
            coded_end = _SCAN_END.search(data, end)
            end = coded_end.start() if coded_end else len(data)
        at = end


def read_frame(data: bytes, start: int = 0) -> FrameHeader | None:
    """Read the first start of frame of a JPEG that begins at ``start``; None if it has none."""
    for marker, at, end in iter_segments(data, start):
        if (marker in FRAMES or marker == 0xF7) and end - at >= 10:
            body = data[at + 4 : at + 10]
            if len(body) < 6:
                return None
            height = int.from_bytes(body[1:3], "big")
            return FrameHeader(marker, body[0], int.from_bytes(body[3:5], "big"), height, body[5])
    return None


def has_end(data: bytes) -> bool:
    """Return whether a JPEG's end marker is at the end of the file or anywhere in its scans."""
    if data.endswith(EOI):
        return True
    head = max((segment.end for segment in iter_segments(data)), default=2)
    return data.find(EOI, head) >= 0


def strip_fill(data: bytes) -> bytes:
    """Strip the NULs at the end of a file that was not fully written, and half a marker."""
    return data.rstrip(b"\0\xff")


def has_all_scans(data: bytes) -> bool:
    """Return whether a JPEG has scans of all its components, each with all restart intervals.

    A progressive JPEG must have all coefficients to their last bit. Markers do not show whether
    the last restart interval is complete; for that, see ``make_endings``.

    Raises:
        ValueError: a start of frame or of a scan is malformed.
    """
    found = list(iter_segments(data, to_end=True))
    ends = [segment.start for segment in found[1:]] + [len(data)]
    shape, interval = _Shape(0, 0, 0, {}), 0
    withheld: dict[int, list[int]] = {}  # low bits of each coefficient, by component
    for segment, end in zip(found, ends, strict=True):
        body = data[segment.start + 4 : segment.end]
        if segment.marker in FRAMES:
            shape = _read_shape(segment.marker, body)
            withheld = {name: [_ALL_BITS] * _COEFFICIENTS for name in shape.sampling}
        elif segment.marker == RESTART_INTERVAL:
            interval = int.from_bytes(body[:2], "big")
        elif segment.marker == SCAN:
            names, coefficients, bits = _read_scan(shape, body)
            for name in names:
                for at in coefficients:
                    withheld[name][at] = bits
            restarts = sum(data.count(bytes((0xFF, m)), segment.end, end) for m in _RESTARTS)
            if interval and restarts < -(-shape.count_units(names) // interval) - 1:
                return False
    return bool(withheld) and not any(any(bits) for bits in withheld.values())


class _Shape(NamedTuple):
    """The part of a start of frame that determines the number of units (MCUs) in a scan.

    Attributes:
        marker: the frame's marker.
        width: in pixels.
        height: in pixels.
        sampling: horizontal and vertical factor, by component.
    """

    marker: int
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]

    def count_units(self, names: bytes) -> int:
        """Count the minimum coded units in a scan of some components (T.81, A.2)."""
        across = max(factors[0] for factors in self.sampling.values())
        down = max(factors[1] for factors in self.sampling.values())
        if len(names) > 1:
            return -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        # The blocks of a single component are not padded to whole units.
        own_across, own_down = self.sampling[names[0]]
        columns = -(-self.width * own_across // across)
        rows = -(-self.height * own_down // down)
        return -(-columns // 8) * -(-rows // 8)


def _read_shape(marker: int, body: bytes) -> _Shape:
    components = body[6 : 6 + 3 * body[5]] if len(body) > 5 else b""
    sampling = {
        components[at]: (components[at + 1] >> 4, components[at + 1] & 15)
        for at in range(0, len(components) - 2, 3)
    }
    if not sampling or not all(min(factors) for factors in sampling.values()):
        raise ValueError("not a start of frame")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return _Shape(marker, width, height, sampling)


def _read_scan(shape: _Shape, body: bytes) -> tuple[bytes, range, int]:
    """Read a scan's components, the coefficients it codes, and how many low bits it withholds."""
    names = body[1 : 1 + 2 * body[0] : 2] if body else b""
    if not names or len(body) < 4 + 2 * body[0] or not shape.sampling.keys() >= set(names):
        raise ValueError("not a start of a scan")
    if shape.marker != _PROGRESSIVE:
        return names, range(_COEFFICIENTS), 0
    first, last, bits = body[1 + 2 * body[0] :][:3]
    return names, range(first, min(last + 1, _COEFFICIENTS)), bits & 15


def tidy_head(data: bytes) -> bytes:
    """Rewrite a JPEG's header without segments that decoding does not need, and without garbage."""
    kept = [data[:2]]
    for marker, start, end in iter_segments(data):
        if marker == SCAN:
            return b"".join((*kept, data[start:]))
        name, length = _APPLICATIONS.get(marker, (b"", 0))
        known = name and data.startswith(name, start + 4) and end - start - 4 >= length
        if marker in _NEEDED or known:
            kept.append(data[start:end])
    return data


def make_endings(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Complete a JPEG without an end marker in three ways, to test whether its data are complete.

    Decoders skip anything left before the end marker. So if the file has all coded data, and
    nothing else, the first two decode to the same pixels, and the third to others.

    Returns:
        The JPEG with one filling, with another, and with the last coded bytes removed.
    """
    data = strip_fill(data)
    return (
        data + _FILLINGS[0] + EOI,
        data + _FILLINGS[1] + EOI,
        data[:-_REMOVED_BYTES] + _FILLINGS[1] + EOI,
    )
