from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import batch.vision.crop
from batch.models.model import ResizeRule
from batch.records import Box, Photo, Pixels
from batch.vision.crop import PADDING_LEVEL, REDUCING_GAP, crop, fit_frame, resize_photo


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


# Height and width of a photo, and of an input.
SHAPES = [((300, 500), (20, 20)), ((500, 300), (20, 20)), ((90, 90), (16, 32)), ((40, 400), (7, 6))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "target"), SHAPES)
def test_crop_takes_the_centre_as_pillow_does(
    astronaut: Image.Image, size: tuple[int, int], target: tuple[int, int], channels: int
) -> None:
    picture = astronaut.convert("RGB").resize(size[::-1])
    mode = "L" if channels == 1 else "RGB"
    expected = ImageOps.fit(picture.convert(mode), target[::-1], Image.Resampling.BILINEAR)
    found = resize_photo(_photo(np.asarray(picture)), *target, channels, "crop")
    assert found.shape == (*target, channels)
    assert np.abs(found.squeeze().astype(int) - np.asarray(expected)).mean() < 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "target"), SHAPES)
def test_letterbox_pads_with_black_as_pillow_does(
    astronaut: Image.Image, size: tuple[int, int], target: tuple[int, int], channels: int
) -> None:
    picture = astronaut.convert("RGB").resize(size[::-1]).point(lambda level: max(level, 40))
    mode = "L" if channels == 1 else "RGB"
    expected = ImageOps.pad(
        picture.convert(mode), target[::-1], Image.Resampling.BILINEAR, color=PADDING_LEVEL
    )
    found = resize_photo(_photo(np.asarray(picture)), *target, channels, "letterbox")
    assert found.shape == (*target, channels)
    assert np.abs(found.squeeze().astype(int) - np.asarray(expected)).mean() < 1
    np.testing.assert_array_equal(found.squeeze() == 0, np.asarray(expected) == 0)


def test_a_face_s_square_fills_a_square_input_by_every_rule(noise: Pixels) -> None:
    box = Box(20, 12, 16, 16, 1.0)
    stretched = crop(_photo(noise), box, 0.25, 12, 12, 3, "stretch")
    for rule in ResizeRule:
        cut = crop(_photo(noise), box, 0.25, 12, 12, 3, rule)
        np.testing.assert_array_equal(cut, stretched)


def test_a_face_in_a_wide_input_is_cut_or_padded(noise: Pixels) -> None:
    box = Box(20, 12, 16, 16, 1.0)
    cut = crop(_photo(noise), box, 0.0, 8, 16, 3, "crop")
    np.testing.assert_array_equal(cut, noise[16:24, 20:36])
    padded = crop(_photo(noise), box, 0.0, 16, 32, 3, "letterbox")
    np.testing.assert_array_equal(padded[:, 8:24], noise[12:28, 20:36])
    assert not padded[:, :8].any()
    assert not padded[:, 24:].any(), "no pixels from beside the face"


@pytest.mark.parametrize("rule", ResizeRule)
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (3, 2)])
def test_every_rule_takes_a_photo_of_any_shape(rule: ResizeRule, size: tuple[int, int]) -> None:
    photo = _photo(np.full((*size, 3), 200, np.uint8))
    for target in ((16, 16), (5, 48)):
        found = resize_photo(photo, *target, 3, rule)
        assert found.shape == (*target, 3)
        assert found.max() == 200
        left, top, right, bottom = fit_frame((0, 0, size[1], size[0]), *target, rule)
        assert right > left
        assert bottom > top


def test_the_frame_of_a_rule_is_what_the_input_shows() -> None:
    whole = (0.0, 0.0, 400.0, 200.0)
    assert fit_frame(whole, 10, 10, "stretch") == whole
    assert fit_frame(whole, 10, 10, "crop") == (100, 0, 300, 200)
    # 10 columns and 5 rows, with 2 rows of black above and 3 below.
    assert fit_frame(whole, 10, 10, "letterbox") == (0, -80, 400, 320)
