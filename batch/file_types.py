"""The table of image formats: suffixes, first bytes, decoder, and what to say of each."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 64  # of a file, for `file_type_of`
CONVERT = "convert it, such as to JPEG"
# The decoder of a camera raw: the JPEG that the camera has put into it, see `decoding/raw.py`.
PREVIEW = "preview"


@dataclass(frozen=True)
class FileType:
    """An image format.

    Attributes:
        name: what people call it.
        suffixes: what its files' names end in, in lower case.
        signature: what its files begin with; None where that says too little.
        brands: of a format in an ISO base media file (ISO/IEC 14496-12): those that tell it.
        decoder: Pillow's name of its reader, ``PREVIEW``, or "" if there is none.
        extra: the extra of this package that brings the decoder, "" if none is needed.
        picture: which picture of a file that holds several is decoded, for the docs.
    """

    name: str
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes] | None = None
    brands: frozenset[bytes] = frozenset()
    decoder: str = ""
    extra: str = ""
    picture: str = "The only one."

    @property
    def why_unsupported(self) -> str:
        """What to tell somebody who has such a file, and no decoder for it."""
        if self.extra:
            return f"{self.name} needs an extra: pip install 'batch-label[{self.extra}]'"
        return f"a {self.name} file, which can't be read here: {CONVERT}"


def _signature(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


def _brands(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


def _why_left_out(kind: FileType) -> str | None:
    if kind.decoder == PREVIEW:
        return "camera raw"
    return None if kind.decoder else "unsupported format"


FIRST_FRAME = "The first frame, as it is shown first: laid on the animation's whole area."
# The first that matches counts, so camera raws stand before TIFF, and AVIF before HEIF.
FILE_TYPES = (
    FileType("JPEG-LS", (".jls",), _signature(rb"\xff\xd8\xff\xf7")),
    FileType(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        _signature(rb"\xff\xd8\xff"),
        decoder="JPEG",
        picture="The first, of several (MPO).",
    ),
    FileType(
        "PNG",
        (".png", ".apng"),
        _signature(rb"\x89PNG\r\n\x1a\n"),
        decoder="PNG",
        picture="The one that a program shows which knows no animations; mostly the first frame.",
    ),
    FileType("WebP", (".webp",), _signature(rb"RIFF.{4}WEBP"), decoder="WEBP", picture=FIRST_FRAME),
    FileType("GIF", (".gif",), _signature(rb"GIF8[79]a"), decoder="GIF", picture=FIRST_FRAME),
    # "BM" alone begins many a text, so the size of the header that follows must be a known one.
    FileType(
        "BMP",
        (".bmp", ".dib"),
        _signature(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        decoder="BMP",
    ),
    # Those of most makers begin like a TIFF and are told from one by its tags, see `decoding/tiff`.
    FileType(
        "camera raw",
        tuple(
            ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf"
            " .rw2 .rwl .sr2 .srw .x3f".split()
        ),
        _signature(
            rb"II\*\0.{4}(?:CR|IIII)|MM\0\*.{4}MMMM|II.{4}HEAPCCDR|IIR[OS]|MMOR|IIU\0"
            rb"|FUJIFILMCCD-RAW|\0MRM|FOVb"
        ),
        brands=_brands("crx"),
        decoder=PREVIEW,
        picture="The largest JPEG that the camera has put into it.",
    ),
    FileType(
        "TIFF",
        (".tif", ".tiff"),
        _signature(rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0"),
        decoder="TIFF",
        picture="The first page.",
    ),
    FileType(
        "AVIF",
        (".avif", ".avifs"),
        brands=_brands("avif avis"),
        decoder="AVIF",
        picture=FIRST_FRAME,
    ),
    FileType(
        "HEIC",
        (".heic", ".heics", ".heif", ".heifs", ".hif"),
        brands=_brands("heic heix heim heis hevc hevx hevm hevs mif1 msf1"),
        decoder="HEIF",
        extra="heic",
        picture="The one that the file names as its primary.",
    ),
    FileType(
        "JPEG XL",
        (".jxl",),
        _signature(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        decoder="JXL",
        extra="jxl",
        picture="The first frame.",
    ),
    FileType(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        _signature(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ),
    FileType("JPEG XR", (".jxr", ".hdp", ".wdp"), _signature(rb"II\xbc[\0\x01]")),
    FileType("Photoshop", (".psd", ".psb"), _signature(rb"8BPS\0[\x01\x02]")),
    FileType("OpenEXR", (".exr",), _signature(rb"v/1\x01")),
    FileType("Radiance HDR", (".hdr",), _signature(rb"#\?(?:RADIANCE|RGBE)\n")),
    FileType("GIMP", (".xcf",), _signature(rb"gimp xcf ")),
    FileType("QOI", (".qoi",), _signature(rb"qoif")),
    FileType("Netpbm", (".pbm", ".pgm", ".ppm", ".pnm"), _signature(rb"P[1-6]\s+[0-9#]")),
)
RAW = next(kind for kind in FILE_TYPES if kind.decoder == PREVIEW)
# Names that are those of photos in a folder. Mostly a JPEG lies beside a camera raw.
RAW_SUFFIXES = frozenset(RAW.suffixes)
SUFFIXES = frozenset(
    suffix for kind in FILE_TYPES if kind.decoder and kind is not RAW for suffix in kind.suffixes
)
# Why a file with another suffix is left out there.
LEFT_OUT = {
    suffix: why for kind in FILE_TYPES if (why := _why_left_out(kind)) for suffix in kind.suffixes
}
# What Pillow brings itself.
DECODERS = tuple(
    kind.decoder
    for kind in FILE_TYPES
    if kind.decoder and kind.decoder != PREVIEW and not kind.extra
)


def file_type_of(data: bytes) -> FileType | None:
    """Tell an image's format by a file's first ``HEAD_BYTES``, or by all of them."""
    brands = _brands_of(data)
    for kind in FILE_TYPES:
        if (kind.signature and kind.signature.match(data)) or brands & kind.brands:
            return kind
    return None


def why_left_out(head: bytes) -> str | None:
    """Say why a file in a folder is no photo by its first bytes, None if it is one."""
    kind = file_type_of(head)
    return _why_left_out(kind) if kind else "no image"


def is_image(head: bytes) -> bool:
    """Tell whether a file's first ``HEAD_BYTES`` are those of a known image format."""
    return file_type_of(head) is not None


def _brands_of(data: bytes) -> set[bytes]:
    """Brands that a container says it keeps to, none for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[at : at + 4].rstrip() for at in (8, *range(16, end, 4))}
