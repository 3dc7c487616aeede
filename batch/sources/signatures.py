"""What image files are called, and how they begin."""

from __future__ import annotations

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}
    | {".png", ".apng"}
    | {".webp"}
    | {".gif"}
    | {".bmp", ".dib"}
    | {".tif", ".tiff"}
    | {".avif", ".avifs"}
    | {".heic", ".heics", ".heif", ".heifs", ".hif"}
)

# They begin like a TIFF, but hold a small preview at best; mostly a JPEG lies beside them.
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .rw2"
    " .sr2 .srw".split()
)

HEAD_BYTES = 64
SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, then BigTIFF, in either byte order
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
# HEIF (ISO/IEC 23008-12, annex B) and AVIF (AV1 Image File Format, section 6) share a container.
HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
AVIF_BRANDS = frozenset(b"avif avis".split())
# "BM" alone begins many a text, so the size of the header that follows must be a known one.
BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def is_image(head: bytes) -> bool:
    """Tell whether a file's first ``HEAD_BYTES`` are those of a known image format."""
    if head.startswith(SIGNATURES):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return bool(_brands(head) & (HEIF_BRANDS | AVIF_BRANDS)) or _is_bmp(head)


def is_heif(data: bytes) -> bool:
    """Tell HEIF apart from AVIF by a file's first bytes, or by all of them."""
    brands = _brands(data)
    return bool(brands & HEIF_BRANDS) and not brands & AVIF_BRANDS


def _brands(data: bytes) -> set[bytes]:
    """Brands that a container says it keeps to, none for any other file."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data))
    return {data[at : at + 4] for at in (8, *range(16, end, 4))}


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADER_BYTES
