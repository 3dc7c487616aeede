"""Pillow's readers, without their warnings, size limits and threads."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

# Share of a photo's rows that must be readable to salvage it: the top of a photo alone often shows
# more sky than people.
MIN_ROW_SHARE = 0.5


class _NoWarnings:
    @staticmethod
    def warn(*args: object, **kwargs: object) -> None: ...


def _silence_warnings(*modules: ModuleType) -> None:
    """Stop readers from warning about flaws of a file, which become a ``Failure`` or don't matter.

    The filters of the module ``warnings`` belong to the whole process: changing them for one call
    is not thread-safe, and changing them for good lasts only until the next ``catch_warnings``
    ends. So the name ``warnings`` is replaced in the readers.
    """
    for module in modules:
        if "warnings" in vars(module):
            vars(module)["warnings"] = _NoWarnings


_silence_warnings(
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
# Pillow's limit counts a JPEG's pixels before DCT scaling; ``decode`` has its own limit.
Image.MAX_IMAGE_PIXELS = None
# Photos are decoded in parallel; Pillow's AVIF reader would use all cores for one.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def open_image(data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Open a file's bytes as one of ``formats``, without decoding pixels."""
    return Image.open(io.BytesIO(data), formats=formats)


@functools.cache
def has_reader(decoder: str) -> bool:
    """Register the reader of a format that needs an extra; False if the extra is not installed."""
    try:
        _REGISTER[decoder]()
    except ImportError:
        return False
    return True


def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()


def _register_jxl() -> None:
    from pillow_jxl import JpegXLImagePlugin

    _silence_warnings(JpegXLImagePlugin)
    JpegXLImagePlugin.DECODE_THREADS = 0  # as for AVIF


# Formats that need an extra, by ``FileType.decoder``.
_REGISTER: dict[str, Callable[[], None]] = {"HEIF": _register_heif, "JXL": _register_jxl}


class _Leniency(threading.local):
    """True in a thread that is salvaging, False in all others."""

    on = False

    def __bool__(self) -> bool:
        return self.on


# Pillow has one switch for the whole process, and only tests whether it is true. This replacement
# keeps other threads strict while one is salvaging.
_LENIENCY = _Leniency()
vars(ImageFile)["LOAD_TRUNCATED_IMAGES"] = _LENIENCY


@contextmanager
def allow_truncated() -> Iterator[None]:
    """Make Pillow decode truncated files, in this thread, while the block runs."""
    _LENIENCY.on = True
    try:
        yield
    finally:
        _LENIENCY.on = False


def has_enough_rows(image: Image.Image) -> bool:
    """Return whether at least ``MIN_ROW_SHARE`` of a salvaged photo's rows were decoded.

    Decoders fill missing rows with one colour. They are columns if the photo was turned.
    """
    # Imported late: numpy takes half of a worker's start-up time.
    import numpy as np

    pixels = np.asarray(image)
    rows = (pixels == pixels[:, :1]).all(axis=(1, 2)).mean()
    columns = (pixels == pixels[:1]).all(axis=(0, 2)).mean()
    return bool(max(rows, columns) <= 1 - MIN_ROW_SHARE)
