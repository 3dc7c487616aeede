from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from batch.models.ensemble import Thresholds
from trainer.datasets.dataset import Pixels, Split
from trainer.evaluation import corruptions
from trainer.evaluation.corruptions import (
    corruptions_to_json,
    list_corruptions,
    measure_corruptions,
)
from trainer.evaluation.metrics import Probabilities
from trainer.evaluation.tables import format_corruptions

LABELS = ("dark", "bright")
THRESHOLDS = Thresholds(0.6, {})


def corrupt(name: str, *pictures: Pixels) -> Pixels:
    """Apply the corruption of this name to pictures of one size."""
    side = pictures[0].shape[0]
    found = {corruption.name: corruption for corruption in list_corruptions(side)}
    return found[name].apply(np.stack(pictures))


def flat(level: int, side: int = 48, channels: int = 1) -> Pixels:
    return np.full((side, side, channels), level, np.uint8)


def measure_spread(picture: Pixels) -> list[float]:
    """Compute the variances of a bright spot along x and y, and their covariance."""
    weights = picture[:, :, 0].astype(np.float64)
    y, x = np.indices(weights.shape)
    right, down = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    terms = (right * right, down * down, right * down)
    return [float(np.average(term, weights=weights)) for term in terms]


@pytest.fixture
def face(astronaut: Image.Image) -> Pixels:
    return np.asarray(astronaut.crop((150, 30, 310, 190)))


def test_a_stop_doubles_or_halves_the_light() -> None:
    # In sRGB, grey 188 is half of white's light, 137 a quarter, 99 an eighth, 71 a sixteenth.
    half, small = flat(188), flat(71)
    assert np.unique(corrupt("darker by 2 stops", half)).tolist() == [99]
    assert np.unique(corrupt("brighter by 1 stop", small)).tolist() == [99]
    assert np.unique(corrupt("brighter by 2 stops", small)).tolist() == [137]
    assert np.unique(corrupt("brighter by 1 stop", half)).tolist() == [255]


@pytest.mark.parametrize(("name", "sigma"), [("blur, sigma 1.0 px", 1), ("blur, sigma 2.0 px", 2)])
def test_a_blur_has_the_stated_width(name: str, sigma: float) -> None:
    spot = flat(0)
    spot[20:28, 20:28] = 255
    before, after = measure_spread(spot), measure_spread(corrupt(name, spot)[0])
    assert after[0] - before[0] == pytest.approx(sigma**2, rel=0.1)
    assert after[1] - before[1] == pytest.approx(sigma**2, rel=0.1)


def test_a_lower_resolution_has_no_finer_detail() -> None:
    lines = flat(0)
    lines[::2] = 200
    assert np.ptp(corrupt("resolution of 24 px", lines)[0, 4:-4]) <= 1
    wide = flat(0)
    wide[:24] = 200
    found = corrupt("resolution of 24 px", wide)[0, :, 0, 0].astype(int)
    assert (found[:20] == 200).all()
    assert (found[28:] == 0).all()


def test_noise_has_the_stated_deviation_and_is_the_same_every_time() -> None:
    grey = flat(128, channels=3)
    first, second = corrupt("noise, sigma 25 grey levels", grey, grey).astype(float)
    assert np.std(first - 128) == pytest.approx(25, rel=0.05)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.1
    assert np.array_equal(first, corrupt("noise, sigma 25 grey levels", grey)[0])


def test_a_lower_jpeg_quality_changes_more(face: Pixels) -> None:
    errors = [
        float(np.abs(corrupt(name, face)[0].astype(int) - face).mean())
        for name in ("JPEG quality 25", "JPEG quality 10")
    ]
    assert 0 < errors[0] < errors[1] < 30


def test_pictures_turn_by_the_stated_angle_one_way_and_the_other() -> None:
    bar = flat(0, 49)
    bar[22:27, 10:39] = 255
    for angle in (15, 30):
        for turned, sign in zip(
            corrupt(f"rotation by {angle} degrees", bar, bar), (1, -1), strict=True
        ):
            xx, yy, xy = measure_spread(turned)
            found = math.degrees(math.atan2(2 * xy, xx - yy)) / 2
            assert found == pytest.approx(sign * angle, abs=1.5)
    assert np.unique(corrupt("rotation by 30 degrees", flat(77))).tolist() == [77]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_corruption_keeps_shape_and_type_and_changes_the_picture(
    channels: int, face: Pixels
) -> None:
    picture = face[:, :, :channels]
    for corruption in list_corruptions(len(picture)):
        found = corruption.apply(picture[None])
        assert found.shape == (1, *picture.shape)
        assert found.dtype == np.dtype(np.uint8)
        assert not np.array_equal(found[0], picture), corruption.name
    assert len({corruption.name for corruption in list_corruptions(48)}) == 14


def make_grey_split(levels: list[int], bright: list[bool]) -> Split:
    return Split(
        pixels=np.stack([flat(level, 16) for level in levels]),
        votes=np.eye(2, dtype=np.float32)[np.asarray(bright, dtype=int)],
        certain=np.ones(len(levels), np.bool_),
    )


def classify_by_mean(pixels: Pixels) -> Probabilities:
    """Say bright with the mean grey level as the probability."""
    bright = pixels.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def test_accuracy_change_and_what_is_ok_are_counted() -> None:
    part = make_grey_split([188, 188, 188, 71], [True, True, True, False])
    found = measure_corruptions(classify_by_mean, part, LABELS, THRESHOLDS)
    assert (found.samples, found.of) == (4, 4)
    rows = {row.name: row for row in found.rows}
    unchanged, darker = rows["none"], rows["darker by 2 stops"]
    assert (unchanged.accuracy.value, unchanged.ok.value, unchanged.right.value) == (1, 1, 1)
    assert (unchanged.change.low, unchanged.change.high) == (0, 0)
    # 188 becomes 99: dark with a probability of 0.61.
    assert (darker.accuracy.value, darker.change.value) == (0.25, -0.75)
    assert (darker.ok.value, darker.right.value) == (1, 0.25)
    # 71 becomes 99 too, with the right answer; 188 becomes white.
    assert rows["brighter by 1 stop"].accuracy.value == 1
    # 71 becomes 137: bright, but unsure.
    brighter = rows["brighter by 2 stops"]
    assert (brighter.accuracy.value, brighter.ok.value, brighter.right.value) == (0.75, 0.75, 1)
    assert corruptions_to_json(found)["rows"]["darker by 2 stops"]["change"]["value"] == -0.75
    text = format_corruptions(found)
    assert "4 samples, corrupted" in text
    assert "-75.0" in text


def test_the_change_is_paired_by_sample() -> None:
    levels = [188, 188] * 200
    part = make_grey_split(levels, [n % 2 == 0 for n in range(len(levels))])
    rows = measure_corruptions(classify_by_mean, part, LABELS, THRESHOLDS).rows
    blurred = next(row for row in rows if row.name.startswith("blur"))
    # No answer changes, so the change is known better than the accuracy of half.
    assert blurred.change.value == 0
    assert -0.01 < blurred.change.low < 0 < blurred.change.high < 0.01
    assert blurred.accuracy.low < 0.47 < 0.53 < blurred.accuracy.high


def test_a_change_on_few_samples_has_a_wide_interval() -> None:
    part = make_grey_split([188, 188, 71], [True, True, False])
    rows = {r.name: r for r in measure_corruptions(classify_by_mean, part, LABELS, THRESHOLDS).rows}
    same, worse = rows["brighter by 1 stop"].change, rows["darker by 2 stops"].change
    assert same.value == 0
    assert same.low < -0.5
    assert same.high > 0.5
    assert worse.low < worse.value == -2 / 3
    assert worse.high > 0


def test_without_a_label_that_counts_there_is_no_share_of_right_ones() -> None:
    part = make_grey_split([137, 137], [True, True])
    found = measure_corruptions(classify_by_mean, part, LABELS, THRESHOLDS)
    assert math.isnan(found.rows[0].right.value)
    assert corruptions_to_json(found)["rows"]["none"]["right"] is None
    assert "nan" not in format_corruptions(found)


def test_many_samples_are_drawn_the_same_way_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "MAX_SAMPLES", 10)
    part = make_grey_split(list(range(0, 250, 5)), [False] * 50)
    shown: list[list[int]] = []

    def classify(pixels: Pixels) -> Probabilities:
        shown.append(pixels[:, 0, 0, 0].tolist())
        return classify_by_mean(pixels)

    for _ in range(2):
        found = measure_corruptions(classify, part, LABELS, THRESHOLDS)
    assert (found.samples, found.of) == (10, 50)
    assert shown[0] == shown[len(shown) // 2]
    assert len(set(shown[0])) == 10
    assert "10 samples, drawn from 50, corrupted" in format_corruptions(found)
