"""Size and power of the gate, on simulated pairs of models with known differences."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import binom

from batch.page.review_sets import SAMPLE_SIZE
from tests.conftest import REPOSITORY
from trainer.evaluation.gate_checks import (
    CLASS_LEVEL,
    SIGNIFICANCE_LEVEL,
    Comparison,
    PairedCounts,
    Requirement,
    class_margin,
    judge_comparison,
    judge_reviewed,
)
from trainer.evaluation.metrics import Estimate, non_inferiority_test

PAIRS = 1000
SAME = Estimate(0.0, -0.01, 0.01)
# FER+'s test part: samples of each class, and the share of them on which two models differ.
FERPLUS = {
    "neutral": (1083, 0.06),
    "happiness": (892, 0.02),
    "surprise": (394, 0.05),
    "sadness": (382, 0.08),
    "anger": (269, 0.07),
    "disgust": (16, 0.25),
    "fear": (86, 0.18),
    "contempt": (15, 0.30),
}
FOLDERS = {"happy": (100, 0.1), "sad": (100, 0.1)}


def acceptance(
    classes: dict[str, tuple[int, float]], gain: dict[str, float], require: Requirement
) -> float:
    """Return the share of simulated candidates with these true gains that the gate accepts."""
    chance = np.random.default_rng(7)
    drawn = {}
    for name, (samples, differing) in classes.items():
        shift = gain.get(name, 0.0)
        share = max(differing, abs(shift))
        parts = ((share + shift) / 2, (share - shift) / 2, 1 - share)
        drawn[name] = chance.multinomial(samples, parts, size=PAIRS)
    accepted = 0
    for pair in range(PAIRS):
        counts = tuple(
            PairedCounts(name, classes[name][0], int(of[pair, 0]), int(of[pair, 1]))
            for name, of in drawn.items()
        )
        won, lost = sum(of.won for of in counts), sum(of.lost for of in counts)
        total = sum(of.samples for of in counts)
        comparison = Comparison(total, won, lost, counts, SAME, SAME)
        accepted += not any(check.problem for check in judge_comparison(comparison, require))
    return accepted / PAIRS


def everywhere(gain: float, classes: dict[str, tuple[int, float]] = FERPLUS) -> dict[str, float]:
    return dict.fromkeys(classes, gain)


def test_an_equal_model_is_rarely_better_and_usually_as_good() -> None:
    assert acceptance(FERPLUS, {}, Requirement.BETTER) <= 0.03
    assert acceptance(FERPLUS, {}, Requirement.AS_GOOD) >= 0.8


def test_a_worse_model_is_rarely_accepted() -> None:
    assert acceptance(FERPLUS, everywhere(-0.01), Requirement.BETTER) == 0
    assert acceptance(FERPLUS, everywhere(-0.02), Requirement.AS_GOOD) <= 0.06
    assert acceptance(FOLDERS, everywhere(-0.02, FOLDERS), Requirement.AS_GOOD) <= 0.06


def test_a_gain_of_115_against_63_is_usually_accepted() -> None:
    """Of 178 differing answers 115 are right by the candidate: p = 6e-5."""
    assert acceptance(FERPLUS, everywhere(52 / 3137), Requirement.BETTER) >= 0.8


def test_a_gain_elsewhere_does_not_excuse_a_lost_class() -> None:
    gain = everywhere(0.025)
    assert acceptance(FERPLUS, gain | {"fear": -0.1}, Requirement.BETTER) <= 0.15
    assert acceptance(FERPLUS, gain | {"fear": -0.15}, Requirement.BETTER) <= 0.02
    trade = everywhere(0.05) | {"neutral": 0.12, "happiness": -0.1}
    assert acceptance(FERPLUS, trade, Requirement.BETTER) == 0


@pytest.mark.parametrize("samples", [50, 100, 400])
@pytest.mark.parametrize("differing", [0.15, 0.3])
def test_a_class_that_loses_the_margin_passes_at_the_level_of_the_test(
    samples: int, differing: float
) -> None:
    margin = class_margin(samples)
    parts = ((differing - margin) / 2, (differing + margin) / 2, 1 - differing)
    drawn = np.random.default_rng(3).multinomial(samples, parts, size=PAIRS)
    passed = [
        non_inferiority_test(int(won), int(lost), samples, margin) <= CLASS_LEVEL
        for won, lost, _ in drawn
    ]
    assert np.mean(passed) <= CLASS_LEVEL + 0.03


def test_no_differing_answer_proves_only_what_the_number_of_samples_allows() -> None:
    assert non_inferiority_test(0, 0, 133, 0.02) <= 0.05 < non_inferiority_test(0, 0, 132, 0.02)
    assert non_inferiority_test(0, 0, 0, 0.02) == 1
    assert non_inferiority_test(0, 0, 20, 1) < 1e-6
    assert non_inferiority_test(0, 20, 20, 1) == 1


def accept_reviewed(samples: int, gain: float, lost: float) -> float:
    """Return the probability that the gate accepts a candidate by reviewed samples alone.

    ``lost`` is the share of photos that only the current model gets right.
    """
    differing = np.arange(1, samples + 1)
    # The fewest wins among so many differing answers that pass, by the exact sign test.
    needed = binom.isf(SIGNIFICANCE_LEVEL, differing, 0.5) + 1
    passed = binom.sf(needed - 1, differing, (lost + gain) / (2 * lost + gain))
    return float((binom.pmf(differing, samples, 2 * lost + gain) * passed).sum())


def test_the_documented_number_of_reviewed_photos_lets_most_better_models_pass() -> None:
    text = (REPOSITORY / "docs" / "loop.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) points \| (\d) % \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for gain, lost, photos, pages in (map(int, row) for row in rows):
        assert photos == pages * SAMPLE_SIZE
        chances = (accept_reviewed(photos - less, gain / 100, lost / 100) for less in (0, 50))
        enough, fewer = chances
        assert fewer < 0.8 <= enough
    for counts in ((6, 0), (5, 0), (8, 1), (7, 1)):
        comparison = Comparison(50, *counts, (), SAME, SAME)
        (check,) = judge_reviewed(comparison, None, Requirement.BETTER)
        assert bool(check.problem) == (counts in ((5, 0), (7, 1)))
