"""Variants of a TIFF, written by tifffile, with the pixels that they show."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]
LOSSY = "jpeg"
LAYOUTS: dict[str, dict[str, Any]] = {
    "strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "one tile": {"tile": (128, 128)},
}
COMPRESSIONS = (None, "lzw", "jpeg", "jpeg2000", "zlib", "packbits", "zstd", "lzma", "lerc")
FEW = COMPRESSIONS[:4]
RIGHT, WRONG = "right", "wrong"


@dataclass(frozen=True)
class TiffKind:
    """A combination of sample type and photometric interpretation.

    Attributes:
        name: the name.
        stored: the stored samples.
        shown: the picture that they show, in RGB.
        how: options of tifffile.
    """

    name: str
    stored: Array
    shown: Array
    how: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A kind with a compression, byte order and layout."""

    kind: TiffKind
    how: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind.name} {self.how}"

    def encode(self) -> bytes | None:
        """Encode the variant; None if tifffile does not support it."""
        import tifffile

        stored, how = self.kind.stored, dict(self.how)
        if stored.ndim == 2:
            del how["planarconfig"]
        elif how["planarconfig"] == "separate":
            stored = np.moveaxis(stored, 2, 0)
        if how["compression"] == LOSSY:
            how["compressionargs"] = {"level": 97}
        file = io.BytesIO()
        try:
            tifffile.imwrite(file, stored, metadata=None, **self.kind.how, **how)
        except Exception:  # tifffile raises many types for unsupported combinations
            return None
        return file.getvalue()

    def judge(self, pixels: Array) -> str:
        """Tell whether decoded pixels are right, within the losses of the storage."""
        if pixels.shape != self.kind.shown.shape:
            return WRONG
        off = np.abs(pixels.astype(int) - self.kind.shown)
        lossy = self.how["compression"] == LOSSY or "lab" in self.kind.name
        return RIGHT if (off.mean() <= 6 if lossy else off.max() <= 4) else WRONG


def list_variants(image: Image.Image, full: bool) -> Iterator[Variant]:
    """Yield all variants, or a selection for each kind."""
    for kind in list_kinds(image):
        planes = ("contig", "separate")[: kind.stored.ndim - 1]
        for compression in COMPRESSIONS if full else FEW:
            for byteorder in "<>":
                for planarconfig in planes:
                    for layout in LAYOUTS if full else ("strips", "tiles"):
                        how = {
                            "compression": compression,
                            "byteorder": byteorder,
                            "planarconfig": planarconfig,
                            **LAYOUTS[layout],
                        }
                        yield Variant(kind, how)
                        if layout != "strip":
                            continue
                        yield Variant(kind, {**how, "bigtiff": True})
                        if compression in ("lzw", "zlib", "zstd"):
                            yield Variant(kind, {**how, "predictor": True})


def list_kinds(image: Image.Image) -> Iterator[TiffKind]:
    """Yield all combinations of sample types and photometric interpretations."""
    rgb = np.asarray(image.convert("RGB"))
    grey = _stretch(np.asarray(image.convert("L")))
    three = np.dstack([grey] * 3)
    alpha = np.tile(np.linspace(40, 255, grey.shape[1]).astype("u1"), (len(grey), 1))
    black = np.full_like(grey, 20)
    cmyk = np.dstack([255 - rgb, black])
    ink = np.asarray(Image.fromarray(cmyk, "CMYK").convert("RGB"))
    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"):
        plain = kind in ("u1", "u2")
        yield TiffKind(
            f"grey {kind}", _convert_type(grey, kind), three, {"photometric": "minisblack"}
        )
        white = {"photometric": "miniswhite"}
        yield TiffKind(f"white {kind}", _convert_type(255 - grey, kind), three, white)
        yield TiffKind(f"rgb {kind}", _convert_type(rgb, kind), rgb, {"photometric": "rgb"})
        for extra in ("unassalpha", "assocalpha", "unspecified"):
            light = (alpha / 255)[..., None]
            stored = np.rint(rgb * light).astype("u1") if extra == "assocalpha" else rgb
            clear = np.rint(rgb * light + 255 * (1 - light)).astype("u1")
            shown = rgb if extra == "unspecified" else clear
            how: dict[str, Any] = {"photometric": "rgb", "extrasamples": [extra]}
            yield TiffKind(
                f"rgb {extra} {kind}", _convert_type(np.dstack([stored, alpha]), kind), shown, how
            )
            if plain and extra != "assocalpha":
                clear = np.dstack([np.rint(grey * light[..., 0] + 255 * (1 - light[..., 0]))] * 3)
                shown = three if extra == "unspecified" else clear.astype("u1")
                how = {"photometric": "minisblack", "extrasamples": [extra]}
                yield TiffKind(
                    f"grey {extra} {kind}",
                    _convert_type(np.dstack([grey, alpha]), kind),
                    shown,
                    how,
                )
        if plain:
            yield TiffKind(
                f"cmyk {kind}", _convert_type(cmyk, kind), ink, {"photometric": "separated"}
            )
            ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
            how = {"photometric": "ycbcr", "subsampling": (1, 1)}
            yield TiffKind(f"ycbcr {kind}", _convert_type(ycc, kind), rgb, how)
    yield TiffKind("bits", grey > 127, np.where(three > 127, 255, 0), {"photometric": "minisblack"})
    for bits in (2, 4, 12):
        levels = 2**bits - 1
        stored = np.rint(grey / 255 * levels).astype("u2" if bits > 8 else "u1")
        shown = np.rint(np.dstack([stored] * 3) * 255.0 / levels)
        how = {"photometric": "minisblack", "bitspersample": bits}
        yield TiffKind(f"grey of {bits} bits", stored, shown, how)
    palette = Image.fromarray(rgb).quantize(256)
    colours = np.zeros(768, "u2")
    colours[: len(palette.getpalette() or ())] = palette.getpalette()
    how = {"photometric": "palette", "colormap": colours.reshape(256, 3).T * 257}
    yield TiffKind("palette", np.asarray(palette), np.asarray(palette.convert("RGB")), how)
    lab = _to_lab(rgb)
    yield TiffKind("cielab", lab, rgb, {"photometric": "cielab"})
    yield TiffKind("icclab", lab ^ np.array([0, 128, 128], "u1"), rgb, {"photometric": "icclab"})


def _stretch(grey: Array) -> Array:
    """Stretch grey to its full range, as the decoder does for 32 bits."""
    low, high = int(grey.min()), int(grey.max())
    return np.rint((grey.astype(float) - low) * 255 / (high - low)).astype("u1")


def _convert_type(values: Array, kind: str) -> Array:
    """Convert 8-bit values to another type, scaled to its range."""
    if kind[0] == "f":
        return (values / 255).astype(kind)
    factor = {1: 1, 2: 257, 4: 16_843_009}[int(kind[1])]
    lowest = int(np.iinfo(kind).min)
    return (values.astype(np.int64) * factor + lowest).astype(kind)


def _to_lab(rgb: Array) -> Array:
    from skimage.color import rgb2lab

    lab = rgb2lab(rgb)
    signed = np.rint(lab[..., 1:]).astype("i1").view("u1")
    return np.dstack([np.rint(lab[..., 0] * 2.55).astype("u1"), signed])
