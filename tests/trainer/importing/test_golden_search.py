from __future__ import annotations

import numpy as np
import pytest

from batch.models.model import MAX_GOLDEN_SAMPLES, MAX_VARIED_OUTPUTS, MIN_GOLDEN_SPREAD
from batch.records import Pixels, Probabilities
from tests.support.exported_networks import softmax
from trainer.importing import golden_search
from trainer.importing.golden_search import ConstantOutput, make_pool, search_golden_samples

SIDE = 16


def answer(pixels: Pixels, classes: int, strength: float) -> Probabilities:
    """Answer by random projections of the pixels, less the mean of the drawn pictures."""
    rng = np.random.default_rng(classes)
    weights = rng.normal(0, strength, (SIDE * SIDE * 3, classes))
    values = (pixels.reshape(len(pixels), -1) - 127.5) / 127.5
    probabilities: Probabilities = softmax(values @ weights).astype(np.float32)
    return probabilities


@pytest.mark.parametrize("classes", [2, 8, 200])
def test_the_samples_differ_in_every_output_or_in_enough_of_many(classes: int) -> None:
    names = [f"class {n}" for n in range(classes)]
    golden = search_golden_samples(
        lambda pixels: answer(pixels, classes, 0.3), names, SIDE, SIDE, 3
    )
    spread = golden.outputs.max(axis=0) - golden.outputs.min(axis=0)
    assert (spread > MIN_GOLDEN_SPREAD).sum() >= min(classes, MAX_VARIED_OUTPUTS)
    assert len(golden.inputs) <= MAX_GOLDEN_SAMPLES
    np.testing.assert_array_equal(golden.outputs, answer(golden.inputs, classes, 0.3))


def test_pictures_are_searched_for_outputs_that_no_drawn_picture_exercises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flat = np.full((2, SIDE, SIDE, 3), 127, np.uint8)
    monkeypatch.setattr(golden_search, "make_pool", lambda *_: flat)
    names = [f"class {n}" for n in range(5)]
    golden = search_golden_samples(lambda pixels: answer(pixels, 5, 0.05), names, SIDE, SIDE, 3)
    spread = golden.outputs.max(axis=0) - golden.outputs.min(axis=0)
    assert (spread > MIN_GOLDEN_SPREAD).all()


def test_a_constant_answer_has_no_samples() -> None:
    with pytest.raises(ConstantOutput) as caught:
        search_golden_samples(
            lambda pixels: np.full((len(pixels), 2), 0.5, np.float32), ("a", "b"), SIDE, SIDE, 3
        )
    assert (caught.value.low, caught.value.high) == (0.5, 0.5)
    assert caught.value.pictures > len(make_pool(SIDE, SIDE, 3))


def test_pictures_of_a_wide_input_are_wide() -> None:
    assert make_pool(8, 20, 1).shape[1:] == (8, 20, 1)
    assert make_pool(20, 8, 3).shape[1:] == (20, 8, 3)
