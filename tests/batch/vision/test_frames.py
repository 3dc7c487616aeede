"""Which picture is decoded of a file with several, as docs/usage.md says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from batch.records import Photo, Pixels
from batch.vision.decode import decode_bytes

RED, BLUE = (250, 10, 10), (10, 10, 250)


def pixels_of(data: bytes) -> Pixels:
    photo = decode_bytes(Path("frames"), data)
    assert isinstance(photo, Photo), photo
    return photo.pixels


def encoded(image: Image.Image, form: str, later: list[Image.Image], **how: Any) -> bytes:
    file = io.BytesIO()
    # Copies: Pillow stores how a picture was saved in it, and reuses that the next time.
    image, later = image.copy(), [picture.copy() for picture in later]
    image.save(file, form, save_all=True, append_images=later, **how)
    return file.getvalue()


def distance(pixels: Pixels, expected: Image.Image) -> float:
    return float(np.abs(pixels.astype(int) - np.asarray(expected.convert("RGB"))).mean())


def test_a_first_frame_that_is_smaller_than_its_gif_lies_where_it_is_shown() -> None:
    frame = Image.new("P", (4, 2), 0)
    frame.putpalette([*RED, *BLUE])
    file = io.BytesIO()
    frame.save(file, "GIF")
    data = bytearray(file.getvalue())
    at = data.index(b",")
    data[6:10] = (8).to_bytes(2, "little") + (6).to_bytes(2, "little")
    data[at + 1 : at + 5] = (3).to_bytes(2, "little") + (1).to_bytes(2, "little")
    pixels = pixels_of(bytes(data))
    assert pixels.shape == (6, 8, 3)
    assert (pixels[1:3, 3:7] == RED).all()


def test_a_png_s_picture_for_programs_without_animations_counts(astronaut: Image.Image) -> None:
    shown, frames = astronaut, [ImageOps.invert(astronaut), ImageOps.mirror(astronaut)]
    data = encoded(shown, "PNG", frames, default_image=True)
    assert distance(pixels_of(data), shown) == 0


def test_the_first_page_of_a_tiff_counts_whatever_its_size(astronaut: Image.Image) -> None:
    small = astronaut.resize((64, 48))
    data = encoded(small, "TIFF", [astronaut])
    assert distance(pixels_of(data), small) == 0


def test_the_primary_picture_of_a_heif_counts(astronaut: Image.Image) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    other = ImageOps.invert(astronaut)
    first = encoded(astronaut, "HEIF", [other], primary_index=0)
    second = encoded(astronaut, "HEIF", [other], primary_index=1)
    assert distance(pixels_of(first), astronaut) < 4
    assert distance(pixels_of(second), other) < 4


def test_damage_after_the_first_picture_does_not_matter(astronaut: Image.Image) -> None:
    for form in ("GIF", "TIFF", "MPO"):
        alone = encoded(astronaut, form, [])
        data = encoded(astronaut, form, [ImageOps.invert(astronaut)])
        cut = data[: (len(alone) + len(data)) // 2]
        assert distance(pixels_of(cut), astronaut) < 9, form
