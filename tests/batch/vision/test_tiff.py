"""TIFFs of every kind: the right pixels or `unsupported`, and never any others."""

from __future__ import annotations

import io
import struct
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from batch.records import Failure, Photo, Reason
from batch.vision.decode import decode_bytes
from batch.vision.tiff import COMPRESSIONS, iter_directories, read_first_directory
from tests.support.decoded import NAME, decode_failure, decode_photo, encode
from tests.support.tiff_variants import RIGHT, Variant, list_variants

SIZE = (61, 47)  # of which neither is a multiple of a tile's


def judge(variant: Variant, data: bytes) -> str:
    result = decode_bytes(NAME, data)
    return result.reason if isinstance(result, Failure) else variant.judge(result.pixels)


def judge_all(image: Image.Image, full: bool) -> Counter[str]:
    pytest.importorskip("imagecodecs")
    found: dict[str, list[str]] = {}
    for variant in list_variants(image.resize(SIZE), full):
        if data := variant.encode():
            found.setdefault(judge(variant, data), []).append(str(variant))
    assert set(found) == {RIGHT, Reason.UNSUPPORTED}, [
        (verdict, some[:5]) for verdict, some in found.items()
    ]
    return Counter({verdict: len(some) for verdict, some in found.items()})


def test_no_variant_is_decoded_wrongly_or_called_broken(astronaut: Image.Image) -> None:
    assert judge_all(astronaut, full=False)[RIGHT] > 200


@pytest.mark.slow
def test_no_variant_of_all_is_decoded_wrongly_or_called_broken(astronaut: Image.Image) -> None:
    assert judge_all(astronaut, full=True)[RIGHT] > 1000


def written(image: Image.Image | npt.NDArray[Any], **how: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(image), metadata=None, **how)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["u2", "f4"])
def test_grey_whose_white_is_zero_is_no_negative(kind: str, astronaut: Image.Image) -> None:
    grey = np.asarray(astronaut.convert("L")).astype(kind)
    stored = (255 - grey) * 257 if kind == "u2" else (255 - grey) / 255
    pixels = decode_photo(written(stored.astype(kind), photometric="miniswhite")).pixels
    assert np.abs(pixels[..., 0] - grey).max() <= 2


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("factor", [1, 257])
def test_a_palette_may_have_values_of_8_bits(
    bits: int, byteorder: str, factor: int, astronaut: Image.Image
) -> None:
    pytest.importorskip("imagecodecs")
    picture = astronaut.quantize(2**bits)
    colors = np.zeros((2**bits, 3), "u2")
    used = np.array(picture.getpalette(), "u2").reshape(-1, 3)
    colors[: len(used)] = used
    values = (colors.T * factor).ravel().tolist()
    how = {"bitspersample": bits, "byteorder": byteorder, "photometric": "minisblack"}
    data = written(picture, extratags=[(320, "H", len(values), values, True)], **how)
    grey = struct.pack(f"{byteorder}HHIH", 262, 3, 1, 1)
    palette = struct.pack(f"{byteorder}HHIH", 262, 3, 1, 3)
    assert data.count(grey) == 1
    result = decode_photo(data.replace(grey, palette))
    assert np.array_equal(result.pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("code", [6, 34712, 34887, 34892, 34933, 50001, 50002, 60606])
def test_an_unknown_compression_is_named(code: int, astronaut: Image.Image) -> None:
    data = bytearray(encode(astronaut, "TIFF", compression="tiff_lzw"))
    at = data.index(struct.pack("<HHI", 259, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", code)
    result = decode_failure(bytes(data))
    assert result.reason is Reason.UNSUPPORTED
    assert COMPRESSIONS.get(code, str(code)) in result.detail


def test_what_is_not_decoded_is_described(astronaut: Image.Image) -> None:
    result = decode_failure(written(astronaut, photometric="rgb", bigtiff=True, byteorder=">"))
    assert result.reason is Reason.UNSUPPORTED
    assert "BigTIFF in big-endian byte order" in result.detail
    planes = np.moveaxis(np.asarray(astronaut).astype("u2") * 257, 2, 0)
    how = {"photometric": "rgb", "planarconfig": "separate"}
    result = decode_failure(written(planes, **how))
    assert "RGB, 3 x 16 bit unsigned, in separate planes, no compression" in result.detail


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_an_end_that_is_missing(share: float, compression: str, astronaut: Image.Image) -> None:
    data = encode(astronaut, "TIFF", compression=compression)
    assert decode_failure(data[: int(share * len(data))]).reason is Reason.TRUNCATED


def test_directories_that_lead_anywhere_end() -> None:
    loop = b"II*\0\x08\0\0\0" + struct.pack("<HI", 0, 8)
    assert len(list(iter_directories(loop))) == 1
    many = b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, 8 + 6 * n) for n in range(1, 999))
    assert len(list(iter_directories(many))) == 32
    endless = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63)
    assert read_first_directory(endless) is None
    assert read_first_directory(b"II*\0\xff\xff\xff\xff") is None
    assert not isinstance(decode_bytes(NAME, many), Photo)
