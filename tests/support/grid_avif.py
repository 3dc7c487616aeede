"""AVIF files whose picture and alpha channel are grids of two tiles (ISO/IEC 23008-12)."""

from __future__ import annotations

import io
import struct
from typing import Any

from PIL import Image

HEIGHT, SIDE = 256, 256
WIDTH = 2 * SIDE
_CONTAINERS = (b"meta", b"iprp", b"ipco")


def grid_avif(
    image: Image.Image, alpha: bool, alpha_size: bool = True
) -> tuple[bytes, Image.Image]:
    """Make an AVIF of a picture.

    Args:
        image: the picture.
        alpha: whether to add an alpha channel.
        alpha_size: whether the alpha channel has a size property.

    Returns:
        The file, and the picture that it shows.
    """
    picture = image.resize((WIDTH, HEIGHT)).convert("RGB")
    light = Image.linear_gradient("L").resize(picture.size)
    shown = Image.composite(picture, Image.new("RGB", picture.size, "white"), light)
    halves = ((0, 0, SIDE, HEIGHT), (SIDE, 0, WIDTH, HEIGHT))
    colours = [_tile(picture.crop(half)) for half in halves]
    lights = [_tile(light.crop(half), subsampling="4:0:0") for half in halves]
    grid = struct.pack(">4B2H", 0, 0, 0, 1, WIDTH, HEIGHT)
    # Properties, numbered from 1; 0x80 marks an essential property.
    properties = (
        _box(b"ispe", bytes(4), struct.pack(">2I", WIDTH, HEIGHT)),
        _box(b"ispe", bytes(4), struct.pack(">2I", SIDE, HEIGHT)),
        colours[0][0],
        lights[0][0],
        _box(b"auxC", bytes(4), b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"),
    )
    items = [
        (b"grid", grid, (1,)),
        *((b"av01", coded, (2, 0x83)) for _, coded in colours),
    ]
    references = _box(b"dimg", struct.pack(">4H", 1, 2, 2, 3))
    if alpha:
        items.append((b"grid", grid, (1, 5) if alpha_size else (5,)))
        items += [(b"av01", coded, (2, 0x84, 5)) for _, coded in lights]
        references += _box(b"dimg", struct.pack(">4H", 4, 2, 5, 6))
        references += _box(b"auxl", struct.pack(">3H", 4, 1, 1))
    head = _head(items, properties, references, 0)
    head = _head(items, properties, references, len(head) + 8)
    data = head + _box(b"mdat", *(coded for _, coded, _ in items))
    return data, shown if alpha else picture


def _head(
    items: list[tuple[bytes, bytes, tuple[int, ...]]],
    properties: tuple[bytes, ...],
    references: bytes,
    start: int,
) -> bytes:
    places, entries, links = b"", b"", b""
    for number, (kind, coded, linked) in enumerate(items, 1):
        places += struct.pack(">3H2I", number, 0, 1, start, len(coded))
        start += len(coded)
        entries += _box(b"infe", b"\2\0\0\0", struct.pack(">2H", number, 0), kind, b"\0")
        links += struct.pack(">HB", number, len(linked)) + bytes(linked)
    count = struct.pack(">H", len(items))
    meta = (
        _box(b"hdlr", bytes(8), b"pict", bytes(13)),
        _box(b"pitm", bytes(4), struct.pack(">H", 1)),
        _box(b"iloc", bytes(4), b"\x44\0", count, places),
        _box(b"iinf", bytes(4), count, entries),
        _box(
            b"iprp",
            _box(b"ipco", *properties),
            _box(b"ipma", bytes(4), struct.pack(">I", len(items)), links),
        ),
        _box(b"iref", bytes(4), references),
    )
    return _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + _box(b"meta", bytes(4), *meta)


def _tile(image: Image.Image, **how: Any) -> tuple[bytes, bytes]:
    """Encode a tile; return the decoder configuration (av1C) and the coded data."""
    file = io.BytesIO()
    image.save(file, "AVIF", quality=90, range="full", **how)
    found = dict(_walk(file.getvalue(), 0, len(file.getvalue())))
    return _box(b"av1C", found[b"av1C"]), found[b"mdat"]


def _walk(data: bytes, at: int, end: int) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    while at < end:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in _CONTAINERS:
            found += _walk(data, at + (12 if kind == b"meta" else 8), at + size)
        else:
            found.append((kind, data[at + 8 : at + size]))
        at += size
    return found


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content
