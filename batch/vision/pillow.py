"""Pillow's readers, without warnings, limits and threads of their own."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Iterator
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


class _NoWarnings:
    @staticmethod
    def warn(*args: object, **kwargs: object) -> None: ...


def _silence_warnings(modules: tuple[ModuleType, ...]) -> None:
    """Keep Pillow from warning of a file's flaws: they become a Failure or do not matter.

    The filters of ``warnings`` belong to the whole process, so that to change them for a
    call is not safe beside other threads, and to change them for good lasts only until
    the next ``catch_warnings`` ends. So the name is taken out of the readers themselves.
    """
    for module in modules:
        if "warnings" in vars(module):
            vars(module)["warnings"] = _NoWarnings


_silence_warnings(
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
# Pillow's limit counts a JPEG's pixels before DCT scaling; `decode.py` has one of its own.
Image.MAX_IMAGE_PIXELS = None
# The cores have photos of their own; Pillow's AVIF reader would take them all for one.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def open_image(data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Open a file's bytes as one of ``formats``; no pixel is decoded yet."""
    return Image.open(io.BytesIO(data), formats=formats)


@functools.cache
def has_reader(name: str) -> bool:
    """Tell whether a format that needs an extra can be read here, and have Pillow read it."""
    try:
        if name == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        else:
            from pillow_jxl import JpegXLImagePlugin

            _silence_warnings((JpegXLImagePlugin,))
            JpegXLImagePlugin.DECODE_THREADS = 0  # as with AVIF
    except ImportError:
        return False
    return True


# == What is there of a truncated photo: Pillow told to go on, in one thread and for one call.

# Share of a photo's rows that must be there: with less it says more of its sky than of anybody.
MIN_ROW_SHARE = 0.5


class _Leniency(threading.local):
    """True in a thread that is salvaging, and False in all others."""

    on = False

    def __bool__(self) -> bool:
        return self.on


# Pillow has one switch for the whole process, of which it only asks whether it is true. In its
# place this one keeps what other threads decode at the same time as strict as ever.
_LENIENCY = _Leniency()
vars(ImageFile)["LOAD_TRUNCATED_IMAGES"] = _LENIENCY


@contextmanager
def allow_truncated() -> Iterator[None]:
    """Let Pillow make a picture of a truncated file, in this thread, while the block runs."""
    _LENIENCY.on = True
    try:
        yield
    finally:
        _LENIENCY.on = False


def has_enough_rows(image: Image.Image) -> bool:
    """Tell whether at least ``MIN_ROW_SHARE`` of a salvaged photo's rows are there.

    Workers leave what is missing in one colour: rows in the file, which are columns where
    the photo was turned.
    """
    # Here, as what starts for every worker needs no arrays, and numpy is half of its start.
    import numpy as np

    pixels = np.asarray(image)
    rows = (pixels == pixels[:, :1]).all(axis=(1, 2)).mean()
    columns = (pixels == pixels[:1]).all(axis=(0, 2)).mean()
    return bool(max(rows, columns) <= 1 - MIN_ROW_SHARE)
