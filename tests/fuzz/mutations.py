"""Mutations of image files: functions from bytes and a random generator to bytes."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from tests.fuzz.segments import Order, Segment, find_segments

# Limits at which counts, sizes and offsets tend to overflow.
EXTREMES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF,
            0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # fmt: skip
HEAD = 256  # bytes at the start of a file, which half of the mutations change

Mutation = Callable[[bytes, random.Random], bytes]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip up to 64 bits."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        out[_choose_offset(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite_run(data: bytes, rng: random.Random) -> bytes:
    """Overwrite a run of bytes with zeros, ones, noise or bytes from elsewhere in the file."""
    at, length = _choose_offset(data, rng), rng.choice((1, 4, 16, 100, 1000))
    start = rng.randrange(len(data))
    run = rng.choice(
        (bytes(length), b"\xff" * length, rng.randbytes(length), data[start : start + length])
    )
    return data[:at] + run + data[at + len(run) :]


def write_extreme(data: bytes, rng: random.Random) -> bytes:
    """Overwrite bytes with a number that may overflow."""
    at, width = _choose_offset(data, rng), rng.choice((1, 2, 4, 8))
    return _write_number(data, at, width, rng.choice(("big", "little")), rng)


def cut_end(data: bytes, rng: random.Random) -> bytes:
    """Truncate the file."""
    return data[: _choose_offset(data, rng)]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    """Delete a slice."""
    at = _choose_offset(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 10, 500)) :]


def repeat_slice(data: bytes, rng: random.Random) -> bytes:
    """Repeat a slice, once or many times."""
    at = _choose_offset(data, rng)
    piece = data[at : at + rng.choice((1, 4, 64, 1000))]
    return data[:at] + piece * rng.choice((2, 2, 3, 200)) + data[at + len(piece) :]


def replace_with_noise(data: bytes, rng: random.Random) -> bytes:
    """Replace everything after the header by noise."""
    at = min(len(data), rng.choice((12, 16, 32, 64, 128, 512, 1024)))
    return data[:at] + rng.randbytes(rng.choice((0, 100, 5000)))


def drop_part(data: bytes, rng: random.Random) -> bytes:
    """Delete a segment, chunk, box or entry."""
    part = _choose_part(data, rng)
    return data[: part.start] + data[part.end :]


def repeat_part(data: bytes, rng: random.Random) -> bytes:
    """Repeat a segment, chunk, box or entry."""
    part = _choose_part(data, rng)
    piece = data[part.start : part.end]
    return data[: part.end] + piece * rng.choice((1, 1, 2, 50)) + data[part.end :]


def swap_parts(data: bytes, rng: random.Random) -> bytes:
    """Swap two segments, chunks, boxes or entries."""
    one, two = sorted((_choose_part(data, rng), _choose_part(data, rng)))
    if one.end > two.start:  # the same part, or nested parts
        return drop_part(data, rng)
    return (
        data[: one.start]
        + data[two.start : two.end]
        + data[one.end : two.start]
        + data[one.start : one.end]
        + data[two.end :]
    )


def change_length(data: bytes, rng: random.Random) -> bytes:
    """Change the length of a part, or the count of an entry."""
    part = _choose_part(data, rng)
    if part.size_at is None:
        return write_extreme(data, rng)
    return _write_number(data, part.size_at, part.size_bytes, part.order, rng)


def change_number(data: bytes, rng: random.Random) -> bytes:
    """Change a number in the head of a part: a dimension, count, offset or table number."""
    part = _choose_part(data, rng)
    at = part.start + rng.randrange(min(32, max(1, part.end - part.start)))
    width = rng.choice((1, 2, 2, 4, 4, 8))
    if part.order == "big" and data.startswith(b"\x89PNG"):
        at = max(at, part.start + 8)
    return repair_checksums(_write_number(data, at, width, part.order, rng))


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, overwrite_run, write_extreme, cut_end, cut_out, repeat_slice),
    *(replace_with_noise, drop_part, repeat_part, swap_parts),
    *(change_length, change_number, change_number, change_number),
)


def splice(head: bytes, tail: bytes, rng: random.Random) -> bytes:
    """Join the head of one file and the tail of another."""
    return head[: _choose_offset(head, rng)] + tail[_choose_offset(tail, rng) :]


def repair_checksums(data: bytes) -> bytes:
    """Repair the checksums of PNG chunks, so that decoders read their contents."""
    if not data.startswith(b"\x89PNG"):
        return data
    fixed = bytearray(data)
    for part in find_segments(data):
        if part.end - part.start >= 12:
            crc = zlib.crc32(data[part.start + 4 : part.end - 4])
            fixed[part.end - 4 : part.end] = crc.to_bytes(4, "big")
    return bytes(fixed)


def _choose_offset(data: bytes, rng: random.Random) -> int:
    return rng.randrange(min(len(data), HEAD) if rng.random() < 0.5 else len(data))


def _choose_part(data: bytes, rng: random.Random) -> Segment:
    if found := find_segments(data):
        return rng.choice(found)
    start = _choose_offset(data, rng)
    return Segment(start, min(len(data), start + 16))


def _write_number(data: bytes, at: int, width: int, order: Order, rng: random.Random) -> bytes:
    old = int.from_bytes(data[at : at + width], order)
    near = old + rng.choice((-2, -1, 1, 2, old, -old // 2))
    number = rng.choice((*EXTREMES, near)) % (1 << 8 * width)
    return data[:at] + number.to_bytes(width, order) + data[at + width :]
