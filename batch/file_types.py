"""The table of image formats: suffixes, first bytes, decoder, and what to say of each."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 64  # of a file, for `file_type_of`
CONVERT_REMEDY = "convert it, such as to JPEG"
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
    def unsupported_detail(self) -> str:
        """What to tell somebody who has such a file, and no decoder for it."""
        if self.extra:
            return f"{self.name} needs an extra: pip install 'batch-label[{self.extra}]'"
        return f"a {self.name} file, which can't be read here: {CONVERT_REMEDY}"


def _compile_signature(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


def _parse_brands(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


def _find_skip_reason(kind: FileType) -> str | None:
    if kind.decoder == PREVIEW:
        return "camera raw"
    return None if kind.decoder else "unsupported format"


FIRST_FRAME = "The first frame, as it is shown first: laid on the animation's whole area."
# The first that matches counts, so camera raws stand before TIFF, and AVIF before HEIF.
FILE_TYPES = (
    FileType("JPEG-LS", (".jls",), _compile_signature(rb"\xff\xd8\xff\xf7")),
    FileType(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        _compile_signature(rb"\xff\xd8\xff"),
        decoder="JPEG",
        picture="The first, of several (MPO).",
    ),
    FileType(
        "PNG",
        (".png", ".apng"),
        _compile_signature(rb"\x89PNG\r\n\x1a\n"),
        decoder="PNG",
        picture="The one that a program shows which knows no animations; mostly the first frame.",
    ),
    FileType(
        "WebP",
        (".webp",),
        _compile_signature(rb"RIFF.{4}WEBP"),
        decoder="WEBP",
        picture=FIRST_FRAME,
    ),
    FileType(
        "GIF", (".gif",), _compile_signature(rb"GIF8[79]a"), decoder="GIF", picture=FIRST_FRAME
    ),
    # "BM" alone begins many a text, so the size of the header that follows must be a known one.
    FileType(
        "BMP",
        (".bmp", ".dib"),
        _compile_signature(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        decoder="BMP",
    ),
    # Those of most makers begin like a TIFF and are told from one by its tags, see `decoding/tiff`.
    FileType(
        "camera raw",
        tuple(
            ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf"
            " .rw2 .rwl .sr2 .srw .x3f".split()
        ),
        _compile_signature(
            rb"II\*\0.{4}(?:CR|IIII)|MM\0\*.{4}MMMM|II.{4}HEAPCCDR|IIR[OS]|MMOR|IIU\0"
            rb"|FUJIFILMCCD-RAW|\0MRM|FOVb"
        ),
        brands=_parse_brands("crx"),
        decoder=PREVIEW,
        picture="The largest JPEG that the camera has put into it.",
    ),
    FileType(
        "TIFF",
        (".tif", ".tiff"),
        _compile_signature(rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0"),
        decoder="TIFF",
        picture="The first page.",
    ),
    FileType(
        "AVIF",
        (".avif", ".avifs"),
        brands=_parse_brands("avif avis"),
        decoder="AVIF",
        picture=FIRST_FRAME,
    ),
    FileType(
        "HEIC",
        (".heic", ".heics", ".heif", ".heifs", ".hif"),
        brands=_parse_brands("heic heix heim heis hevc hevx hevm hevs mif1 msf1"),
        decoder="HEIF",
        extra="heic",
        picture="The one that the file names as its primary.",
    ),
    FileType(
        "JPEG XL",
        (".jxl",),
        _compile_signature(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        decoder="JXL",
        extra="jxl",
        picture="The first frame.",
    ),
    FileType(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        _compile_signature(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ),
    FileType("JPEG XR", (".jxr", ".hdp", ".wdp"), _compile_signature(rb"II\xbc[\0\x01]")),
    FileType("Photoshop", (".psd", ".psb"), _compile_signature(rb"8BPS\0[\x01\x02]")),
    FileType("OpenEXR", (".exr",), _compile_signature(rb"v/1\x01")),
    FileType("Radiance HDR", (".hdr",), _compile_signature(rb"#\?(?:RADIANCE|RGBE)\n")),
    FileType("GIMP", (".xcf",), _compile_signature(rb"gimp xcf ")),
    FileType("QOI", (".qoi",), _compile_signature(rb"qoif")),
    FileType("Netpbm", (".pbm", ".pgm", ".ppm", ".pnm"), _compile_signature(rb"P[1-6]\s+[0-9#]")),
)
RAW_TYPE = next(kind for kind in FILE_TYPES if kind.decoder == PREVIEW)
# Names that are those of photos in a folder. Mostly a JPEG lies beside a camera raw.
RAW_SUFFIXES = frozenset(RAW_TYPE.suffixes)
SUFFIXES = frozenset(
    suffix
    for kind in FILE_TYPES
    if kind.decoder and kind is not RAW_TYPE
    for suffix in kind.suffixes
)
# Why a file with another suffix is left out there.
SKIP_REASONS = {
    suffix: why
    for kind in FILE_TYPES
    if (why := _find_skip_reason(kind))
    for suffix in kind.suffixes
}
# What Pillow brings itself.
DECODERS = tuple(
    kind.decoder
    for kind in FILE_TYPES
    if kind.decoder and kind.decoder != PREVIEW and not kind.extra
)


def detect_file_type(data: bytes) -> FileType | None:
    """Tell an image's format by a file's first ``HEAD_BYTES``, or by all of them."""
    brands = _read_brands(data)
    for kind in FILE_TYPES:
        if (kind.signature and kind.signature.match(data)) or brands & kind.brands:
            return kind
    return None


def sniff_skip_reason(head: bytes) -> str | None:
    """Say why a file in a folder is no photo by its first bytes, None if it is one."""
    kind = detect_file_type(head)
    return _find_skip_reason(kind) if kind else "no image"


def is_image(head: bytes) -> bool:
    """Tell whether a file's first ``HEAD_BYTES`` are those of a known image format."""
    return detect_file_type(head) is not None


def _read_brands(data: bytes) -> set[bytes]:
    """Brands that a container says it keeps to, none for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[at : at + 4].rstrip() for at in (8, *range(16, end, 4))}
