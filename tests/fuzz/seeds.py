"""Sound photos in every supported format, from which cases are made."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import ExifTags, Image, ImageOps

SIDE = 96  # pixels: small, so that thousands of cases take seconds
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip


@functools.cache
def make_seeds() -> dict[str, bytes]:
    """Make the photos by name, ``format-variant``; all of them decode."""
    portrait, cup, cat = _load_photos()
    made = {name: data for part in _PARTS for name, data in part(portrait, cup, cat)}
    return dict(sorted(made.items()))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Encode a PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _load_photos() -> tuple[Image.Image, Image.Image, Image.Image]:
    import skimage.data

    pictures = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)
    large = [Image.fromarray(picture()) for picture in pictures]  # type: ignore[no-untyped-call]
    portrait, cup, cat = (ImageOps.fit(image, (SIDE, SIDE * 3 // 4)) for image in large)
    return portrait, cup, cat


def _encode(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


Named = Iterator[tuple[str, bytes]]


def _jpegs(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "maker"
    yield "jpeg-baseline", _encode(portrait, "JPEG", quality=85)
    yield "jpeg-restarts", _encode(cup, "JPEG", subsampling=0, restart_marker_rows=1)
    yield "jpeg-progressive", _encode(cat, "JPEG", progressive=True)
    yield "jpeg-grey", _encode(portrait.convert("L"), "JPEG")
    yield "jpeg-cmyk", _encode(cup.convert("CMYK"), "JPEG")
    yield "jpeg-exif", _encode(cat, "JPEG", exif=exif, comment="a cat", dpi=(72, 72))
    yield "mpo-two", _encode(portrait, "MPO", save_all=True, append_images=[cup])


def _pngs(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    grey = np.asarray(portrait.convert("L")).astype(np.uint16)
    yield "png-rgb", _encode(portrait, "PNG")
    yield "png-alpha", _encode(_add_alpha(cup), "PNG")
    yield "png-palette", _encode(cat.quantize(32), "PNG", transparency=3)
    yield "png-16bit", _encode(Image.fromarray(grey * 257), "PNG")
    yield "png-1bit", _encode(portrait.convert("1"), "PNG")
    yield "png-interlaced", _encode_interlaced(np.asarray(cup))
    yield "png-animated", _encode(cat, "PNG", save_all=True, append_images=[cup], duration=9)
    yield "png-colour-key", _encode(cat, "PNG", transparency=(9, 9, 9))


def _webps(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    yield "webp-lossy", _encode(portrait, "WEBP")
    yield "webp-lossless", _encode(cup, "WEBP", lossless=True)
    yield "webp-alpha", _encode(_add_alpha(cat), "WEBP")
    yield "webp-animated", _encode(cup, "WEBP", save_all=True, append_images=[cat, portrait])


def _gifs_and_bmps(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    yield "gif-still", _encode(portrait.quantize(64), "GIF")
    yield "gif-plain-rows", _encode(cup.quantize(16), "GIF", interlace=0)
    yield "gif-animated", _encode(cat, "GIF", save_all=True, append_images=[cup, portrait])
    yield "bmp-rgb", _encode(portrait, "BMP")
    yield "bmp-palette", _encode(cup.quantize(256), "BMP")
    yield "bmp-1bit", _encode(cat.convert("1"), "BMP")
    yield "bmp-alpha", _encode(_add_alpha(cat), "BMP")


def _tiffs(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    yield "tiff-raw", _encode(portrait, "TIFF")
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        yield f"tiff-{name.removeprefix('tiff_')}", _encode(cup, "TIFF", compression=name)
    yield "tiff-group4", _encode(cat.convert("1"), "TIFF", compression="group4")
    yield "tiff-pages", _encode(cat, "TIFF", save_all=True, append_images=[cup, portrait])
    yield "tiff-palette", _encode(cat.quantize(16), "TIFF")
    grey = np.asarray(portrait.convert("L"))
    for name, pixels, how in (
        ("tiled", np.asarray(cup), {"tile": (32, 32)}),
        ("planes", np.moveaxis(np.asarray(cat), 2, 0), {"planarconfig": "separate"}),
        ("16bit", grey.astype(np.uint16) << 8, {}),
        ("float", grey.astype(np.float32), {}),
        ("big", np.asarray(portrait), {"bigtiff": True, "rowsperstrip": 8}),
        ("big-endian", np.asarray(portrait), {"byteorder": ">"}),
    ):
        yield f"tiff-{name}", _encode_tiff(pixels, **how)


def _avifs(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    yield "avif-still", _encode(portrait, "AVIF", speed=10)
    yield "avif-alpha", _encode(_add_alpha(cup), "AVIF", speed=10)
    yield "avif-animated", _encode(cat, "AVIF", speed=10, save_all=True, append_images=[cup])


def _heifs(portrait: Image.Image, cup: Image.Image, cat: Image.Image) -> Named:
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()
    yield "heif-still", _encode(portrait, "HEIF")
    yield "heif-alpha", _encode(_add_alpha(cup), "HEIF")
    yield "heif-several", _encode(cat, "HEIF", save_all=True, append_images=[cup])


_PARTS: tuple[Callable[[Image.Image, Image.Image, Image.Image], Named], ...] = (
    *(_jpegs, _pngs, _webps, _gifs_and_bmps),
    *(_tiffs, _avifs, _heifs),
)


def _add_alpha(image: Image.Image) -> Image.Image:
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    return transparent


def _encode_tiff(pixels: npt.NDArray[Any], **how: Any) -> bytes:
    file = io.BytesIO()
    kind = "minisblack" if pixels.ndim == 2 else "rgb"
    tifffile.imwrite(file, pixels, photometric=kind, metadata=None, **how)
    return file.getvalue()


def _encode_interlaced(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode an interlaced PNG (Adam7), which Pillow can't write."""
    height, width = pixels.shape[:2]
    passes = [pixels[y::down, x::right] for x, y, right, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for part in passes for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
