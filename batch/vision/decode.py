"""From a file to upright RGB pixels, or to the reason why there are none."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PIL import ExifTags, Image, ImageFile, ImageOps

from batch.file_types import CONVERT_REMEDY, DECODERS, RAW_TYPE, detect_file_type
from batch.location import Location
from batch.options import MAX_DETAIL_PIXELS, MAX_PIXELS, MAX_SIDE
from batch.records import Failure, Photo, Reason, Stage
from batch.vision import isobmff as jxl
from batch.vision import jpeg, tiff
from batch.vision.diagnosis import diagnose
from batch.vision.pillow import allow_truncated, has_enough_rows, has_reader, open_image
from batch.vision.read_file import read_file
from batch.vision.tiff import USABLE_PREVIEW, find_preview, is_shown_by_tiff

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

WORKING_SIDE = 640  # pixels: what a photo's longer side keeps at least, where it has them
JPEG_FORMATS = ("JPEG", "MPO")
_HEAD_BYTES = 4096  # of a file, which tell its format
# A photo whose longer side is larger has a detail, in which faces are looked for that are too small
# in the working pixels: at 1,920 pixels those of some 40 pixels begin to be missed there.
LARGE_SIDE = 1920
DETAIL_FACTOR = 2  # pixels of the file for each of the detail, along each side
# Shorter side of a detail, in pixels: no face fits into less.
MIN_DETAIL_SIDE = 16

# Grey of 32 bits: pixels sampled for the range that is stretched, distinct values needed to tell
# outliers, and how many times the range of the middle 98 % the whole range must be to have some.
MAX_SAMPLED_PIXELS = 1_000_000
MIN_DISTINCT_VALUES = 16
OUTLIER_FACTOR = 4

# EXIF 2.32, tag 274: how the stored rows and columns become the upright picture.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture as Pillow holds it: RGB, upright, of a file of ``width`` x ``height``.

    ``image`` is at most ``MAX_SIDE`` pixels wide and high; ``width`` and ``height`` are the
    file's own, in pixels, upright; ``salvaged`` says what is wrong with a truncated file.
    ``load_detail`` gives the same picture with more pixels, see ``compute_detail_size``: from what was
    decoded if that is larger, else by decoding the file again. None if the file is not large.
    """

    image: Image.Image
    width: int
    height: int
    salvaged: str = ""
    load_detail: Callable[[], DecodedImage | Failure] | None = field(
        default=None, repr=False, compare=False
    )


# What ``choose_detail_loader`` takes and gives.
Decoded = TypeVar("Decoded", DecodedImage, Photo)


def compute_detail_size(
    width: int, height: int, max_pixels: int = MAX_PIXELS
) -> tuple[int, int] | None:
    """Give width and height of the detail of a photo of ``width`` x ``height``.

    None for a photo that is not large. A JPEG is decoded to less than four times these pixels,
    which ``max_pixels`` allows.
    """
    if max(width, height) <= LARGE_SIDE:
        return None
    most = min(MAX_DETAIL_PIXELS, max_pixels // 4)
    scale = min(1 / DETAIL_FACTOR, math.sqrt(most / (width * height)))
    size = int(width * scale), int(height * scale)
    return size if min(size) >= MIN_DETAIL_SIDE and max(size) > WORKING_SIDE else None


def choose_detail_loader(
    held: Decoded,
    side: int,
    max_pixels: int,
    load: Callable[[], Decoded | Failure],
) -> Callable[[], Decoded | Failure] | None:
    """Choose what gives the detail of a decoded picture whose longer side has ``side`` pixels.

    None if the file is not large, the picture itself if it has the pixels already, else ``load``.
    """
    size = compute_detail_size(held.width, held.height, max_pixels)
    if size is None:
        return None
    return (lambda: held) if side >= max(size) else load


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> Photo | Failure:
    """Read and decode a photo; see ``read_file`` and ``decode_bytes``."""
    data = read_file(path)
    return data if isinstance(data, Failure) else decode_bytes(path, data, max_pixels)


def decode_bytes(
    path: Location, data: bytes, max_pixels: int = MAX_PIXELS, salvage: bool = False
) -> Photo | Failure:
    """Decode a file's bytes to an upright RGB photo, see ``decode_image``."""
    upright = decode_image(path, data, max_pixels, salvage)
    if isinstance(upright, Failure):
        return upright
    return to_photo(path, upright)


def to_photo(path: Location, upright: DecodedImage) -> Photo:
    """Make a photo of a decoded picture."""
    decode_detail = upright.load_detail

    def load_detail() -> Photo | Failure:
        assert decode_detail is not None
        detail = decode_detail()
        return detail if isinstance(detail, Failure) else to_photo(path, detail)

    return Photo(
        path,
        image=upright.image,
        width=upright.width,
        height=upright.height,
        salvaged=upright.salvaged,
        load_detail=load_detail if decode_detail else None,
    )


def decode_image(
    path: Location,
    data: bytes,
    max_pixels: int = MAX_PIXELS,
    salvage: bool = False,
    in_detail: bool = False,
) -> DecodedImage | Failure:
    """Decode a file's bytes to upright RGB.

    The format is told by content, see ``batch.file_types``; of several frames or pages
    the first counts, and of a camera raw the preview. A picture whose longer side is over
    ``MAX_SIDE`` pixels is shrunk by a whole factor to between ``WORKING_SIDE`` and ``MAX_SIDE``, a
    JPEG as far as it goes while decoding. EXIF orientation is applied, transparency is laid on
    white, 16-bit grey keeps its high byte, 32-bit grey is stretched from its darkest to its
    brightest value that is not an outlier, and colour profiles are not applied.

    Args:
        path: where the file lies, for a ``Failure``.
        data: all of its bytes.
        max_pixels: limits the pixels held while decoding: a JPEG's after DCT scaling, but all of a
            progressive one's.
        salvage: return the readable part of a truncated photo, marked as ``salvaged``, if that is
            at least half.
        in_detail: shrink to ``compute_detail_size`` instead.
    """
    content = _identify(path, data, max_pixels)
    if isinstance(content, Failure):
        return content
    result = _decode_content(path, content, max_pixels, in_detail)
    # What fills up a file that was never fully written may become pixels without any error.
    if content.is_jpeg and (isinstance(result, Failure) or not jpeg.has_end(content.data)):
        content, result = _repair_jpeg(path, content, result, max_pixels, in_detail)
    if salvage and isinstance(result, Failure) and result.reason is Reason.TRUNCATED:
        result = _salvage(path, content, result, max_pixels, in_detail)
    if isinstance(result, Failure) or in_detail:
        return result
    again = functools.partial(decode_image, path, data, max_pixels, salvage, in_detail=True)
    load = result.load_detail or again
    side = max(result.image.size)
    return replace(result, load_detail=choose_detail_loader(result, side, max_pixels, load))


def _salvage(
    path: Location, content: _EncodedImage, failure: Failure, max_pixels: int, in_detail: bool
) -> DecodedImage | Failure:
    with allow_truncated():
        rest = _decode_content(path, content, max_pixels, in_detail)
    if isinstance(rest, DecodedImage) and has_enough_rows(rest.image):
        return replace(rest, salvaged=failure.detail, load_detail=None)
    there = "less than half" if isinstance(rest, DecodedImage) else "nothing"
    return replace(failure, detail=f"{failure.detail}; not salvaged: {there} of it can be decoded")


@dataclass(frozen=True)
class _EncodedImage:
    """What is to be decoded of a file.

    Attributes:
        data: the bytes of a picture.
        formats: those of Pillow's readers that may have it.
        orientation: EXIF orientation of a picture that says none itself.
        is_turned: the decoder has applied the orientation, whatever EXIF says.
    """

    data: bytes
    formats: tuple[str, ...]
    orientation: int = 1
    is_turned: bool = False

    @property
    def is_jpeg(self) -> bool:
        return self.data.startswith(b"\xff\xd8")


def _identify(path: Location, data: bytes, max_pixels: int) -> _EncodedImage | Failure:
    """Find out which format a file has, and whether it is decoded rightly here."""
    if not data:
        return Failure(path, Stage.DECODE, Reason.EMPTY, "no bytes in the file")
    kind = detect_file_type(data[:_HEAD_BYTES])
    if kind is None:  # Pillow says what is amiss
        return _EncodedImage(data, DECODERS)
    if kind is RAW_TYPE or (kind.decoder == "TIFF" and tiff.is_raw(data)):
        preview = find_preview(data)
        if preview is not None:
            return _EncodedImage(data[preview.start :], ("JPEG",), preview.orientation or 1)
        if kind is RAW_TYPE or not is_shown_by_tiff(data):
            detail = f"a camera raw without {USABLE_PREVIEW}: {CONVERT_REMEDY}"
            return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, detail)
    if not kind.decoder or (kind.extra and not has_reader(kind.decoder)):
        return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, kind.unsupported_detail)
    if kind.decoder == "JXL" and (header := jxl.read_header(data)):
        # The decoder does all of its work as it opens a file.
        if header.width * header.height > max_pixels:
            return _make_too_large(path, header.width, header.height, max_pixels)
        return _EncodedImage(data, (kind.decoder,), is_turned=header.orientation != 1)
    if kind.decoder == "TIFF":
        directory = tiff.read_first_directory(data)
        if directory is None:
            detail = "the file ends before its TIFF directory"
            return Failure(path, Stage.DECODE, Reason.TRUNCATED, detail)
        if why := tiff.describe_unsupported(data, directory):
            return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, f"{why}: {CONVERT_REMEDY}")
    return _EncodedImage(data, (kind.decoder,))


def _decode_content(
    path: Location, content: _EncodedImage, max_pixels: int, in_detail: bool
) -> DecodedImage | Failure:
    def load() -> DecodedImage | Failure:
        with open_image(content.data, content.formats) as image:
            return _load_image(path, image, max_pixels, content, in_detail)

    return _catch_decode_errors(path, content, load)


def _catch_decode_errors(
    path: Location, content: _EncodedImage, load: Callable[[], DecodedImage | Failure]
) -> DecodedImage | Failure:
    """Turn whatever goes wrong while a picture is decoded into a ``Failure``."""
    try:
        return load()
    except MemoryError:
        detail = "not enough memory for its pixels"
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)
    except Exception as error:  # Pillow's readers raise nearly every built-in exception
        reason, detail = diagnose(content.data, content.formats, error)
        return Failure(path, Stage.DECODE, reason, detail)


def _repair_jpeg(
    path: Location,
    content: _EncodedImage,
    first: DecodedImage | Failure,
    max_pixels: int,
    in_detail: bool,
) -> tuple[_EncodedImage, DecodedImage | Failure]:
    """Decode a JPEG once more without what no viewer minds: an odd head, or no mark of the end."""
    tidy = replace(content, data=jpeg.tidy_head(content.data))
    result = _decode_content(path, tidy, max_pixels, in_detail)
    if isinstance(result, DecodedImage) and jpeg.has_end(tidy.data):
        return tidy, result
    if isinstance(result, Failure) and result.reason is not Reason.TRUNCATED:
        return content, first
    if _is_complete_jpeg(tidy.data, max_pixels):
        tidy = replace(tidy, data=tidy.data + jpeg.EOI)
        return tidy, _decode_content(path, tidy, max_pixels, in_detail)
    if isinstance(result, DecodedImage):
        detail = "image file is truncated (no end of its data)"
        result = Failure(path, Stage.DECODE, Reason.TRUNCATED, detail)
        tidy = replace(tidy, data=jpeg.strip_fill(tidy.data))
    return tidy, result


def _is_complete_jpeg(data: bytes, max_pixels: int) -> bool:
    """Tell whether a JPEG without an end has all of its pixels, and nothing behind them.

    What fills up coded data that are cut off becomes pixels, different ones for different bytes;
    behind the last pixel nothing does, nor does it where a scan or restart interval should begin.
    """
    try:
        if not jpeg.has_all_scans(data):
            return False
        first, second, shorter = (
            _hash_pixels(ending, max_pixels) for ending in jpeg.make_endings(data)
        )
    except Exception:  # of whatever kind, as above
        return False
    return first == second != shorter


def _hash_pixels(data: bytes, max_pixels: int) -> bytes:
    with open_image(data, ("JPEG",)) as image:
        if image.width * image.height > max_pixels:
            raise MemoryError
        image.load()
        return hashlib.sha256(image.tobytes()).digest()


def _load_image(
    path: Location,
    image: ImageFile.ImageFile,
    max_pixels: int,
    content: _EncodedImage,
    in_detail: bool,
) -> DecodedImage | Failure:
    width, height = image.size
    scaled = image.format in JPEG_FORMATS
    if scaled:
        scale = max(1, max(width, height) // WORKING_SIDE)
        least = max(1, width // scale), max(1, height // scale)
        image.draft(None, (in_detail and compute_detail_size(width, height, max_pixels)) or least)
        # The whole file at once: in pieces of 64 KiB, Pillow's default, decoding takes 3 % longer.
        image.decodermaxblock = len(content.data)
    # A progressive JPEG's coefficients are all kept until the last scan has been read.
    held = (width, height) if image.info.get("progressive") else image.size
    if held[0] * held[1] > max_pixels:
        return _make_too_large(path, *held, max_pixels)
    image.load()
    if image.format == "TIFF" and (colors := tiff.read_8_bit_palette(content.data)):
        image.putpalette(colors)
    if not scaled:  # a TIFF is turned, and a HEIF may change its size, while it is loaded
        width, height = image.size
    orientation = _read_orientation(image, content)
    finish = functools.partial(_shrink_and_turn, image, (width, height), orientation)
    detail = compute_detail_size(width, height, max_pixels)
    if in_detail:
        return finish(detail)
    if scaled:
        return finish(None)
    # All pixels are here, and to decode them again would take as long as the first time.
    load_detail = functools.partial(_catch_decode_errors, path, content, lambda: finish(detail))
    return replace(finish(None), load_detail=load_detail)


def _shrink_and_turn(
    image: Image.Image, size: tuple[int, int], orientation: int, detail: tuple[int, int] | None
) -> DecodedImage:
    """Make a decoded picture small, RGB and upright.

    Args:
        image: what was decoded.
        size: width and height of the file.
        orientation: EXIF orientation.
        detail: size to shrink to, None for that of ``decode_image``.
    """
    shrink = _shrink if detail is None else functools.partial(_resize, size=detail)
    picture = _to_rgb(image, shrink)
    if orientation in TRANSPOSES:
        picture = picture.transpose(TRANSPOSES[orientation])
    width, height = reversed(size) if orientation in SIDEWAYS_ORIENTATIONS else size
    return DecodedImage(picture, width, height)


def _make_too_large(path: Location, width: int, height: int, max_pixels: int) -> Failure:
    pixels = f"{width} x {height} = {width * height:,} pixels"
    detail = f"{pixels}, more than --max-pixels {max_pixels:,}"
    return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)


def _read_orientation(image: Image.Image, content: _EncodedImage) -> int:
    # A JPEG that was packed as a JPEG XL comes out of it as it was.
    if content.is_turned and not getattr(image, "jpeg", False):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, content.orientation))
    except Exception:  # broken EXIF says nothing of which side is up, but the photo is there
        return content.orientation


def _to_rgb(image: Image.Image, shrink: Callable[[Image.Image], Image.Image]) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow inverts what has 8 bits itself.
        is_negative = getattr(image, "tag_v2", {}).get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO
        image = _stretch_range(image) if image.mode in ("I", "F") else _keep_high_byte(image)
        image = ImageOps.invert(image) if is_negative else image
    if not image.has_transparency_data:
        return shrink(image if image.mode == "RGB" else image.convert("RGB"))
    # Shrunk before it is laid on white, as RGBA of the full size takes the most memory.
    image = shrink(image if image.mode == "RGBA" else image.convert("RGBA"))
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


def _keep_high_byte(image: Image.Image) -> Image.Image:
    import numpy as np

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def _stretch_range(image: Image.Image) -> Image.Image:
    import numpy as np

    grey = np.asarray(image).astype(np.float64)
    darkest, brightest = _find_range(grey)
    # In place, since 8 bytes a pixel are more than what any other picture takes.
    np.nan_to_num(grey, copy=False, nan=darkest, posinf=brightest, neginf=darkest)
    np.clip(grey, darkest, brightest, out=grey)
    grey -= darkest
    grey *= 255 / (brightest - darkest or 1)
    return Image.fromarray(np.rint(grey, out=grey).astype(np.uint8))


def _find_range(grey: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Give the darkest and the brightest value of a picture, without outliers.

    A mark for missing values, such as -32,768 or 1e30, may fill half of a picture, but is one
    value among many. So the range counts distinct values: if the middle ones take less than a
    part of the whole range, the others are outliers.
    """
    import numpy as np

    values = grey.ravel()[:: -(-grey.size // MAX_SAMPLED_PIXELS)]
    values = np.unique(values[np.isfinite(values)])
    if not len(values):
        return 0, 0
    finite = np.isfinite(grey)
    darkest = float(grey.min(where=finite, initial=values[0]))
    brightest = float(grey.max(where=finite, initial=values[-1]))
    rest = values[1 + len(values) // 100 : -1 - len(values) // 100]
    if (
        len(values) < MIN_DISTINCT_VALUES
        or OUTLIER_FACTOR * (rest[-1] - rest[0]) >= brightest - darkest
    ):
        return darkest, brightest
    return float(rest[0]), float(rest[-1])


def _shrink(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // MAX_SIDE)
    return image.reduce(factor) if factor > 1 else image


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
