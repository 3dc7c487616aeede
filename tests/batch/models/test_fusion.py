from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from batch.models.fusion import (
    MAX_SCORE_LOG_ODDS,
    MIN_PROBABILITY,
    Fusion,
    FusionWeights,
    pack_fusion,
    score_log_odds,
    unpack_fusion,
)
from batch.records import Probabilities
from tests.support.tiny_models import bright_fusion

BOTH = FusionWeights(
    bias=(0.25, -0.25, 0.5, 1.0),
    face=0.5,
    label=2.0,
    abstain={"neither": 0.75, "no_person": 1.5},
    score=1.25,
    label_limit=1.0,
    abstain_limits={"neither": (-2.0, 1.0), "no_person": (-3.0, 2.0)},
)
PHOTO = FusionWeights(
    bias=(-0.125, 0.125, 0.0, 2.0),
    face=0.0,
    label=1.0,
    abstain={"neither": 1.0, "no_person": 0.5},
    score=0.0,
    label_limit=2.0,
    abstain_limits={"neither": (-2.0, 1.0), "no_person": (-3.0, 2.0)},
)
FUSION = Fusion(
    face_model="happy-sad",
    face_abstain=("neither",),
    both=BOTH,
    photo=PHOTO,
    alone_score=0.8,
    alone_share=0.75,
    alone_from=0.9,
    unsure_below=0.6,
    abstain_from={"neither": 0.5, "no_person": 0.3},
)
TEXT = pack_fusion(FUSION)


def _p(*probabilities: float) -> Probabilities:
    return np.asarray(probabilities, dtype=np.float32)


def _softmax(*logits: float) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def test_the_formula_for_face_and_photo() -> None:
    fused = FUSION.fuse(_p(0.5, 0.2, 0.3), 0.9, _p(0.3, 0.2, 0.1, 0.4))
    # The photo's log-probability of happy less the mean with sad: half of log(0.3 / 0.2).
    said = math.log(1.5) / 2
    expected = _softmax(
        0.25 + 0.5 * math.log(0.5) + 2.0 * said,
        -0.25 + 0.5 * math.log(0.2) - 2.0 * said,
        0.5 + 0.5 * math.log(0.3) + 0.75 * math.log(0.1 / 0.5),
        1.0 + 1.5 * math.log(0.4 / 0.5) - 1.25 * math.log(0.9 / 0.1),
    )
    assert fused == pytest.approx(expected, abs=1e-6)
    # The same by hand: the logits are 0.3089, -1.4602, -1.3091 and -2.0812.
    assert fused == pytest.approx([0.6847, 0.1167, 0.1358, 0.0627], abs=1e-4)
    assert fused.dtype == np.float32


def test_the_formula_for_a_photo_without_a_face() -> None:
    photo = _p(0.3, 0.2, 0.1, 0.4)
    said = math.log(1.5) / 2
    expected = _softmax(
        -0.125 + said,
        0.125 - said,
        math.log(0.1 / 0.5),
        2.0 + 0.5 * math.log(0.4 / 0.5),
    )
    assert FUSION.fuse(None, 0.0, photo) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(FUSION.fuse(None, 0.9, photo), FUSION.fuse(None, 0.0, photo))


def test_without_abstain_outputs_it_is_logistic_regression() -> None:
    fusion = bright_fusion(both=replace(bright_fusion().both, bias=(0.5, 0.0), face=0.25))
    fused = fusion.fuse(_p(0.8, 0.2), 0.9, _p(0.4, 0.6))
    odds = 0.5 + 0.25 * math.log(4) + math.log(0.4 / 0.6)
    assert fused == pytest.approx(_softmax(odds, 0.0), abs=1e-6)


def test_three_labels() -> None:
    rule = FusionWeights((0.0, 0.5, 0.0), 1.0, 1.0, {}, 0.0, 9.0, {})
    fused = bright_fusion(both=rule).fuse(_p(0.2, 0.3, 0.5), 1.0, _p(0.5, 0.25, 0.25))
    weights = [0.2 * 0.5, 0.3 * 0.25 * math.exp(0.5), 0.5 * 0.25]
    assert fused == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-6)


def test_abstain_outputs_of_the_face_are_found_by_name() -> None:
    """The face model's and the photo's may differ in number and order."""
    rule = FusionWeights(
        bias=(0.0, 0.0, 0.0, 0.0),
        face=1.0,
        label=0.0,
        abstain={"neither": 0.0},
        score=0.0,
        label_limit=1.0,
        abstain_limits={"neither": (0.0, 0.0)},
    )
    fusion = replace(
        FUSION,
        face_abstain=("neither", "no_person"),
        both=rule,
        abstain_from={"no_person": 0.3, "neither": 0.5},
    )
    face = _p(0.4, 0.3, 0.2, 0.1)
    assert fusion.fuse(face, 0.5, _p(0.5, 0.25, 0.25)) == pytest.approx([0.4, 0.3, 0.1, 0.2])
    assert fusion.spread_face(face) == pytest.approx([0.4, 0.3, 0.1, 0.2])


def test_the_photo_s_terms_are_clipped() -> None:
    face = _p(0.5, 0.2, 0.3)
    happy = FUSION.fuse(face, 0.5, _p(0.5, 0.0, 0.25, 0.25))
    expected = _softmax(
        0.25 + 0.5 * math.log(0.5) + 2.0 * 1.0,
        -0.25 + 0.5 * math.log(0.2) - 2.0 * 1.0,
        0.5 + 0.5 * math.log(0.3) + 0.75 * math.log(0.5),
        1.0 + 1.5 * math.log(0.5),
    )
    assert happy == pytest.approx(expected, abs=1e-6)
    for photo, neither, no_person in (
        (_p(0.5, 0.5, 0.0, 0.0), -2.0, -3.0),
        (_p(MIN_PROBABILITY, MIN_PROBABILITY, 0.5, 0.5), 1.0, 2.0),
    ):
        fused = FUSION.fuse(face, 0.5, photo)
        expected = _softmax(
            0.25 + 0.5 * math.log(0.5),
            -0.25 + 0.5 * math.log(0.2),
            0.5 + 0.5 * math.log(0.3) + 0.75 * neither,
            1.0 + 1.5 * no_person,
        )
        assert fused == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("certain", [0, 1, 2])
def test_a_face_s_certainty_is_bounded(certain: int) -> None:
    face = np.zeros(3, dtype=np.float32)
    face[certain] = 1
    fused = FUSION.fuse(face, 1.0, _p(0.25, 0.25, 0.25, 0.25))
    own = [0.5 * math.log(p) if p else 0.5 * math.log(MIN_PROBABILITY) for p in face.tolist()]
    logs = [0.25 + own[0], -0.25 + own[1], 0.5 + own[2] + 0.75 * math.log(0.5)]
    expected = _softmax(*logs, 1.0 + 1.5 * math.log(0.5) - 1.25 * MAX_SCORE_LOG_ODDS)
    assert fused == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("score", "odds"),
    [
        (-1.0, 0.0),
        (0.0, 0.0),
        (0.5, 0.0),
        (0.75, math.log(3)),
        (0.98, math.log(49)),
        (0.999, MAX_SCORE_LOG_ODDS),
        (1.0, MAX_SCORE_LOG_ODDS),
        (7.0, MAX_SCORE_LOG_ODDS),
    ],
)
def test_a_score_never_counts_against_a_face(score: float, odds: float) -> None:
    assert score_log_odds(score) == pytest.approx(odds)


def test_a_high_score_makes_no_person_less_likely() -> None:
    face, photo = _p(0.4, 0.3, 0.3), _p(0.1, 0.1, 0.1, 0.7)
    shares = [FUSION.fuse(face, score, photo)[3] for score in (0.6, 0.8, 0.9, 0.97)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 2 * shares[-1]


@pytest.mark.parametrize(
    ("face", "score", "share", "alone"),
    [
        ((0.9, 0.05, 0.05), 0.8, 0.0, True),
        ((0.05, 0.9, 0.05), 0.8, 0.0, True),
        ((0.89, 0.06, 0.05), 0.8, 0.74, False),
        ((0.89, 0.06, 0.05), 0.8, 0.75, True),
        ((0.05, 0.05, 0.9), 0.8, 0.74, False),
        ((0.05, 0.05, 0.9), 0.8, 0.75, True),
        ((0.9, 0.05, 0.05), 0.79, 0.75, False),
    ],
)
def test_when_a_face_answers_alone(
    face: tuple[float, ...], score: float, share: float, alone: bool
) -> None:
    # A float32 of 0.9 is a bit less than a Python float of 0.9.
    fusion = replace(FUSION, alone_from=float(np.float32(0.9)))
    assert fusion.answers_alone(_p(*face), score, share) is alone


def test_a_face_alone_has_the_outputs_of_the_photo() -> None:
    assert FUSION.spread_face(_p(0.5, 0.2, 0.3)).tolist() == _p(0.5, 0.2, 0.3, 0.0).tolist()
    none = bright_fusion()
    assert none.spread_face(_p(0.25, 0.75)).tolist() == [0.25, 0.75]


def test_any_numbers_give_probabilities() -> None:
    chance = np.random.default_rng(3)
    for size in (1.0, 100.0):
        for _ in range(200):
            numbers = iter(chance.uniform(-size, size, 20).tolist())
            rule = FusionWeights(
                bias=tuple(next(numbers) for _ in range(4)),
                face=next(numbers),
                label=next(numbers),
                abstain={"neither": next(numbers), "no_person": next(numbers)},
                score=next(numbers),
                label_limit=abs(next(numbers)),
                abstain_limits={"neither": (-size, size), "no_person": (-size, size)},
            )
            fusion = replace(FUSION, both=rule, photo=rule)
            face = chance.dirichlet([0.1] * 3).astype(np.float32)
            photo = chance.dirichlet([0.1] * 4).astype(np.float32)
            for fused in (fusion.fuse(face, 1.0, photo), fusion.fuse(None, 0.0, photo)):
                assert np.isfinite(fused).all()
                assert fused.sum() == pytest.approx(1)


def test_a_fusion_survives_a_round_trip() -> None:
    for fusion in (FUSION, bright_fusion(), bright_fusion(face_sha256="a1" * 32)):
        back = unpack_fusion(pack_fusion(fusion))
        assert back == fusion
        # The order of outputs is that of probabilities.
        assert list(back.abstain_from) == list(fusion.abstain_from)
        assert list(back.both.abstain) == list(fusion.both.abstain)


def _changed(**changes: Any) -> str:
    """Change entries of the fusion, or of both rules by names such as ``rule_label``."""
    values = json.loads(TEXT)
    for name, value in changes.items():
        if name.startswith("rule_"):
            for rule in ("both", "photo"):
                values[rule][name.removeprefix("rule_")] = value
        else:
            values[name] = value
    return json.dumps({name: value for name, value in values.items() if value != "gone"})


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{}", "7", "null", "fusion", '"both"', "[" * 100_000),
        _changed(face_model=7),
        _changed(face_model="gone"),
        _changed(face_sha256=7),
        _changed(face_sha256="4e826f"),
        _changed(face_sha256="A" * 64),
        _changed(face_abstain="gone"),
        _changed(face_abstain="neither"),
        _changed(face_abstain=""),
        _changed(face_abstain={}),
        _changed(face_abstain=7),
        _changed(face_abstain=[7]),
        _changed(face_abstain=["neither", "neither"]),
        _changed(face_abstain=["joy"]),
        _changed(both="gone"),
        _changed(both=[]),
        _changed(both="rule"),
        _changed(photo=None),
        _changed(another=0.5),
        _changed(alone_score="gone"),
        _changed(alone_score=1.5),
        _changed(alone_from=-0.5),
        _changed(alone_share="large"),
        _changed(alone_share=[0.5]),
        _changed(unsure_below=60),
        _changed(unsure_below=True),
        _changed(unsure_below=float("nan")),
        _changed(abstain_from={"neither": 0.5, "no_person": 1.5}),
        _changed(abstain_from={"neither": 0.5, "no_person": "0.3"}),
        _changed(abstain_from={"neither": 0.5, "no_person": 0.3, "joy": 0.5}),
        _changed(abstain_from={"neither": 0.5}),
        _changed(abstain_from=["neither", "no_person"]),
        _changed(rule_bias=0.5),
        _changed(rule_bias=[0.5, 0.5, 0.5, "0.5"]),
        _changed(rule_bias=[0.5, 0.5, 0.5, 10**400]),
        _changed(rule_face=float("inf")),
        _changed(rule_face=100.5),
        _changed(rule_label=None),
        _changed(rule_label_limit=-1),
        _changed(rule_abstain=[0.5, 0.5]),
        _changed(rule_abstain={"neither": 0.5}),
        _changed(rule_abstain_limits={"neither": [0, 1]}),
        _changed(rule_abstain_limits={"neither": [0, 1], "no_person": [1, 0]}),
        _changed(rule_abstain_limits={"neither": [0, 1], "no_person": [0]}),
        _changed(rule_abstain_limits={"neither": [0, 1], "no_person": 3}),
        _changed(rule_abstain_limits={"neither": [0, 1], "no_person": [0, float("nan")]}),
        _changed(both=json.loads(TEXT)["both"] | {"bias": [0, 0, 0]}),
        _changed(both=json.loads(TEXT)["both"] | {"abstain": {"no_person": 1, "neither": 1}}),
        # One of schema 1.
        '{"face_model": "happy-sad", "bias": -0.2, "face": 0.5, "photo": 0.9, "limit": 2.0, '
        '"unsure_below": 0.6, "photo_limit": null, "alone": null}',
    ],
)
def test_invalid_values_are_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError, KeyError, OverflowError, RecursionError)):
        unpack_fusion(text)


def test_any_other_text_is_refused_in_a_known_way_or_works() -> None:
    chance = random.Random(11)
    odd = ["", "-", "1e999", "NaN", "null", "[", "]", "{}", '"', ",", ":", "true", "9" * 30]
    taken = 0
    for _ in range(3000):
        text = TEXT
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(text))
            end = start + chance.choice([0, 1, 1, 2, 8, 30])
            text = text[:start] + chance.choice(odd) + text[end:]
        try:
            fusion = unpack_fusion(text)
        except (TypeError, ValueError, KeyError, OverflowError):
            continue
        taken += 1
        assert unpack_fusion(pack_fusion(fusion)) == fusion
        if len(fusion.both.bias) == 4 and len(fusion.both.abstain) == 2:
            for each in (fusion.fuse(_p(0.5, 0.2, 0.3), 0.9, _p(0.3, 0.2, 0.1, 0.4)),
                         fusion.fuse(None, 0.0, _p(0.3, 0.2, 0.1, 0.4))):  # fmt: skip
                assert np.isfinite(each).all()
    assert 20 < taken < 1500
