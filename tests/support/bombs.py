"""Decompression bombs: small files with huge pictures, or chunks that unpack to 200 MB."""

from __future__ import annotations

import functools
import struct
import zlib

UNPACKED_BYTES = 200 * 1024**2  # of the text or profile in a bomb


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Make a PNG of a size, without pixels and with extra chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@functools.cache
def bombs() -> dict[str, bytes]:
    """Make the bombs, by file name."""
    packed = zlib.compress(bytes(UNPACKED_BYTES), 1)
    text = (b"zTXt", b"Comment\0\0" + packed)
    return {
        "20,000 x 20,000.png": png(20_000, 20_000),
        "2 Gi x 2 Gi.png": png(2**31 - 1, 2**31 - 1),
        "text.png": png(8, 8, text),
        "many texts.png": png(8, 8, *[text] * 20),
        "profile.png": png(8, 8, (b"iCCP", b"p\0\0" + packed)),
        "65,535 x 65,535.gif": b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0)
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x02\x02L\x01\0;",
        "huge.webp": _webp(16383, 16383),
        "huge.bmp": b"BM"
        + struct.pack("<IHHI", 2**31, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.tif": tiff(2**32 - 1, 2**32 - 1),
        "one strip.tif": tiff(64, 64, strip=2**32 - 1),
    }


def _webp(width: int, height: int) -> bytes:
    # RFC 9649, section 3.4: the signature 0x2f, then width - 1 and height - 1 in 14 bits each.
    bits = (width - 1) | (height - 1) << 14
    body = b"\x2f" + struct.pack("<I", bits) + bytes(64)
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiff(width: int, height: int, strip: int = 2**20) -> bytes:
    """Make a TIFF of a size, whose only strip claims to have ``strip`` bytes."""
    tags: tuple[tuple[int, int], ...] = (
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
    )
    tags += ((278, height), (279, strip))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
