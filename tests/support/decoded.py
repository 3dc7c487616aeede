"""Encoding, decoding and comparing pictures.

Test modules import the fixture: ``from tests.support.decoded import heif``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batch.options import MAX_PIXELS
from batch.records import Failure, Photo, Pixels, Stage
from batch.vision.decode import decode_bytes

NAME = Path("photo")
SIDE = 512  # pixels: width and height of the astronaut photo


def encode(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def decode_photo(data: bytes, max_pixels: int = MAX_PIXELS) -> Photo:
    result = decode_bytes(NAME, data, max_pixels)
    assert isinstance(result, Photo), result
    assert result.pixels.dtype == np.uint8
    assert result.pixels.ndim == 3
    assert result.pixels.shape[2] == 3
    assert result.pixels.flags.c_contiguous
    return result


def decode_failure(data: bytes, max_pixels: int = MAX_PIXELS) -> Failure:
    result = decode_bytes(NAME, data, max_pixels)
    assert isinstance(result, Failure), "decoded"
    assert result.stage is Stage.DECODE
    assert result.detail.isprintable()
    assert " object at 0x" not in result.detail
    return result


def mean_difference(pixels: Pixels, expected: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(pixels.astype(int) - np.asarray(expected.convert("RGB"))).mean())


def are_pixels_close(pixels: Pixels, expected: Image.Image, tolerance: int = 0) -> bool:
    wanted = np.asarray(expected.convert("RGB")).astype(int)
    return pixels.shape == wanted.shape and bool(np.abs(pixels - wanted).max() <= tolerance)


@pytest.fixture(scope="session")
def heif() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
