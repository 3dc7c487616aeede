"""The picture of an explanation shows the photo, the map and the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import batch
from batch.explaining.picture import (
    BOX,
    MARGIN,
    MIN_SCALE,
    PANEL_HEIGHT,
    find_scale,
    load_font,
    overlay_heat,
    to_ascii,
    truncate_text,
    wrap_sentences,
)
from batch.options import Options, Provider


def _redness(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    pixels = np.asarray(image).astype(np.int64)
    return pixels[..., 0] - pixels[..., 2]


def test_the_picture_shows_photo_map_and_face(photos: Path) -> None:
    explanation = batch.explain(photos / "astronaut.jpg", Options(provider=Provider.CPU))
    picture = explanation.picture()
    assert picture.width == 3 * PANEL_HEIGHT + 4 * MARGIN
    pixels = np.asarray(picture)
    boxed = (pixels == BOX).all(axis=-1)
    for left in (MARGIN, 2 * MARGIN + PANEL_HEIGHT):
        assert boxed[:, left : left + PANEL_HEIGHT].sum() > 300
    assert not boxed[:, 3 * MARGIN + 2 * PANEL_HEIGHT :].any()
    # Her face is from the 182nd to the 262nd of the photo's 440 columns, and the mouth is red.
    top = int(np.flatnonzero(boxed.any(axis=1))[0])
    of_map = picture.crop(
        (2 * MARGIN + PANEL_HEIGHT + 160, top + 8, 2 * MARGIN + PANEL_HEIGHT + 230, top + 88)
    )
    red = _redness(of_map)
    assert red[50:75].mean() > 50 + abs(red[:10].mean())


def test_red_supports_and_blue_opposes() -> None:
    grey = np.full((2, 3, 3), 128, dtype=np.uint8)
    heat = np.asarray([[-1, 0, 1], [-0.2, 0.2, 9]], dtype=np.float32)
    red = _redness(overlay_heat(grey, heat, scale=1.0))
    assert red[0, 0] < red[1, 0] < 0 == red[0, 1] < red[1, 1] < red[0, 2] == red[1, 2]


def test_a_weak_map_stays_pale() -> None:
    faint = np.full((4, 4), 0.01, dtype=np.float32)
    assert find_scale(faint) == MIN_SCALE
    assert find_scale(faint, faint * -300) == pytest.approx(3)
    red = _redness(overlay_heat(np.full((4, 4, 3), 128, dtype=np.uint8), faint, find_scale(faint)))
    assert np.abs(red).max() <= 3


@pytest.mark.parametrize("size", [(1, 300), (2000, 20), (16, 16)])
def test_photos_of_any_shape_have_a_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "orange").save(tmp_path / "odd.png")
    options = Options(provider=Provider.CPU, model="people")
    picture = batch.explain(tmp_path / "odd.png", options).picture()
    assert 200 < picture.width < 2000
    assert 200 < picture.height < 1000


def test_text_is_converted_shortened_and_wrapped() -> None:
    assert to_ascii("fröhlich, \x07\u4e2d!") == "frohlich,  ?!"
    assert truncate_text("happy", 300, 16) == "happy"
    short = truncate_text("happy" * 50, 90, 16)
    assert short.startswith("happy")
    assert short.endswith("...")
    assert load_font(16).getlength(short) <= 90
    lines = wrap_sentences(["one two three four five six seven", "and another"], 100, 16)
    assert " ".join(lines) == "one two three four five six seven and another"
    assert lines[-1] == "and another"
    assert max(map(load_font(16).getlength, lines)) <= 100
