from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from batch.models.ensemble import Thresholds
from batch.records import Status
from batch.vision.decide import decide
from trainer.evaluation.metrics import Figures
from trainer.evaluation.selective import (
    Decisions,
    augrc,
    decide_all,
    estimate_augrc,
    list_outcomes,
    measure_selective,
    merge_decisions,
    risk_coverage_curve,
    selective_to_json,
)
from trainer.evaluation.tables import format_selective

LABELS, ABSTAIN = ("happy", "sad"), ("neither", "no_person")
THRESHOLDS = Thresholds(0.6, {"neither": 0.5, "no_person": 0.3})


def decided(*rows: tuple[int, float, str]) -> Decisions:
    names = list_outcomes(LABELS, ABSTAIN)
    return Decisions(
        np.array([label for label, _, _ in rows]),
        np.array([confidence for _, confidence, _ in rows]),
        np.array([names.index(outcome) for _, _, outcome in rows]),
    )


def test_decisions_are_the_runner_s() -> None:
    answers = np.random.default_rng(1).dirichlet((1, 1, 1, 1), 200).astype(np.float32)
    made = decide_all(answers, LABELS, THRESHOLDS)
    names = list_outcomes(LABELS, ABSTAIN)
    seen = set()
    for row, outcome in zip(answers, made.outcome.tolist(), strict=True):
        answer = decide(row, LABELS, THRESHOLDS)
        said = answer.label if answer.status is Status.OK else answer.status.value
        assert names[outcome] == said
        seen.add(said)
    assert seen == {*LABELS, "unsure", *ABSTAIN}
    assert made.label.tolist() == answers[:, :2].argmax(axis=1).tolist()
    assert made.confidence == pytest.approx(answers[:, :2].max(axis=1))


def test_metrics_of_decisions_match_values_computed_by_hand() -> None:
    made = decided(
        (0, 0.9, "happy"), (0, 0.5, "unsure"), (1, 0.8, "sad"), (0, 0.3, "neither"),  # happy
        (1, 0.9, "sad"), (0, 0.7, "happy"),  # sad
        (0, 0.7, "happy"), (1, 0.2, "neither"), (1, 0.4, "unsure"),  # neither
        (1, 0.1, "no_person"), (-1, 0.0, "none"),  # no_person
    )  # fmt: skip
    targets = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    kinds = np.array(["", "", "", "", "", "", "shouting", "bored", "bored", "cats", "cats"])
    found = measure_selective(made, targets, LABELS, ABSTAIN, kinds)
    assert (found.samples, found.labelled) == (11, 6)
    assert found.always.value == pytest.approx(4 / 6)
    assert found.accuracy.value == pytest.approx(2 / 5)
    assert [estimate.value for estimate in found.coverage] == [1 / 4, 1 / 2]
    assert [estimate.value for estimate in found.answered] == [pytest.approx(1 / 3), 0]
    assert found.outcomes == ("happy", "sad", "unsure", "neither", "no_person", "none")
    assert found.confusion == (
        (1, 1, 1, 1, 0, 0),
        (1, 1, 0, 0, 0, 0),
        (1, 0, 1, 1, 0, 0),
        (0, 0, 0, 0, 1, 1),
    )
    rows = {row.kind: row for row in found.kinds}
    assert set(rows) == {"happy", "sad", "shouting", "bored", "cats"}
    assert (rows["happy"].samples, rows["happy"].ok, rows["happy"].right) == (4, 2, 1)
    assert rows["happy"].always == 3 / 4
    assert rows["cats"].always is None
    assert rows["cats"].outcomes == {"unsure": 0, "neither": 0, "no_person": 1, "none": 1}
    written = json.loads(json.dumps(selective_to_json(found), allow_nan=False))
    assert written["kinds"]["bored"]["unsure"] == 1
    assert written["coverage"]["sad"]["value"] == 0.5
    text = format_selective(found)
    assert "accuracy, if all 6 with a label get one" in text
    assert "NOTE: fewer than 30 samples of happy (4), sad (2), neither (3), no_person (2)" in text
    for row in (
        "accuracy of the 5 labels that count", "coverage of sad, 2 samples", "AUGRC, 11 samples",
        "neither with a label that counts, 3 samples",
    ):  # fmt: skip
        assert row in text
    assert "shouting" in text


def test_metrics_are_within_their_intervals() -> None:
    chance = np.random.default_rng(3)
    answers = chance.dirichlet((1, 1, 1, 1), 500).astype(np.float32)
    targets = np.where(chance.random(500) < 0.7, answers.argmax(axis=1), chance.integers(0, 4, 500))
    found = measure_selective(decide_all(answers, LABELS, THRESHOLDS), targets, LABELS, ABSTAIN)
    assert not found.kinds
    estimates = (found.always, found.accuracy, *found.coverage, *found.answered, found.augrc)
    for estimate in estimates:
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_without_any_label_that_counts_there_is_no_accuracy() -> None:
    found = measure_selective(decided((0, 0.5, "unsure")), np.array([0]), LABELS, ABSTAIN)
    figures = selective_to_json(found)
    assert figures["accuracy"] is None
    assert figures["answered"] == {"neither": None, "no_person": None}
    json.dumps(figures, allow_nan=False)


def test_the_risk_coverage_curve_starts_with_the_most_confident() -> None:
    coverage, risk = risk_coverage_curve(
        np.array([0.6, 0.9, 0.9, 0.7]), np.array([True, False, True, False])
    )
    assert coverage.tolist() == [0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0.5, 1 / 3, 0.5])


@pytest.mark.parametrize("levels", [3, 1000])
def test_augrc_matches_the_formula_with_the_auroc(levels: int) -> None:
    """Traub et al. 2024: (1 - AUROC) * accuracy * error + error**2 / 2."""
    chance = np.random.default_rng(levels)
    confidence = chance.integers(0, levels, 300) / levels
    wrong = chance.random(300) > 0.5 + confidence / 2
    right_ones, wrong_ones = confidence[~wrong][:, None], confidence[wrong]
    auroc = float(((right_ones > wrong_ones) + 0.5 * (right_ones == wrong_ones)).mean())
    error = float(wrong.mean())
    wanted = (1 - auroc) * (1 - error) * error + error**2 / 2
    assert augrc(confidence, wrong) == pytest.approx(wanted)
    found = estimate_augrc(confidence, wrong)
    assert found.low < found.value == augrc(confidence, wrong) < found.high
    assert found == estimate_augrc(confidence, wrong)


@pytest.mark.parametrize("samples", [20, 100])
def test_intervals_of_augrc_contain_its_true_value(samples: int) -> None:
    """From draws without a wrong answer a bootstrap concludes that there can be none."""
    chance = np.random.default_rng(5)

    def draw(count: int) -> tuple[Figures, npt.NDArray[np.bool_]]:
        confidence = chance.beta(30, 1, count) / 2 + 0.5
        return confidence, chance.random(count) > confidence

    truth = augrc(*draw(400_000))
    found = [estimate_augrc(*draw(samples)) for _ in range(100)]
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.92


def test_augrc_of_answers_that_are_all_right_or_all_wrong() -> None:
    confidence = np.array([0.2, 0.9, 0.5])
    assert augrc(confidence, np.zeros(3, np.bool_)) == 0
    assert augrc(confidence, np.ones(3, np.bool_)) == pytest.approx(0.5)


def test_merged_decisions_are_in_the_order_of_the_samples() -> None:
    whole = decided((0, 0.9, "happy"), (1, 0.8, "sad"), (0, 0.1, "neither"))
    first = np.array([True, False, True])
    parts = [
        (where, Decisions(whole.label[where], whole.confidence[where], whole.outcome[where]))
        for where in (first, ~first)
    ]
    joined = merge_decisions(parts)
    for name in ("label", "confidence", "outcome"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()
