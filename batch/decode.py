"""From a file to upright RGB pixels, or to the reason why there are none."""

from __future__ import annotations

import functools
import io
import os
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from types import ModuleType

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from batch.diagnosis import FORMATS, diagnosis, os_reason
from batch.records import Failure, FileState, Photo, Reason, Stage
from batch.salvage import is_enough, is_salvageable, leniency
from batch.signatures import is_heif

WORKING_SIDE = 640  # pixels: what a photo's longer side keeps at least, where it has them
MAX_SIDE = 1280  # pixels: what a photo's longer side is brought below
MAX_PIXELS = 100_000_000  # pixels that one photo may take in memory, at up to 8 bytes each
MAX_FILE_BYTES = 512 * 1024 * 1024
JPEG_FORMATS = ("JPEG", "MPO")

# EXIF 2.32, tag 274: how the stored rows and columns become the upright picture.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)


class _Silence:
    @staticmethod
    def warn(*args: object, **kwargs: object) -> None: ...


def _silence(modules: tuple[ModuleType, ...]) -> None:
    """Keep Pillow from warning of a file's flaws: they become a Failure or do not matter.

    The filters of ``warnings`` belong to the whole process, so that to change them for a
    call is not safe beside other threads, and to change them for good lasts only until
    the next ``catch_warnings`` ends. So the name is taken out of the readers themselves.
    """
    for module in modules:
        if "warnings" in vars(module):
            vars(module)["warnings"] = _Silence


_silence(
    (
        Image,
        ImageFile,
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )
)
# Pillow's limit counts a JPEG's pixels before DCT scaling; max_pixels below takes its place.
Image.MAX_IMAGE_PIXELS = None
# The cores have photos of their own; Pillow's AVIF reader would take them all for one.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> Photo | Failure:
    """Read and decode a photo; see ``read`` and ``decode_bytes``."""
    data = read(path)
    return data if isinstance(data, Failure) else decode_bytes(path, data, max_pixels)


def read(path: Path) -> bytes | Failure:
    """Read a file of at most ``MAX_FILE_BYTES``, without ever waiting for a pipe."""
    read = read_with_state(path)
    return read if isinstance(read, Failure) else read[0]


def read_with_state(path: Path) -> tuple[bytes, FileState] | Failure:
    """Read a file as ``read`` does, and say what it was just before.

    If it is changed meanwhile, the next look at it finds another size or time.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not S_ISREG(status.st_mode):
                return Failure(path, Stage.READ, Reason.NOT_A_FILE, "not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                detail = f"{status.st_size:,} bytes, more than the limit of {MAX_FILE_BYTES:,}"
                return Failure(path, Stage.READ, Reason.TOO_LARGE, detail)
            # A file that grows meanwhile is not read on and on: one byte more shows it.
            data = file.read(status.st_size + 1)
            return data, FileState(status.st_size, status.st_mtime_ns)
    except MemoryError:
        return Failure(path, Stage.READ, Reason.TOO_LARGE, "not enough memory for the file")
    except OSError as error:
        return Failure(path, Stage.READ, os_reason(error), error.strerror or type(error).__name__)


def decode_bytes(
    path: Path, data: bytes, max_pixels: int = MAX_PIXELS, salvage: bool = False
) -> Photo | Failure:
    """Decode a file's bytes to upright RGB, see ``_decoded``.

    With ``salvage`` a truncated file gives what is there of its photo, marked as
    ``salvaged``, unless that is less than half.
    """
    result = _decoded(path, data, max_pixels)
    if not salvage or not is_salvageable(result):
        return result
    with leniency():
        rest = _decoded(path, data, max_pixels)
    if isinstance(result, Failure) and isinstance(rest, Photo) and is_enough(rest.pixels):
        return replace(rest, salvaged=result.detail)
    return result


def _decoded(path: Path, data: bytes, max_pixels: int) -> Photo | Failure:
    """Decode a file's bytes to upright RGB.

    The format is told by content: JPEG (MPO too), PNG, WebP, GIF, BMP, TIFF, AVIF and,
    with the extra ``heic``, HEIF; of several frames or pages the first counts. A picture
    whose longer side is over ``MAX_SIDE`` pixels is shrunk by a whole factor to between
    ``WORKING_SIDE`` and ``MAX_SIDE``, a JPEG as far as it goes while decoding. EXIF
    orientation is applied, transparency is laid on white, 16-bit grey keeps its high
    byte, 32-bit grey is stretched from its darkest to its brightest value, and colour
    profiles are not applied. ``pixels`` are read-only. ``max_pixels`` limits the pixels
    held while decoding: a JPEG's after DCT scaling, but all of a progressive one's.
    """
    if not data:
        return Failure(path, Stage.DECODE, Reason.EMPTY, "no bytes in the file")
    formats: tuple[str, ...] = FORMATS
    if is_heif(data):
        if not _has_heif_reader():
            detail = "HEIC needs an extra: pip install 'batch-label[heic]'"
            return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, detail)
        formats = ("HEIF",)
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            return _photo(path, image, max_pixels)
    except MemoryError:
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, "not enough memory for its pixels")
    except Exception as error:  # Pillow's readers raise nearly every built-in exception
        return Failure(path, Stage.DECODE, *diagnosis(data, formats, error))


def _photo(path: Path, image: ImageFile.ImageFile, max_pixels: int) -> Photo | Failure:
    width, height = image.size
    scaled = image.format in JPEG_FORMATS
    if scaled:
        scale = max(1, max(width, height) // WORKING_SIDE)
        image.draft(None, (max(1, width // scale), max(1, height // scale)))
    # A progressive JPEG's coefficients are all kept until the last scan has been read.
    held = (width, height) if image.info.get("progressive") else image.size
    if held[0] * held[1] > max_pixels:
        detail = f"{held[0]} x {held[1]} = {held[0] * held[1]:,} pixels, limit {max_pixels:,}"
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)
    image.load()
    if not scaled:  # a TIFF is turned, and a HEIF may change its size, while it is loaded
        width, height = image.size
    orientation = _orientation(image)
    upright = _rgb(image)
    if orientation in UPRIGHT:
        upright = upright.transpose(UPRIGHT[orientation])
    if orientation in SIDEWAYS:
        width, height = height, width
    return Photo(path, np.asarray(upright), width, height)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF says nothing of which side is up, but the photo is there
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = _stretched(image)
    if not image.has_transparency_data:
        return _shrunk(image if image.mode == "RGB" else image.convert("RGB"))
    # Shrunk before it is laid on white, as RGBA of the full size takes the most memory.
    image = _shrunk(image if image.mode == "RGBA" else image.convert("RGBA"))
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def _stretched(image: Image.Image) -> Image.Image:
    grey = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    darkest, brightest = grey.min(), grey.max()
    grey = (grey - darkest) * (255 / (brightest - darkest or 1))
    return Image.fromarray(np.rint(grey).astype(np.uint8))


def _shrunk(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // MAX_SIDE)
    return image.reduce(factor) if factor > 1 else image


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@functools.cache
def _has_heif_reader() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
