from __future__ import annotations

import numpy as np
import pytest

from batch.models.ensemble import Thresholds
from batch.vision.decide import decide
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.thresholds import (
    MAX_ANSWERED,
    MIN_UNPROVEN,
    choose_thresholds,
    clopper_pearson_bound,
    find_abstentions,
    find_person_threshold,
)

LABELS, ABSTAIN = ("happy", "sad"), ("neither", "no_person")


def answers_and_targets(count: int, seed: int = 1) -> tuple[Probabilities, Targets]:
    """Draw calibrated answers, and a true class from each."""
    chance = np.random.default_rng(seed)
    answers = chance.dirichlet([0.3] * 4, count).astype(np.float32)
    targets = (answers.cumsum(axis=1) < chance.random((count, 1))).sum(axis=1)
    return answers, targets.clip(0, 3)


def test_the_bound_matches_clopper_and_pearson() -> None:
    # From published tables; with none wrong of n the bound is 1 - 0.05 ** (1 / n).
    assert clopper_pearson_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert clopper_pearson_bound(1, 10) == pytest.approx(0.3942, abs=1e-4)
    assert (clopper_pearson_bound(0, 0), clopper_pearson_bound(3, 3)) == (1.0, 1.0)


def test_the_confidence_bound_is_within_the_risk() -> None:
    answers, targets = answers_and_targets(4000)
    for risk in (0.05, 0.1):
        chosen = choose_thresholds(answers, targets, LABELS, ABSTAIN, risk)
        assert chosen.wrong / chosen.answered < chosen.bound <= risk
        assert chosen.risk == risk


def test_the_risk_holds_on_samples_that_thresholds_were_not_chosen_on() -> None:
    for seed in range(5):
        answers, targets = answers_and_targets(3000, seed)
        chosen = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.1)
        assert chosen.bound <= 0.1
        others, truth = answers_and_targets(20_000, seed + 100)
        kept = ~find_abstentions(others[:, 2:], chosen.abstain_from)
        counts = kept & (others[:, :2].max(axis=1) >= chosen.unsure_below)
        assert (others[:, :2].argmax(axis=1) != truth)[counts].mean() < 0.1


def test_more_risk_gives_more_answers() -> None:
    answers, targets = answers_and_targets(4000)
    few, many = (choose_thresholds(answers, targets, LABELS, ABSTAIN, risk) for risk in (0.02, 0.1))
    assert few.answered < many.answered
    assert all(few.coverage[label] <= many.coverage[label] for label in LABELS)


def test_the_limit_for_each_abstain_class_holds_even_if_the_risk_would_allow_more() -> None:
    # 3 % of the pictures without a person look exactly like happy people.
    happy = np.tile(np.asarray([[0.97, 0.01, 0.01, 0.01]], dtype=np.float32), (1000, 1))
    sad = happy[:, [1, 0, 2, 3]]
    nobody = np.tile(np.asarray([[0.05, 0.05, 0.1, 0.8]], dtype=np.float32), (100, 1))
    nobody[:3] = [0.9, 0.02, 0.02, 0.06]
    answers = np.concatenate([happy, sad, nobody])
    targets = np.repeat([0, 1, 3], [1000, 1000, 100])
    chosen = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.05)
    counts = ~find_abstentions(nobody[:, 2:], chosen.abstain_from)
    counts &= nobody[:, :2].max(axis=1) >= chosen.unsure_below
    assert counts.mean() <= MAX_ANSWERED["no_person"]  # type: ignore[index]


def test_the_bound_exceeds_a_risk_that_no_thresholds_keep() -> None:
    chance = np.random.default_rng(3)
    answers = chance.dirichlet([0.3] * 4, 50).astype(np.float32)
    targets = chance.integers(0, 4, 50)
    chosen = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.01)
    assert chosen.bound > chosen.risk


def test_a_model_without_abstain_outputs_has_one_threshold() -> None:
    chance = np.random.default_rng(4)
    first = chance.random(2000).astype(np.float32)
    answers = np.stack([first, 1 - first], axis=1)
    targets = (chance.random(2000) > first).astype(np.int64)
    chosen = choose_thresholds(answers, targets, LABELS, (), 0.1)
    assert chosen.abstain_from == {}
    assert 0.7 < chosen.unsure_below < 0.95


def test_people_of_each_kind_are_rarely_overlooked() -> None:
    kinds = np.repeat(["portrait", "crowd", "landscape"], [900, 100, 500])
    no_person = np.concatenate([np.full(900, 0.1), np.linspace(0, 1, 100), np.full(500, 0.9)])
    shown = kinds != "landscape"
    # 5 of 100 in crowds are at or above 0.95, and portraits, however many, do not outvote them.
    found = find_person_threshold(no_person.astype(np.float32), shown, kinds)
    assert found == 0.95
    assert find_person_threshold(no_person.astype(np.float32), kinds == "portrait", kinds) == 0.5


def test_a_threshold_can_have_a_lower_limit() -> None:
    answers, targets = answers_and_targets(2000)
    free = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.1)
    raised = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.1, {"no_person": 0.8})
    assert free.abstain_from["no_person"] < 0.8 <= raised.abstain_from["no_person"]


def test_a_sample_abstains_as_the_runner_decides() -> None:
    answers, _ = answers_and_targets(500)
    for steps in ((0.5, 0.5), (0.3, 0.6), (0.9, 0.2)):
        thresholds = Thresholds(0.5, dict(zip(ABSTAIN, steps, strict=True)))
        decided = [decide(answer, LABELS, thresholds).label is None for answer in answers]
        assert find_abstentions(answers[:, 2:], thresholds.abstain_from).tolist() == decided


def test_with_few_samples_the_observed_share_is_within_the_risk() -> None:
    answers, targets = answers_and_targets(40)
    chosen = choose_thresholds(answers, targets, LABELS, ABSTAIN, 0.1)
    assert chosen.bound > chosen.risk
    assert chosen.wrong + chosen.answered > 0
    assert chosen.wrong <= 0.1 * chosen.answered


def test_a_few_right_answers_do_not_make_every_label_count() -> None:
    confidence = np.asarray([0.55, 0.6, 0.7, 0.85, 0.9, 0.95, 0.99], dtype=np.float32)
    answers = np.stack([confidence, 1 - confidence], axis=1)
    chosen = choose_thresholds(answers, np.zeros(7, np.int64), LABELS, (), 0.05)
    assert (chosen.unsure_below, chosen.answered, chosen.wrong) == (MIN_UNPROVEN, 4, 0)


def test_if_no_thresholds_keep_the_risk_the_strictest_are_returned() -> None:
    answers = np.tile(np.asarray([[0.96, 0.02, 0.01, 0.01]], dtype=np.float32), (30, 1))
    chosen = choose_thresholds(answers, np.full(30, 3), LABELS, ABSTAIN, 0.1)
    assert (chosen.unsure_below, chosen.abstain_from["neither"]) == (0.95, 0.5)
    assert chosen.bound > chosen.risk
