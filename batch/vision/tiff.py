"""The tags of a TIFF (TIFF 6.0, BigTIFF), and which TIFFs Pillow decodes to the right pixels."""

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
# Types of values that are whole numbers, of which a rational (5) is a pair.
_INTEGER_FORMATS = {1: "B", 3: "H", 4: "I", 5: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
_MAX_VALUES = 1_000_000  # of a tag that are read; a photo has a few thousand strips at most
_MAX_DIRECTORIES = 32  # of a file that are read
_MAX_ENTRIES = 65_535  # of a directory; only a BigTIFF could say more

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
MOSAIC = (32803, 34892)  # what a sensor has seen: a colour filter array, and linear raw
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
# Which of them libtiff, as Pillow brings it along, unpacks.
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
_WHOLE_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
# How pixels may be stored: interleaved (i) or in planes (p), plain, compressed (c) or as JPEG (j).
_ANY = "i ic ij p pc pj"
_COMPRESSED_PLANES = "i ic pc pj"
# Photometric interpretation, sample format, bits of a sample, samples, extra samples: of these
# Pillow was found to give the right pixels, as stored so. Compared pixel by pixel with what was
# written, in both byte orders, strips and tiles; see tests/batch/vision/test_tiff.py.
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
    """Tags of one picture of a TIFF, those that are whole numbers and of interest here."""

    tags: Mapping[int, tuple[int, ...]]
    little_endian: bool

    def first(self, tag: int, default: int) -> int:
        """Give a tag's first value."""
        return (self.tags.get(tag) or (default,))[0]


def iter_directories(data: bytes) -> Iterator[Directory]:
    """Give the directories of a TIFF, and of camera raws that are built like one.

    Those that a directory points to as its own (sub-directories) come after it.

    Raises:
        struct.error: the file ends before a directory does.
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
        if end + struct.calcsize(size) <= len(data):  # some programs leave out the last "no next"
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
    """Give the tags of a TIFF's first picture, None if the file ends before them."""
    try:
        return next(iter_directories(data), None)
    except (struct.error, OverflowError):
        return None


def read_8_bit_palette(data: bytes) -> bytes:
    """Give the colors of a palette whose values were written as 8 bits instead of 16, else b"".

    Pillow takes the high byte of each, which is 0. Like libtiff, take a palette without a value
    of 256 or more for such a one.
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
    """Tell where the last strip or tile of a picture should end."""
    tags = directory.tags
    starts = tags.get(STRIP_OFFSETS) or tags.get(TILE_OFFSETS) or ()
    sizes = tags.get(STRIP_SIZES) or tags.get(TILE_SIZES) or ()
    return max((start + size for start, size in zip(starts, sizes, strict=False)), default=0)


def describe_unsupported(data: bytes, directory: Directory) -> str:
    """Say what it is of a TIFF that Pillow does not decode to the right pixels, "" if it does."""
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
    # What libtiff unpacks is in the machine's order, but is taken for the file's.
    if (form != UNSIGNED) and stored == "ic" and not directory.little_endian:
        return False
    if photometric == CMYK and one(INK_SET, 1) != 1:
        return False
    if one(FILL_ORDER, 1) != 1 and depth != 1:
        return False
    if photometric == YCBCR and stored not in ("ij", "ic"):
        # Chroma at half the size is taken for whole, and so is a range that is not.
        whole = directory.tags.get(SUBSAMPLING, (2, 2)) == (1, 1)
        return whole and directory.tags.get(BLACK_WHITE, _WHOLE_RANGE) == _WHOLE_RANGE
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
