"""Photos in memory, given by a caller: arrays, Pillow images, open files and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from batch.errors import UsageError
from batch.location import Url
from batch.records import InMemoryFile

Picture: TypeAlias = bytes | BinaryIO | Image.Image | npt.NDArray[np.uint8]

# Pillow modes without a fixed range of values.
_MODES_WITHOUT_RANGE = ("I", "F")
# Source: https://pillow.readthedocs.io/en/stable/handbook/image-file-formats.html#png
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def is_picture(photo: object) -> bool:
    """Return whether an object is one photo in memory, and not an array of several."""
    is_array = isinstance(photo, np.ndarray) and photo.ndim < 4
    return is_array or isinstance(photo, bytes | Image.Image) or hasattr(photo, "read")


def load_photos(pictures: Iterable[object]) -> Iterator[InMemoryFile]:
    """Encode photos as image files named ``memory://1``, ``memory://2`` and so on.

    Raises:
        UsageError: one of them is not a ``Picture``, or is an array that is not uint8 [H, W, 3], or
            an image of a mode without a fixed range of values.
    """
    for number, picture in enumerate(pictures, start=1):
        url = Url(f"memory://{number}")
        if hasattr(picture, "read"):  # a file
            picture = picture.read()
        yield InMemoryFile(url, picture if isinstance(picture, bytes) else _encode(picture, url))


def _encode(picture: object, url: Url) -> bytes:
    stream = BytesIO()
    if isinstance(picture, np.ndarray):
        _check(picture, url)
        Image.fromarray(picture).save(stream, "BMP")  # fast to write and read
    elif isinstance(picture, Image.Image):
        if picture.mode in _MODES_WITHOUT_RANGE:
            raise UsageError(
                f"photo {url} is a Pillow image of mode {picture.mode}, whose range is unknown",
                "scale it to 0 to 255 and convert it to L or RGB first",
            )
        upright = ImageOps.exif_transpose(picture)
        image = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
        image.save(stream, "PNG", compress_level=1)
    else:
        raise UsageError(
            f"photo {url} is a {type(picture).__name__}",
            "give only paths, or only arrays, Pillow images, bytes and files in binary mode",
        )
    return stream.getvalue()


def _check(array: npt.NDArray[np.uint8], url: Url) -> None:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise UsageError(
            f"photo {url} is an array of {array.dtype} {list(array.shape)}",
            "give RGB as uint8 [height, width, 3]",
        )
