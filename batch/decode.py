"""From a file to upright RGB pixels, or to the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from PIL import ExifTags, Image, ImageFile

from batch.decoding.diagnosis import FORMATS, diagnosis
from batch.decoding.file_bytes import read
from batch.decoding.file_limits import MAX_PIXELS
from batch.decoding.pillow import has_heif_reader, open_image
from batch.decoding.salvage import is_enough, leniency
from batch.location import Location
from batch.records import Failure, Photo, Reason, Stage
from batch.sources.signatures import is_heif

WORKING_SIDE = 640  # pixels: what a photo's longer side keeps at least, where it has them
MAX_SIDE = 1280  # pixels: what a photo's longer side is brought below
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


@dataclass(frozen=True)
class Upright:
    """A decoded picture as Pillow holds it: RGB, upright, of a file of ``width`` x ``height``.

    ``image`` is at most ``MAX_SIDE`` pixels wide and high; ``width`` and ``height`` are the
    file's own, in pixels, upright; ``salvaged`` says what is wrong with a truncated file.
    """

    image: Image.Image
    width: int
    height: int
    salvaged: str = ""


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> Photo | Failure:
    """Read and decode a photo; see ``read`` and ``decode_bytes``."""
    data = read(path)
    return data if isinstance(data, Failure) else decode_bytes(path, data, max_pixels)


def decode_bytes(
    path: Location, data: bytes, max_pixels: int = MAX_PIXELS, salvage: bool = False
) -> Photo | Failure:
    """Decode a file's bytes to upright RGB in an array, see ``decode_upright``."""
    upright = decode_upright(path, data, max_pixels, salvage)
    if isinstance(upright, Failure):
        return upright
    # Here, as what starts for every worker needs no arrays, and numpy is half of its start.
    import numpy as np

    pixels = np.asarray(upright.image)
    return Photo(path, pixels, upright.width, upright.height, upright.salvaged)


def decode_upright(
    path: Location, data: bytes, max_pixels: int = MAX_PIXELS, salvage: bool = False
) -> Upright | Failure:
    """Decode a file's bytes to upright RGB, see ``_decoded``.

    With ``salvage`` a truncated file gives what is there of its photo, marked as
    ``salvaged``, unless that is less than half.
    """
    result = _decoded(path, data, max_pixels)
    if not salvage or isinstance(result, Upright) or result.reason is not Reason.TRUNCATED:
        return result
    with leniency():
        rest = _decoded(path, data, max_pixels)
    if isinstance(rest, Upright) and is_enough(rest.image):
        return replace(rest, salvaged=result.detail)
    return result


def _decoded(path: Location, data: bytes, max_pixels: int) -> Upright | Failure:
    """Decode a file's bytes to upright RGB.

    The format is told by content: JPEG (MPO too), PNG, WebP, GIF, BMP, TIFF, AVIF and,
    with the extra ``heic``, HEIF; of several frames or pages the first counts. A picture
    whose longer side is over ``MAX_SIDE`` pixels is shrunk by a whole factor to between
    ``WORKING_SIDE`` and ``MAX_SIDE``, a JPEG as far as it goes while decoding. EXIF
    orientation is applied, transparency is laid on white, 16-bit grey keeps its high
    byte, 32-bit grey is stretched from its darkest to its brightest value, and colour
    profiles are not applied. ``max_pixels`` limits the pixels held while decoding: a JPEG's
    after DCT scaling, but all of a progressive one's.
    """
    if not data:
        return Failure(path, Stage.DECODE, Reason.EMPTY, "no bytes in the file")
    formats: tuple[str, ...] = FORMATS
    if is_heif(data):
        if not has_heif_reader():
            detail = "HEIC needs an extra: pip install 'batch-label[heic]'"
            return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, detail)
        formats = ("HEIF",)
    try:
        with open_image(data, formats) as image:
            return _upright(path, image, max_pixels)
    except MemoryError:
        detail = "not enough memory for its pixels"
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)
    except Exception as error:  # Pillow's readers raise nearly every built-in exception
        return Failure(path, Stage.DECODE, *diagnosis(data, formats, error))


def _upright(path: Location, image: ImageFile.ImageFile, max_pixels: int) -> Upright | Failure:
    width, height = image.size
    scaled = image.format in JPEG_FORMATS
    if scaled:
        scale = max(1, max(width, height) // WORKING_SIDE)
        image.draft(None, (max(1, width // scale), max(1, height // scale)))
    # A progressive JPEG's coefficients are all kept until the last scan has been read.
    held = (width, height) if image.info.get("progressive") else image.size
    if held[0] * held[1] > max_pixels:
        pixels = f"{held[0]} x {held[1]} = {held[0] * held[1]:,} pixels"
        detail = f"{pixels}, more than --max-pixels {max_pixels:,}"
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)
    image.load()
    if not scaled:  # a TIFF is turned, and a HEIF may change its size, while it is loaded
        width, height = image.size
    orientation = _orientation(image)
    picture = _rgb(image)
    if orientation in UPRIGHT:
        picture = picture.transpose(UPRIGHT[orientation])
    if orientation in SIDEWAYS:
        width, height = height, width
    return Upright(picture, width, height)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF says nothing of which side is up, but the photo is there
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _high_byte(image)
    elif image.mode in ("I", "F"):
        image = _stretched(image)
    if not image.has_transparency_data:
        return _shrunk(image if image.mode == "RGB" else image.convert("RGB"))
    # Shrunk before it is laid on white, as RGBA of the full size takes the most memory.
    image = _shrunk(image if image.mode == "RGBA" else image.convert("RGBA"))
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def _high_byte(image: Image.Image) -> Image.Image:
    import numpy as np

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _stretched(image: Image.Image) -> Image.Image:
    import numpy as np

    grey = np.asarray(image).astype(np.float64)
    # In place, since 8 bytes a pixel are more than what any other picture takes.
    np.nan_to_num(grey, copy=False, posinf=0, neginf=0)
    darkest, brightest = grey.min(), grey.max()
    grey -= darkest
    grey *= 255 / (brightest - darkest or 1)
    return Image.fromarray(np.rint(grey, out=grey).astype(np.uint8))


def _shrunk(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // MAX_SIDE)
    return image.reduce(factor) if factor > 1 else image
