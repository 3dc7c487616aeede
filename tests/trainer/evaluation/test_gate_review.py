from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from batch.errors import InputError, UsageError
from batch.models.contract import load_model
from batch.models.model import Model
from tests.support.tiny_models import bright_model, save_model
from trainer.datasets.dataset import Split
from trainer.evaluation.exported_models import open_model
from trainer.evaluation.gate import compare_predictions, compare_reviewed
from trainer.evaluation.gate_checks import (
    CandidateRejected,
    Comparison,
    Requirement,
    judge_reviewed,
    require_passed,
)
from trainer.evaluation.metrics import Probabilities, Targets, sign_test

HERE = Path("new.onnx")


def paired(both: int, won: int, lost: int) -> Comparison:
    """Compare two models by the number of samples that both, or only one, get right."""
    targets = np.arange(both + won + lost) % 2
    new = np.array([True] * (both + won) + [False] * lost)
    old = np.array([True] * both + [False] * won + [True] * lost)
    return compare_predictions(
        _answers(new, targets), _answers(old, targets), targets, ("happy", "sad")
    )


def _answers(right: npt.NDArray[np.bool_], targets: Targets) -> Probabilities:
    confidence = max(0.51, float(right.mean()))
    chosen = np.eye(2, dtype=bool)[np.where(right, targets, 1 - targets)]
    return np.where(chosen, confidence, 1 - confidence).astype(np.float32)


BETTER, SAME, WORSE = paired(5, 6, 0), paired(10, 2, 1), paired(5, 0, 6)
DATA_BETTER, DATA_SAME, DATA_WORSE = paired(900, 60, 10), paired(990, 3, 3), paired(900, 10, 60)


@pytest.mark.parametrize(
    ("wins", "losses", "chance"),
    [(0, 0, 1.0), (6, 0, 1 / 64), (0, 6, 1.0), (5, 1, 7 / 64), (3, 3, 42 / 64)],
)
def test_the_sign_test_is_exact(wins: int, losses: int, chance: float) -> None:
    assert sign_test(wins, losses) == pytest.approx(chance)


def test_the_sign_test_takes_large_counts() -> None:
    assert sign_test(2000, 2000) == pytest.approx(0.5, abs=0.01)
    assert sign_test(2500, 2000) < 1e-6


@pytest.mark.parametrize(
    ("reviewed", "usual", "require"),
    [
        (BETTER, None, Requirement.BETTER),
        (BETTER, DATA_SAME, Requirement.BETTER),
        (SAME, DATA_BETTER, Requirement.BETTER),
        (SAME, DATA_SAME, Requirement.AS_GOOD),
        (BETTER, DATA_SAME, Requirement.AS_GOOD),
        # The few photos that are held out of a small folder can't show a gain, or no loss.
        (BETTER, paired(3, 0, 0), Requirement.BETTER),
        (paired(5, 4, 0), paired(20, 3, 0), Requirement.BETTER),
    ],
)
def test_a_candidate_is_accepted(
    reviewed: Comparison, usual: Comparison | None, require: Requirement
) -> None:
    require_passed(judge_reviewed(reviewed, usual, require), HERE)


@pytest.mark.parametrize(
    ("reviewed", "usual", "require", "said"),
    [
        (WORSE, None, Requirement.BETTER, "is worse on the reviewed samples"),
        (WORSE, DATA_BETTER, Requirement.BETTER, "is worse on the reviewed samples"),
        (
            SAME,
            None,
            Requirement.BETTER,
            "of 13 reviewed samples, 2 are right only with the candidate and 1 only with",
        ),
        (SAME, DATA_SAME, Requirement.BETTER, "is not better"),
        (BETTER, DATA_WORSE, Requirement.BETTER, "is not as good"),
        (BETTER, paired(20, 0, 1), Requirement.BETTER, "of 32 samples, 6 are right only with"),
        (paired(5, 20, 0), paired(2, 0, 6), Requirement.BETTER, "worse on the samples of the data"),
        (SAME, DATA_WORSE, Requirement.AS_GOOD, "is not as good"),
    ],
)
def test_a_candidate_is_rejected(
    reviewed: Comparison, usual: Comparison | None, require: Requirement, said: str
) -> None:
    with pytest.raises(CandidateRejected, match=said):
        require_passed(judge_reviewed(reviewed, usual, require), HERE)


def test_few_reviewed_samples_prove_no_model_as_good() -> None:
    with pytest.raises(UsageError, match="add --data"):
        require_passed(judge_reviewed(BETTER, None, Requirement.AS_GOOD), HERE)


def test_without_a_held_out_sample_there_is_nothing_to_compare_on() -> None:
    model = open_model("happy-sad")
    with pytest.raises(InputError, match="no reviewed sample is held out"):
        compare_reviewed(model, model, None, model.spec.labels)


def test_a_model_without_an_abstain_output_is_wrong_on_samples_of_that_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bright = load_model(save_model(bright_model(), tmp_path / "bright.onnx"))
    able = replace(bright, spec=replace(bright.spec, abstain_from={"neither": 0.5}))
    levels = np.asarray([250, 250, 5, 128, 90], np.uint8)
    pixels = np.tile(levels[:, None, None, None], (1, bright.height, bright.width, 1))
    labels = ("anger", "happy", "sad", "neither")
    votes = np.eye(4, dtype=np.float32)[[1, 2, 2, 3, 0]]
    held = Split(pixels, votes, np.ones(5, np.bool_))

    def answer(model: Model, part: Split) -> Probabilities:
        happy = part.pixels.mean(axis=(1, 2, 3)) / 255
        both = np.stack([happy, 1 - happy], axis=1)
        grey = (np.abs(happy - 0.5) < 0.1)[:, None] * 0.9
        if not model.spec.abstain:
            return both.astype(np.float32)
        return np.hstack([both * (1 - grey), grey]).astype(np.float32)

    monkeypatch.setattr("trainer.evaluation.gate.predict_model", answer)
    found = compare_reviewed(able, bright, held, labels)
    assert (found.samples, found.won, found.lost) == (4, 1, 0), "neither has anger"
    found = compare_reviewed(bright, able, held, labels)
    assert (found.samples, found.won, found.lost) == (4, 0, 1)
    found = compare_reviewed(able, bright, replace(held, votes=votes[:, :3]), labels[:3])
    assert found.samples == 3, "of data without such a class"
