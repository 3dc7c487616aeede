"""Pillow's readers, without warnings, limits and threads of their own."""

from __future__ import annotations

import functools
import io
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

            _silence((JpegXLImagePlugin,))
            JpegXLImagePlugin.DECODE_THREADS = 0  # as with AVIF
    except ImportError:
        return False
    return True
