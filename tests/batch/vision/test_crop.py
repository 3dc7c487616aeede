from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import batch.vision.crop
from batch.records import Box, Photo, Pixels
from batch.vision.crop import REDUCING_GAP, crop, resize_photo


def _photo(pixels: Pixels, scale: int = 1) -> Photo:
    return Photo(
        Path("p.png"), Image.fromarray(pixels), pixels.shape[1] * scale, pixels.shape[0] * scale
    )


@pytest.fixture
def noise() -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_a_square_box_at_its_own_size_is_cut_out_as_it_is(noise: Pixels) -> None:
    cut = crop(_photo(noise), Box(10, 5, 16, 16, 1.0), 0.0, 16, 16, 3)
    np.testing.assert_array_equal(cut, noise[5:21, 10:26])


def test_a_tall_box_becomes_the_square_around_its_centre(noise: Pixels) -> None:
    cut = crop(_photo(noise), Box(20, 4, 8, 16, 1.0), 0.0, 16, 16, 3)
    np.testing.assert_array_equal(cut, noise[4:20, 16:32])


def test_the_margin_widens_each_side(noise: Pixels) -> None:
    cut = crop(_photo(noise), Box(20, 12, 16, 16, 1.0), 0.25, 24, 24, 3)
    np.testing.assert_array_equal(cut, noise[8:32, 16:40])


def test_boxes_are_in_pixels_of_the_file_not_of_what_was_decoded(noise: Pixels) -> None:
    cut = crop(_photo(noise, scale=4), Box(40, 20, 64, 64, 1.0), 0.0, 16, 16, 3)
    np.testing.assert_array_equal(cut, noise[5:21, 10:26])


def test_edge_pixels_are_repeated_beyond_the_edge(noise: Pixels) -> None:
    cut = crop(_photo(noise), Box(0, 0, 4, 4, 1.0), 0.5, 8, 8, 3)
    np.testing.assert_array_equal(cut[2:, 2:], noise[:6, :6])
    np.testing.assert_array_equal(cut[:2, 2:], np.broadcast_to(noise[0, :6], (2, 6, 3)))
    np.testing.assert_array_equal(cut[:2, :2], np.broadcast_to(noise[0, 0], (2, 2, 3)))


def test_the_part_of_a_box_beyond_the_edge_is_ignored(noise: Pixels) -> None:
    inside = crop(_photo(noise), Box(0, 10, 12, 30, 1.0), 0.0, 16, 16, 3)
    for beyond in (5, 50):
        box = Box(-beyond, 10, 12 + beyond, 30 + beyond, 1.0)
        np.testing.assert_array_equal(crop(_photo(noise), box, 0.0, 16, 16, 3), inside)


@pytest.mark.parametrize(
    "box", [Box(-500, -500, 20, 20, 1), Box(59.9, 39.9, 0.01, 0.01, 1), Box(-9, -9, 999, 999, 1)]
)
def test_any_box_gives_a_crop(noise: Pixels, box: Box) -> None:
    assert crop(_photo(noise), box, 0.1, 48, 48, 1).shape == (48, 48, 1)


def test_grey_is_luma(noise: Pixels) -> None:
    cut = crop(_photo(noise), Box(0, 0, 32, 32, 1.0), 0.0, 32, 32, 1)
    luma = np.asarray(Image.fromarray(noise[:32, :32]).convert("L"))
    np.testing.assert_array_equal(cut[:, :, 0], luma)


def test_half_pixels_shift_by_half_a_pixel() -> None:
    ramp = np.arange(0, 240, 4, dtype=np.uint8).reshape(1, 60, 1)
    pixels = np.ascontiguousarray(np.broadcast_to(ramp, (40, 60, 3)))
    left = crop(_photo(pixels), Box(10.0, 5, 16, 16, 1.0), 0.0, 16, 16, 3)
    shifted = crop(_photo(pixels), Box(10.5, 5, 16, 16, 1.0), 0.0, 16, 16, 3)
    np.testing.assert_array_equal(shifted.astype(int) - left, 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("box", "most"),
    [
        (Box(340, 120, 220, 300, 1.0), 0.3),
        # Beyond the edge the mean of a block of pixels goes on instead of the last one.
        (Box(0, 0, 1024, 1024, 1.0), 2.0),
        (Box(700, 600, 900, 900, 1.0), 0.5),
    ],
)
def test_a_large_face_is_reduced_before_it_is_resized(
    astronaut: Image.Image, box: Box, most: float, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Photo(Path("p.png"), astronaut.resize((1024, 1024)), 1024, 1024)
    with monkeypatch.context() as unreduced:
        unreduced.setattr(batch.vision.crop, "REDUCING_GAP", 1e9)
        slow = crop(photo, box, 0.1, 48, 48, channels)
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *args: Any, **more: Any) -> Image.Image:
        sizes.append(image.size)
        return resize(image, size, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", watched)
    fast = crop(photo, box, 0.1, 48, 48, channels)
    ((width, height),) = sizes
    assert max(width, height) < 2 * REDUCING_GAP * 48
    assert np.abs(fast.astype(int) - slow).mean() < most


def test_a_whole_photo_keeps_its_mean(noise: Pixels) -> None:
    small = resize_photo(_photo(noise), 20, 20, 3)
    assert small.shape == (20, 20, 3)
    assert abs(small.mean() - noise.mean()) < 1.5
