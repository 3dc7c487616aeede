"""The table of image formats, one row per format.

A new format needs a row. If Pillow alone can't decode it correctly, it also needs an entry under
its ``FileType.decoder`` in up to three tables: how to register its reader (``vision.pillow``), what
to check before it is opened (``vision.decode``), and how to detect a missing end
(``vision.diagnosis``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES = 64  # bytes of a file that ``detect_file_type`` needs
# XMP sidecars of photo managers, with the keywords and edits of the photo of that name.
SIDECAR_SUFFIX = ".xmp"
SIDECAR = "sidecar"  # reason to skip one
CONVERT_REMEDY = "convert it, for example to JPEG"
# The decoder of a camera raw: a JPEG inside it, see ``vision.raw``.
PREVIEW = "preview"


@dataclass(frozen=True)
class FileType:
    """An image format.

    Attributes:
        name: its name in messages and documents.
        suffixes: of file names, in lower case.
        signature: the first bytes of a file; None if they do not identify it.
        brands: brands of an ISO base media file (ISO/IEC 14496-12) that identify it.
        decoder: Pillow's name of the reader, ``PREVIEW``, or "" if there is none.
        extra: the extra of this package that installs the decoder, "" if none is needed.
        picture: which picture of a file with several is decoded, for the docs.
        end_mark: matches in every complete file; None if the format has no such mark.
        bytes_per_pixel: peak memory per pixel while decoding, in bytes: the largest value measured
            over all modes and compressions on images of noise, rounded up.
    """

    name: str
    suffixes: tuple[str, ...]
    signature: re.Pattern[bytes] | None = None
    brands: frozenset[bytes] = frozenset()
    decoder: str = ""
    extra: str = ""
    picture: str = "The only one."
    end_mark: re.Pattern[bytes] | None = None
    bytes_per_pixel: int = 0

    @property
    def unsupported_detail(self) -> str:
        """Why such a file can't be decoded, and the remedy."""
        if self.extra:
            return f"{self.name} needs an extra: pip install 'batch-label[{self.extra}]'"
        return f"a {self.name} file, which can't be read here: {CONVERT_REMEDY}"


def _compile_pattern(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


def _parse_brands(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


def _find_skip_reason(kind: FileType) -> str | None:
    if kind.decoder == PREVIEW:
        return "camera raw"
    return None if kind.decoder else "unsupported format"


FIRST_FRAME = "The first frame, on the animation's full canvas."
# The first match counts: camera raws are before TIFF, and AVIF is before HEIC.
FILE_TYPES = (
    FileType("JPEG-LS", (".jls",), _compile_pattern(rb"\xff\xd8\xff\xf7")),
    FileType(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        _compile_pattern(rb"\xff\xd8\xff"),
        decoder="JPEG",
        bytes_per_pixel=9,
        picture="The first, of several (MPO).",
        end_mark=_compile_pattern(rb"\xff\xd9"),
    ),
    FileType(
        "PNG",
        (".png", ".apng"),
        _compile_pattern(rb"\x89PNG\r\n\x1a\n"),
        decoder="PNG",
        bytes_per_pixel=9,
        picture="The one shown by programs without animation support; mostly the first frame.",
        end_mark=_compile_pattern(rb"IEND"),
    ),
    FileType(
        "WebP",
        (".webp",),
        _compile_pattern(rb"RIFF.{4}WEBP"),
        decoder="WEBP",
        bytes_per_pixel=20,
        picture=FIRST_FRAME,
    ),
    FileType(
        "GIF",
        (".gif",),
        _compile_pattern(rb"GIF8[79]a"),
        decoder="GIF",
        bytes_per_pixel=6,
        picture=FIRST_FRAME,
        end_mark=_compile_pattern(rb";\Z"),
    ),
    # Many text files begin with "BM", so the size of the header must be a known one too.
    FileType(
        "BMP",
        (".bmp", ".dib"),
        _compile_pattern(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        decoder="BMP",
        bytes_per_pixel=5,
    ),
    # Most camera raws begin like a TIFF: see ``vision.raw.is_raw``.
    FileType(
        "camera raw",
        tuple(
            ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf"
            " .rw2 .rwl .sr2 .srw .x3f".split()
        ),
        _compile_pattern(
            rb"II\*\0.{4}(?:CR|IIII)|MM\0\*.{4}MMMM|II.{4}HEAPCCDR|IIR[OS]|MMOR|IIU\0"
            rb"|FUJIFILMCCD-RAW|\0MRM|FOVb"
        ),
        brands=_parse_brands("crx"),
        decoder=PREVIEW,
        bytes_per_pixel=9,
        picture="The largest JPEG inside it.",
    ),
    FileType(
        "TIFF",
        (".tif", ".tiff"),
        _compile_pattern(rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0"),
        decoder="TIFF",
        bytes_per_pixel=18,
        picture="The first page.",
    ),
    FileType(
        "AVIF",
        (".avif", ".avifs"),
        brands=_parse_brands("avif avis"),
        decoder="AVIF",
        bytes_per_pixel=11,
        picture=FIRST_FRAME,
    ),
    FileType(
        "HEIC",
        (".heic", ".heics", ".heif", ".heifs", ".hif"),
        brands=_parse_brands("heic heix heim heis hevc hevx hevm hevs mif1 msf1"),
        decoder="HEIF",
        bytes_per_pixel=10,
        extra="heic",
        picture="The primary picture.",
    ),
    FileType(
        "JPEG XL",
        (".jxl",),
        _compile_pattern(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        decoder="JXL",
        bytes_per_pixel=13,
        extra="jxl",
        picture="The first frame.",
    ),
    FileType(
        "JPEG 2000",
        (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
        _compile_pattern(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ),
    FileType("JPEG XR", (".jxr", ".hdp", ".wdp"), _compile_pattern(rb"II\xbc[\0\x01]")),
    FileType("Photoshop", (".psd", ".psb"), _compile_pattern(rb"8BPS\0[\x01\x02]")),
    FileType("OpenEXR", (".exr",), _compile_pattern(rb"v/1\x01")),
    FileType("Radiance HDR", (".hdr",), _compile_pattern(rb"#\?(?:RADIANCE|RGBE)\n")),
    FileType("GIMP", (".xcf",), _compile_pattern(rb"gimp xcf ")),
    FileType("QOI", (".qoi",), _compile_pattern(rb"qoif")),
    FileType("Netpbm", (".pbm", ".pgm", ".ppm", ".pnm"), _compile_pattern(rb"P[1-6]\s+[0-9#]")),
)
RAW_TYPE = next(kind for kind in FILE_TYPES if kind.decoder == PREVIEW)
# Camera raws in folders are skipped by default, as most have a JPEG beside them.
RAW_SUFFIXES = frozenset(RAW_TYPE.suffixes)
SUFFIXES = frozenset(
    suffix
    for kind in FILE_TYPES
    if kind.decoder and kind is not RAW_TYPE
    for suffix in kind.suffixes
)
# Why other files in folders are skipped, by suffix.
SKIP_REASONS = {SIDECAR_SUFFIX: SIDECAR} | {
    suffix: why
    for kind in FILE_TYPES
    if (why := _find_skip_reason(kind))
    for suffix in kind.suffixes
}
# Largest ``bytes_per_pixel`` of any format; the memory limit of a worker depends on it.
MAX_BYTES_PER_PIXEL = max(kind.bytes_per_pixel for kind in FILE_TYPES)
# Decoders that Pillow includes.
DECODERS = tuple(
    kind.decoder
    for kind in FILE_TYPES
    if kind.decoder and kind.decoder != PREVIEW and not kind.extra
)


def detect_file_type(data: bytes) -> FileType | None:
    """Detect an image's format from a file's first ``HEAD_BYTES`` or more."""
    brands = _read_brands(data)
    for kind in FILE_TYPES:
        if (kind.signature and kind.signature.match(data)) or brands & kind.brands:
            return kind
    return None


def sniff_skip_reason(head: bytes) -> str | None:
    """Return the reason to skip a file in a folder, from its first bytes; None for a photo."""
    kind = detect_file_type(head)
    return _find_skip_reason(kind) if kind else "no image"


def is_image(head: bytes) -> bool:
    """Return whether a file's first ``HEAD_BYTES`` are those of a known image format."""
    return detect_file_type(head) is not None


def _read_brands(data: bytes) -> set[bytes]:
    """Read the brands of an ISO base media file; empty for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[at : at + 4].rstrip() for at in (8, *range(16, end, 4))}
