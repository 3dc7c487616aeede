"""TIFF tags (TIFF 6.0, BigTIFF), and which TIFFs Pillow decodes to the right pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Tags: TIFF 6.0, supplements 1 and 2, TIFF/EP, DNG 1.7.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_SIZES = 273, 274, 277, 279
COLOR_MAP = 320
PLANAR, PREDICTOR, TILE_OFFSETS, TILE_SIZES, SUB_DIRECTORIES = 284, 317, 324, 325, 330
INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, BLACK_WHITE = 332, 338, 339, 530, 532
DNG_VERSION = 50706
_READ_TAGS = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIP_OFFSETS, ORIENTATION}
    | {SAMPLES, STRIP_SIZES, PLANAR, PREDICTOR, TILE_OFFSETS, TILE_SIZES, SUB_DIRECTORIES}
    | {COLOR_MAP, INK_SET, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, BLACK_WHITE, DNG_VERSION}
)
# Types of whole numbers; a rational (5) is a pair of them.
_INTEGER_FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
_MAX_VALUES = 1_000_000  # values of a tag that are read; a photo has a few thousand strips at most
_MAX_DIRECTORIES = 32  # directories of a file that are read
_MAX_ENTRIES = 65_535  # entries of a directory; only a BigTIFF can claim more

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
MOSAIC = (32803, 34892)  # sensor data: a colour filter array, and linear raw
PHOTOMETRICS = {
    WHITE_IS_ZERO: "grey (white is zero)",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    LAB: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32844: "LogL",
    32845: "LogLuv",
}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_FORMATS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "floating-point"}
UNCOMPRESSED, JPEG = 1, 7
# Compressions that the libtiff in Pillow's wheels unpacks.
_READ_COMPRESSIONS = {
    UNCOMPRESSED: "no compression",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    JPEG: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    34925: "LZMA",
    50000: "Zstandard",
}
COMPRESSIONS = _READ_COMPRESSIONS | {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT RLE",
    32771: "CCITT RLE, word-aligned",
    32809: "ThunderScan",
    32908: "PixarFilm",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI Log",
    34677: "SGI Log",
    34712: "JPEG 2000",
    34715: "JBIG2",
    34887: "LERC",
    34892: "lossy JPEG",
    34926: "Zstandard",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_FULL_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
# How pixels may be stored: interleaved (i) or in planes (p), and compressed (c), as JPEG (j), or
# neither.
_ANY = "i ic ij p pc pj"
_COMPRESSED_PLANES = "i ic pc pj"
# Layouts that Pillow decodes to the right pixels: photometric interpretation, sample format, bits
# per sample, samples, extra samples, and how the pixels may be stored. Verified pixel by pixel, in
# both byte orders, strips and tiles, by tests/batch/vision/test_tiff.py.
_SUPPORTED_LAYOUTS: Mapping[tuple[int, int, int, int, tuple[int, ...]], str] = {
    **{
        (photometric, UNSIGNED, bits, 1, ()): "i ic" if bits < 8 else "i ic ij"
        for photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        for bits in (1, 2, 4, 8)
    },
    (WHITE_IS_ZERO, UNSIGNED, 16, 1, ()): "i ic",
    (BLACK_IS_ZERO, UNSIGNED, 16, 1, ()): "i ic",
    (BLACK_IS_ZERO, SIGNED, 16, 1, ()): "i ic",
    (BLACK_IS_ZERO, SIGNED, 32, 1, ()): "i ic",
    (WHITE_IS_ZERO, FLOAT, 32, 1, ()): "i ic",
    (BLACK_IS_ZERO, FLOAT, 32, 1, ()): "i ic",
    (WHITE_IS_ZERO, UNSIGNED, 8, 2, (0,)): "pc pj",
    (BLACK_IS_ZERO, UNSIGNED, 8, 2, (0,)): "i ic ij pc pj",
    (BLACK_IS_ZERO, UNSIGNED, 16, 2, (0,)): "pc",
    (BLACK_IS_ZERO, UNSIGNED, 8, 2, (2,)): "i ic ij",
    **{(PALETTE, UNSIGNED, bits, 1, ()): "i ic" for bits in (1, 2, 4, 8)},
    (RGB, UNSIGNED, 8, 3, ()): _ANY,
    (RGB, UNSIGNED, 8, 4, ()): "i ic p pc pj",
    (RGB, UNSIGNED, 8, 4, (2,)): "i ic p pc pj",
    (RGB, UNSIGNED, 8, 4, (0,)): _COMPRESSED_PLANES,
    (RGB, UNSIGNED, 8, 4, (1,)): _COMPRESSED_PLANES,
    (RGB, UNSIGNED, 8, 5, (0, 0)): _COMPRESSED_PLANES,
    (RGB, UNSIGNED, 8, 5, (2, 0)): "i ic",
    (RGB, UNSIGNED, 16, 3, ()): "i ic pc",
    **{(RGB, UNSIGNED, 16, 4, extra): "i ic pc" for extra in ((), (0,), (1,), (2,))},
    (RGB, UNSIGNED, 16, 5, (0, 0)): "pc",
    (CMYK, UNSIGNED, 8, 4, ()): _ANY,
    (CMYK, UNSIGNED, 8, 5, (0,)): _COMPRESSED_PLANES,
    (CMYK, UNSIGNED, 16, 4, ()): "i ic pc",
    (CMYK, UNSIGNED, 16, 5, (0,)): "pc",
    (YCBCR, UNSIGNED, 8, 3, ()): "i ic ij pc pj",
    (LAB, UNSIGNED, 8, 3, ()): "i ic",
}


class Directory(NamedTuple):
    """The tags of one picture of a TIFF, as far as this program reads them: whole numbers."""

    tags: Mapping[int, tuple[int, ...]]
    little_endian: bool

    def first(self, tag: int, default: int) -> int:
        """Return a tag's first value."""
        return (self.tags.get(tag) or (default,))[0]


def iter_directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF, or of a camera raw that is built like one.

    A directory's sub-directories follow it.

    Raises:
        struct.error: the file ends inside a directory.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    size, offset = ("Q", 8) if is_big else ("I", 4)
    count, entry = ("Q", 20) if is_big else ("H", 12)
    waiting = list(struct.unpack_from(order + size, data, offset))
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_DIRECTORIES:
        at = waiting.pop(0)
        if at == 0 or at in seen:
            continue
        seen.add(at)
        (entries,) = struct.unpack_from(order + count, data, at)
        if entries > _MAX_ENTRIES:
            raise struct.error("no directory has so many entries")
        at += struct.calcsize(count)
        end = at + entries * entry
        directory = Directory(_read_tags(data, order, size, range(at, end, entry)), order == "<")
        yield directory
        waiting += directory.tags.get(SUB_DIRECTORIES, ())
        if end + struct.calcsize(size) <= len(data):  # some programs omit the final "no next"
            waiting += struct.unpack_from(order + size, data, end)


def _read_tags(data: bytes, order: str, size: str, entries: range) -> dict[int, tuple[int, ...]]:
    places: dict[int, tuple[str, int, int]] = {}
    room = struct.calcsize(size)
    for at in entries:
        tag, kind, number = struct.unpack_from(f"{order}HH{size}", data, at)
        if tag in _READ_TAGS and kind in _INTEGER_FORMATS:
            number = min(number, _MAX_VALUES) * (2 if kind == _RATIONAL else 1)
            places[tag] = (_INTEGER_FORMATS[kind], number, at + 4 + room)
    tags = {}
    for tag, (letter, number, at) in places.items():
        if number * struct.calcsize(letter) > room:
            (at,) = struct.unpack_from(order + size, data, at)
        tags[tag] = struct.unpack_from(f"{order}{number}{letter}", data, at)
    return tags


def read_first_directory(data: bytes) -> Directory | None:
    """Read the tags of a TIFF's first picture; None if the file ends before them."""
    try:
        return next(iter_directories(data), None)
    except (struct.error, OverflowError):
        return None


def read_8_bit_palette(data: bytes) -> bytes:
    """Read the colours of a palette whose values have 8 bits instead of 16, else return b"".

    Pillow uses the high byte of each value, which is 0 in such a palette. As in libtiff, a palette
    has 8 bits if no value is over 255.
    """
    directory = read_first_directory(data)
    if directory is None or directory.first(PHOTOMETRIC, WHITE_IS_ZERO) != PALETTE:
        return b""
    values = directory.tags.get(COLOR_MAP, ())
    if max(values, default=256) > 255:
        return b""
    number = len(values) // 3
    return bytes(values[part * number + at] for at in range(number) for part in range(3))


def find_end(directory: Directory) -> int:
    """Find where the last strip or tile of a picture should end."""
    tags = directory.tags
    starts = tags.get(STRIP_OFFSETS) or tags.get(TILE_OFFSETS) or ()
    sizes = tags.get(STRIP_SIZES) or tags.get(TILE_SIZES) or ()
    return max((start + size for start, size in zip(starts, sizes, strict=False)), default=0)


def describe_unsupported(data: bytes, directory: Directory) -> str:
    """Describe a TIFF that Pillow does not decode to the right pixels; "" if it does."""
    compression = directory.first(COMPRESSION, UNCOMPRESSED)
    if compression not in _READ_COMPRESSIONS:
        return f"a TIFF with {COMPRESSIONS.get(compression, f'compression {compression}')}"
    if data.startswith(b"MM\0+"):
        return "a BigTIFF in big-endian byte order"
    if _is_supported(directory, compression):
        return ""
    return f"a TIFF of {_describe_layout(directory, compression)}"


def _is_supported(directory: Directory, compression: int) -> bool:
    one = directory.first
    photometric, samples = one(PHOTOMETRIC, WHITE_IS_ZERO), one(SAMPLES, 1)
    formats = set(directory.tags.get(SAMPLE_FORMAT, (UNSIGNED,)))
    bits = set(directory.tags.get(BITS, (1,)))
    planes = one(PLANAR, 1) == 2 and samples > 1
    if len(formats) > 1 or len(bits) > 1:
        return False
    (form,), (depth,) = formats, bits
    key = (photometric, form, depth, samples, directory.tags.get(EXTRA_SAMPLES, ()))
    stored = "ip"[planes] + {UNCOMPRESSED: "", JPEG: "j"}.get(compression, "c")
    if stored not in _SUPPORTED_LAYOUTS.get(key, "").split() or one(PREDICTOR, 1) not in (1, 2, 3):
        return False
    # libtiff unpacks to the machine's byte order, but Pillow assumes the file's.
    if form != UNSIGNED and stored == "ic" and not directory.little_endian:
        return False
    if photometric == CMYK and one(INK_SET, 1) != 1:
        return False
    if one(FILL_ORDER, 1) != 1 and depth != 1:
        return False
    if photometric == YCBCR and stored not in ("ij", "ic"):
        # Pillow ignores chroma subsampling and a reduced range.
        full_size = directory.tags.get(SUBSAMPLING, (2, 2)) == (1, 1)
        return full_size and directory.tags.get(BLACK_WHITE, _FULL_RANGE) == _FULL_RANGE
    return True


def _describe_layout(directory: Directory, compression: int) -> str:
    one = directory.first
    samples, planes = one(SAMPLES, 1), one(PLANAR, 1) == 2
    photometric = one(PHOTOMETRIC, WHITE_IS_ZERO)
    bits = sorted(set(directory.tags.get(BITS, (1,))))[:4]
    form = _FORMATS.get(one(SAMPLE_FORMAT, UNSIGNED), "unknown")
    parts = (
        PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}"),
        f"{samples} x {'/'.join(map(str, bits))} bit {form}",
        "in separate planes" if planes and samples > 1 else "",
        "" if directory.little_endian else "big-endian",
        COMPRESSIONS[compression],
    )
    return ", ".join(filter(None, parts))
