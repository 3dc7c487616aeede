"""Decoding: from a file's bytes to upright RGB pixels, or to the reason why it fails.

A change to the pixels needs a new ``PREPROCESSING_VERSION`` (``batch/vision/basis.py``).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageFile

from batch.file_types import CONVERT_REMEDY, DECODERS, PREVIEW, detect_file_type
from batch.location import Location
from batch.options import MAX_DETAIL_PIXELS, MAX_PIXELS
from batch.records import NO_CAPTURE, Capture, Failure, Photo, Reason, Stage
from batch.vision import jpeg, raw, tiff
from batch.vision.capture import read_capture
from batch.vision.diagnosis import diagnose
from batch.vision.isobmff import read_jxl_header
from batch.vision.orientation import read_orientation
from batch.vision.pillow import allow_truncated, has_enough_rows, has_reader, open_image
from batch.vision.pixels import SIDEWAYS_ORIENTATIONS, finish_pixels
from batch.vision.read_file import read_file

# Minimum of pixels of a photo's longer side after shrinking, if the file has them.
WORKING_SIDE = 640
# A photo whose longer side is larger has a detail: the same photo with more pixels, for the search
# of faces that are too small in the working pixels. From 1,920 pixels on, faces of some 40 pixels
# are missed in the working pixels.
LARGE_SIDE = 1920
DETAIL_FACTOR = 2  # pixels of the file per pixel of the detail, along each side
MIN_DETAIL_SIDE = 16  # pixels of a detail's shorter side: no face fits into less
_JPEG_FORMATS = ("JPEG", "MPO")  # Pillow's names
_HEAD_BYTES = 4096  # bytes of a file that tell its format


@dataclass(frozen=True)
class DecodedImage:
    """A decoded picture as Pillow holds it.

    Attributes:
        image: RGB, upright, at most ``MAX_SIDE`` pixels wide and high.
        width: of the upright file, in pixels.
        height: of the upright file, in pixels.
        salvaged: what is wrong with a truncated file, "" for a complete one.
        capture: when, with what and where it was taken.
        load_detail: loads the same picture with more pixels, see ``compute_detail_size``; None if
            the file is not large. It comes from memory if it was decoded at that size, else from
            the file.
    """

    image: Image.Image
    width: int
    height: int
    salvaged: str = ""
    capture: Capture = NO_CAPTURE
    load_detail: Callable[[], DecodedImage | Failure] | None = field(
        default=None, repr=False, compare=False
    )


# A decoded picture of either kind.
Decoded = TypeVar("Decoded", DecodedImage, Photo)
Result = TypeVar("Result")


def compute_detail_size(
    width: int, height: int, max_pixels: int = MAX_PIXELS
) -> tuple[int, int] | None:
    """Compute width and height of the detail of a photo of ``width`` x ``height``.

    Args:
        width: in pixels.
        height: in pixels.
        max_pixels: as in ``decode_image``: a JPEG is decoded to less than four times the detail's
            pixels.

    Returns:
        Pixels, or None for a photo that is not large.
    """
    if max(width, height) <= LARGE_SIDE:
        return None
    most = min(MAX_DETAIL_PIXELS, max_pixels // 4)
    scale = min(1 / DETAIL_FACTOR, math.sqrt(most / (width * height)))
    size = int(width * scale), int(height * scale)
    return size if min(size) >= MIN_DETAIL_SIDE and max(size) > WORKING_SIDE else None


def choose_detail_loader(
    decoded: Decoded,
    side: int,
    max_pixels: int,
    load: Callable[[], Decoded | Failure],
) -> Callable[[], Decoded | Failure] | None:
    """Choose the function that loads the detail of a decoded picture.

    Args:
        decoded: the picture.
        side: pixels of its longer side.
        max_pixels: as in ``decode_image``.
        load: decodes the file again.

    Returns:
        None if the file is not large; a function that returns ``decoded`` if it has the pixels
        already; else ``load``.
    """
    size = compute_detail_size(decoded.width, decoded.height, max_pixels)
    if size is None:
        return None
    return (lambda: decoded) if side >= max(size) else load


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> Photo | Failure:
    """Read and decode a photo; see ``read_file`` and ``decode_bytes``."""
    data = read_file(path)
    return data if isinstance(data, Failure) else decode_bytes(path, data, max_pixels)


def decode_bytes(
    path: Location, data: bytes, max_pixels: int = MAX_PIXELS, salvage: bool = False
) -> Photo | Failure:
    """Decode a file's bytes to a photo; see ``decode_image``."""
    decoded = decode_image(path, data, max_pixels, salvage)
    return decoded if isinstance(decoded, Failure) else to_photo(path, decoded)


def read_size(
    path: Location, data: bytes, max_pixels: int = MAX_PIXELS
) -> tuple[int, int] | Failure:
    """Read the width and height of a photo as it is stored, without decoding its pixels."""
    content = _identify(path, data, max_pixels)
    if isinstance(content, Failure):
        return content

    def load() -> tuple[int, int]:
        with open_image(content.data, content.formats) as image:
            return image.size

    return _catch_decode_errors(path, content, load)


def to_photo(path: Location, decoded: DecodedImage) -> Photo:
    """Convert a decoded picture to a photo."""
    decode_detail = decoded.load_detail

    def load_detail() -> Photo | Failure:
        assert decode_detail is not None
        detail = decode_detail()
        return detail if isinstance(detail, Failure) else to_photo(path, detail)

    return Photo(
        path,
        image=decoded.image,
        width=decoded.width,
        height=decoded.height,
        salvaged=decoded.salvaged,
        capture=decoded.capture,
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

    The content tells the format, see ``batch.file_types``. Of several frames or pages the first
    is decoded, of a camera raw the preview. A picture whose longer side is over ``MAX_SIDE``
    pixels is shrunk by a whole factor to between ``WORKING_SIDE`` and ``MAX_SIDE``; a JPEG is
    shrunk as far as possible while it is decoded. See ``batch.vision.pixels`` for orientation,
    transparency and grey of 16 and 32 bits. Colour profiles are not applied.

    Args:
        path: the file, for a ``Failure``.
        data: all of its bytes.
        max_pixels: limit of the pixels held while decoding: of a JPEG those after DCT scaling, of
            a progressive JPEG all.
        salvage: return the readable part of a truncated photo, marked as ``salvaged``, if at
            least half of it is there.
        in_detail: shrink to ``compute_detail_size`` instead.
    """
    content = _identify(path, data, max_pixels)
    if isinstance(content, Failure):
        return content
    result = _decode_content(path, content, max_pixels, in_detail)
    # The padding of a file that was never fully written may become pixels without any error.
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


@dataclass(frozen=True)
class _EncodedImage:
    """The part of a file that is decoded.

    Attributes:
        data: bytes of one picture.
        formats: Pillow's names of the readers that may open it.
        orientation: EXIF orientation, for a picture without its own.
        raw_tags: the TIFF structures of a camera raw, with tags that its preview lacks.
        is_turned: the decoder applies the orientation itself.
    """

    data: bytes
    formats: tuple[str, ...]
    orientation: int = 1
    raw_tags: tuple[bytes, ...] = ()
    is_turned: bool = False

    @property
    def is_jpeg(self) -> bool:
        return self.data.startswith(b"\xff\xd8")


def _identify(path: Location, data: bytes, max_pixels: int) -> _EncodedImage | Failure:
    """Detect a file's format and check that it can be decoded correctly."""
    if not data:
        return Failure(path, Stage.DECODE, Reason.EMPTY, "no bytes in the file")
    kind = detect_file_type(data[:_HEAD_BYTES])
    if kind is None:  # Pillow's readers find out what is wrong
        return _EncodedImage(data, DECODERS)
    if not kind.decoder or (kind.extra and not has_reader(kind.decoder)):
        return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, kind.unsupported_detail)
    if identify := _IDENTIFIERS.get(kind.decoder):
        return identify(path, data, max_pixels)
    return _EncodedImage(data, (kind.decoder,))


def _identify_raw(path: Location, data: bytes, _: int) -> _EncodedImage | Failure:
    preview = raw.find_preview(data)
    if preview is not None:
        tags = raw.find_tags(data)
        return _EncodedImage(data[preview.start :], ("JPEG",), preview.orientation or 1, tags)
    detail = f"a camera raw without {raw.USABLE_PREVIEW}: {CONVERT_REMEDY}"
    return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, detail)


def _identify_tiff(path: Location, data: bytes, max_pixels: int) -> _EncodedImage | Failure:
    if raw.is_raw(data):
        preview = _identify_raw(path, data, max_pixels)
        if isinstance(preview, _EncodedImage) or not raw.is_shown_by_tiff(data):
            return preview
    directory = tiff.read_first_directory(data)
    if directory is None:
        detail = "the file ends before its TIFF directory"
        return Failure(path, Stage.DECODE, Reason.TRUNCATED, detail)
    if why := tiff.describe_unsupported(data, directory):
        return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, f"{why}: {CONVERT_REMEDY}")
    return _EncodedImage(data, ("TIFF",))


def _identify_jxl(path: Location, data: bytes, max_pixels: int) -> _EncodedImage | Failure:
    header = read_jxl_header(data)
    if header is None:
        return _EncodedImage(data, ("JXL",))
    # Checked here, because the decoder decodes all pixels as it opens a file.
    if header.width * header.height > max_pixels:
        return _make_too_large(path, header.width, header.height, max_pixels)
    return _EncodedImage(data, ("JXL",), is_turned=header.orientation != 1)


# Formats that need a look into the file before Pillow opens it, by ``FileType.decoder``.
_IDENTIFIERS: dict[str, Callable[[Location, bytes, int], _EncodedImage | Failure]] = {
    PREVIEW: _identify_raw,
    "TIFF": _identify_tiff,
    "JXL": _identify_jxl,
}


def _decode_content(
    path: Location, content: _EncodedImage, max_pixels: int, in_detail: bool
) -> DecodedImage | Failure:
    def load() -> DecodedImage | Failure:
        with open_image(content.data, content.formats) as image:
            return _load_image(path, image, max_pixels, content, in_detail)

    return _catch_decode_errors(path, content, load)


def _catch_decode_errors(
    path: Location, content: _EncodedImage, load: Callable[[], Result | Failure]
) -> Result | Failure:
    """Turn any exception of a decoder into a ``Failure``."""
    try:
        return load()
    except MemoryError:
        detail = "not enough memory for its pixels"
        return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)
    except Exception as error:  # Pillow's readers raise nearly every built-in exception
        reason, detail = diagnose(content.data, content.formats, error)
        return Failure(path, Stage.DECODE, reason, detail)


def _load_image(
    path: Location,
    image: ImageFile.ImageFile,
    max_pixels: int,
    content: _EncodedImage,
    in_detail: bool,
) -> DecodedImage | Failure:
    width, height = image.size
    scaled = image.format in _JPEG_FORMATS
    if scaled:
        scale = max(1, max(width, height) // WORKING_SIDE)
        least = max(1, width // scale), max(1, height // scale)
        image.draft(None, (in_detail and compute_detail_size(width, height, max_pixels)) or least)
        # The whole file at once: in pieces of 64 KiB, Pillow's default, decoding takes 3 % longer.
        image.decodermaxblock = len(content.data)
    # A progressive JPEG keeps all coefficients until its last scan is read.
    held = (width, height) if image.info.get("progressive") else image.size
    if held[0] * held[1] > max_pixels:
        return _make_too_large(path, *held, max_pixels)
    # Loading closes a TIFF, and loads the tags of a PNG.
    capture = read_capture(image, content.raw_tags) if image.format == "TIFF" else None
    image.load()
    capture = capture or read_capture(image, content.raw_tags)
    if image.format == "TIFF" and (colors := tiff.read_8_bit_palette(content.data)):
        image.putpalette(colors)
    if not scaled:  # loading turns a TIFF, and may change the size of a HEIF
        width, height = image.size
    # A JPEG that was packed as a JPEG XL is unpacked unturned.
    is_turned = content.is_turned and not getattr(image, "jpeg", False)
    orientation = 1 if is_turned else read_orientation(image, content.orientation)
    turned = (height, width) if orientation in SIDEWAYS_ORIENTATIONS else (width, height)

    def finish(size: tuple[int, int] | None) -> DecodedImage:
        return DecodedImage(finish_pixels(image, orientation, size), *turned, capture=capture)

    detail = compute_detail_size(width, height, max_pixels)
    if in_detail:
        return finish(detail)
    if scaled:
        return finish(None)
    # All pixels are in memory, and decoding them again would take as long as the first time.
    load_detail = functools.partial(_catch_decode_errors, path, content, lambda: finish(detail))
    return replace(finish(None), load_detail=load_detail)


def _make_too_large(path: Location, width: int, height: int, max_pixels: int) -> Failure:
    pixels = f"{width} x {height} = {width * height:,} pixels"
    detail = f"{pixels}, more than --max-pixels {max_pixels:,}"
    return Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail)


def _repair_jpeg(
    path: Location,
    content: _EncodedImage,
    first: DecodedImage | Failure,
    max_pixels: int,
    in_detail: bool,
) -> tuple[_EncodedImage, DecodedImage | Failure]:
    """Decode a JPEG again without flaws that all viewers ignore: an odd header, a missing end.

    Args:
        path: the file, for a ``Failure``.
        content: the JPEG.
        first: the result of decoding it as it is.
        max_pixels: as in ``decode_image``.
        in_detail: as in ``decode_image``.

    Returns:
        The repaired JPEG and its result, or ``content`` and ``first`` if that did not help.
    """
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
    """Return whether a JPEG without an end marker has all of its pixels, and nothing after them.

    If coded data are missing, different fillings decode to different pixels. Fillings after the
    last pixel, or where a scan or restart interval would begin, change none.
    """
    try:
        if not jpeg.has_all_scans(data):
            return False
        first, second, shorter = (
            _hash_pixels(ending, max_pixels) for ending in jpeg.make_endings(data)
        )
    except Exception:  # Pillow's readers raise nearly every built-in exception
        return False
    return first == second != shorter


def _hash_pixels(data: bytes, max_pixels: int) -> bytes:
    with open_image(data, ("JPEG",)) as image:
        if image.width * image.height > max_pixels:
            raise MemoryError
        image.load()
        return hashlib.sha256(image.tobytes()).digest()


def _salvage(
    path: Location, content: _EncodedImage, failure: Failure, max_pixels: int, in_detail: bool
) -> DecodedImage | Failure:
    with allow_truncated():
        rest = _decode_content(path, content, max_pixels, in_detail)
    if isinstance(rest, DecodedImage) and has_enough_rows(rest.image):
        return replace(rest, salvaged=failure.detail, load_detail=None)
    there = "less than half" if isinstance(rest, DecodedImage) else "nothing"
    return replace(failure, detail=f"{failure.detail}; not salvaged: {there} of it can be decoded")
