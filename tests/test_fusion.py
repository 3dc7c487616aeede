from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from batch.fusion import Fusion, pack_fusion, unpack_fusion

FUSION = Fusion("happy-sad", bias=-0.2, face=0.5, photo=0.9, limit=2.0, unsure_below=0.6)


def _p(first: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.asarray([first, 1 - first], dtype=np.float32)


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def test_the_formula() -> None:
    fused = FUSION.fuse(_p(0.7), _p(0.4))
    odds = -0.2 + 0.5 * math.log(0.7 / 0.3) + 0.9 * math.log(0.4 / 0.6)
    assert fused == pytest.approx([_logistic(odds), 1 - _logistic(odds)], abs=1e-6)


def test_no_face_counts_nothing() -> None:
    assert FUSION.fuse(None, _p(0.5))[0] == pytest.approx(_logistic(-0.2), abs=1e-6)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certainty_is_cut_off(certain: float) -> None:
    odds = -0.2 + (1.4 * 2.0 if certain else -1.4 * 2.0)
    assert FUSION.fuse(_p(certain), _p(certain))[0] == pytest.approx(_logistic(odds), abs=1e-6)


def test_a_photo_beside_a_face_is_held_back() -> None:
    fusion = replace(FUSION, photo_limit=0.5)
    fused = fusion.fuse(_p(0.7), _p(0.01))
    assert fused[0] == pytest.approx(_logistic(-0.2 + 0.5 * math.log(0.7 / 0.3) - 0.45), abs=1e-6)
    assert fusion.fuse(None, _p(0.01))[0] == pytest.approx(_logistic(-0.2 - 1.8), abs=1e-6)


def test_a_sure_face_answers_alone() -> None:
    fusion = replace(FUSION, alone=2.0)
    sure, doubtful = _p(_logistic(-2.01)), _p(_logistic(1.99))
    assert fusion.answers_alone(sure)
    assert not fusion.answers_alone(doubtful)
    assert not FUSION.answers_alone(sure)
    np.testing.assert_array_equal(fusion.fuse(sure, _p(0.99)), sure)
    np.testing.assert_array_equal(fusion.fuse(doubtful, _p(0.1)), FUSION.fuse(doubtful, _p(0.1)))


def test_face_first_mixes_nothing() -> None:
    fusion = Fusion("happy-sad", bias=0.0, face=1.0, photo=0.0, limit=8.0, unsure_below=0.6)
    assert fusion.face_first
    assert not FUSION.face_first
    np.testing.assert_array_equal(fusion.fuse(_p(0.7), _p(0.1)), _p(0.7))
    np.testing.assert_array_equal(fusion.fuse(None, _p(0.1)), _p(0.1))


def test_it_comes_back_as_it_was_written() -> None:
    assert unpack_fusion(pack_fusion(FUSION)) == FUSION
    bounded = replace(FUSION, photo_limit=1.0, alone=2.0)
    assert unpack_fusion(pack_fusion(bounded)) == bounded


def test_one_from_before_there_were_bounds_has_none() -> None:
    bounds = ', "photo_limit": null, "alone": null'
    assert bounds in pack_fusion(FUSION)
    assert unpack_fusion(pack_fusion(FUSION).replace(bounds, "")) == FUSION


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "fusion",
        pack_fusion(FUSION).replace("0.5", "NaN"),
        pack_fusion(FUSION).replace("0.5", '"much"'),
        pack_fusion(FUSION).replace("2.0", "-1"),
        pack_fusion(FUSION).replace("0.6", "60"),
        pack_fusion(replace(FUSION, alone=-3.0)),
        pack_fusion(replace(FUSION, photo_limit=0.0)),
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        unpack_fusion(text)
