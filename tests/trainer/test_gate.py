from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.contract.contract import load_model
from batch.contract.model import Model
from batch.records import Region
from tests.tiny_models import bright_model, bright_spec, save
from tests.trainer.test_cli import trainer
from tests.trainer_data import drawn_dataset, tiny_export, write_folders
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.exporting.publish import publish
from trainer.gate import (
    Comparison,
    Refused,
    Require,
    check,
    check_kind,
    compare_answers,
    compare_models,
)

HERE = Path("new.onnx")
TARGETS: Targets = np.arange(1000) % 2


def right_about(share: float, seed: int, confidence: float | None = None) -> Probabilities:
    """Answers of which that share is right, as sure as they are right unless it is said."""
    right = np.random.default_rng(seed).random(len(TARGETS)) < share
    true = np.where(right, confidence or share, 1 - (confidence or share))
    probabilities = np.empty((len(TARGETS), 2), dtype=np.float32)
    probabilities[np.arange(len(TARGETS)), TARGETS] = true
    probabilities[np.arange(len(TARGETS)), 1 - TARGETS] = 1 - true
    return probabilities


def compared(candidate: Probabilities, shipped: Probabilities) -> Comparison:
    return compare_answers(candidate, shipped, TARGETS)


def test_a_clear_gain_is_better() -> None:
    comparison = compared(right_about(0.9, 1), right_about(0.8, 2))
    assert comparison.accuracy.value == pytest.approx(0.1, abs=0.03)
    assert comparison.won - comparison.lost == pytest.approx(100, abs=30)
    check(comparison, Require.BETTER, HERE)


def test_a_gain_that_chance_explains_is_none() -> None:
    shipped = right_about(0.9, 1)
    candidate = shipped.copy()
    wrong, right = (
        np.flatnonzero((shipped.argmax(axis=1) == TARGETS) == is_so) for is_so in (0, 1)
    )
    swapped = [*wrong[:12], *right[:8]]
    candidate[swapped] = candidate[swapped, ::-1]
    comparison = compared(candidate, shipped)
    assert (comparison.won, comparison.lost) == (12, 8)
    assert comparison.accuracy.low < 0 < comparison.accuracy.value
    with pytest.raises(Refused, match=r"new\.onnx is not better: the interval of its gain"):
        check(comparison, Require.BETTER, HERE)


def test_a_model_is_as_good_as_itself_but_no_better() -> None:
    same = right_about(0.9, 1)
    comparison = compared(same, same)
    assert comparison.accuracy.low == comparison.accuracy.high == 0
    assert comparison.calibration.low == comparison.calibration.high == 0
    check(comparison, Require.AS_GOOD, HERE)
    with pytest.raises(Refused, match="not better"):
        check(comparison, Require.BETTER, HERE)


def test_a_loss_is_not_as_good() -> None:
    with pytest.raises(Refused, match="is not as good"):
        check(compared(right_about(0.85, 1), right_about(0.9, 2)), Require.AS_GOOD, HERE)


def test_more_right_answers_do_not_excuse_false_confidence() -> None:
    boaster = right_about(0.9, 1, confidence=0.999)
    with pytest.raises(Refused, match="calibration error grew by"):
        check(compared(boaster, right_about(0.8, 2)), Require.BETTER, HERE)


def test_pairing_finds_what_two_separate_intervals_do_not() -> None:
    shipped = right_about(0.9, 1)
    candidate = shipped.copy()
    wrong = np.flatnonzero(shipped.argmax(axis=1) != TARGETS)[:12]
    candidate[wrong] = candidate[wrong, ::-1]
    comparison = compared(candidate, shipped)
    assert (comparison.won, comparison.lost) == (12, 0)
    # Unpaired, 12 of 1,000 lie well inside of either interval, which is 37 wide.
    assert 0 < comparison.accuracy.low < comparison.accuracy.high < 0.025


def test_classes_count_alike_however_many_samples_they_have() -> None:
    targets = np.array([0] * 90 + [1] * 10)
    always_first = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (100, 1))
    right = np.eye(2, dtype=np.float32)[targets]
    assert compare_answers(right, always_first, targets).accuracy.value == pytest.approx(0.5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    publish(tiny_export().graph, f"# tiny\n\n`{tiny_export().digest}`\n", path)
    return load_model(path)


def test_real_models_answer_the_same_samples(tiny: Model) -> None:
    data = drawn_dataset()
    comparison = compare_models(tiny, tiny, data.test, data.labels)
    assert (comparison.samples, comparison.won, comparison.lost) == (36, 0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "other"}, "its name is other, not tiny"),
        ({"labels": ("sad", "happy")}, r"list of labels is \['sad', 'happy'\]"),
        ({"region": Region.IMAGE}, "its region is image, not face"),
        ({"margin": 0.5}, "its margin is 0.5, not 0.0"),
    ],
)
def test_a_model_for_another_purpose_is_refused(
    changes: dict[str, object], said: str, tiny: Model, tmp_path: Path
) -> None:
    spec = bright_spec(**{"name": "tiny", **changes})
    other = load_model(save(bright_model(spec), tmp_path / "other.onnx"))
    with pytest.raises(Refused, match=said):
        check_kind(other, tiny)


def test_another_input_is_refused(tiny: Model) -> None:
    with pytest.raises(Refused, match="input's channels is 3, not 1"):
        check_kind(replace(tiny, channels=3), tiny)


def folder_with(shipped: bytes, path: Path) -> bytes:
    publish(shipped, "shipped card", path)
    return path.read_bytes()


def test_the_command_replaces_the_file_only_if_the_gate_opens(tiny: Model, tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 30)
    shipped = tmp_path / "models" / "tiny.onnx"
    before = folder_with(tiny.graph, shipped)
    arguments = ("gate", tiny.path, shipped, "--data", photos, "--split", "all")
    refused = trainer(*arguments)
    assert refused.exit_code == 1
    assert "is not better" in refused.stderr
    assert (shipped.read_bytes(), shipped.with_suffix(".md").read_text()) == (
        before, "shipped card",
    )  # fmt: skip
    assert trainer(*arguments, "--require", "as-good", "--dry-run").exit_code == 0
    assert shipped.with_suffix(".md").read_text() == "shipped card"
    opened = trainer(*arguments, "--require", "as-good")
    assert opened.exit_code == 0, opened.output
    assert tiny.digest in shipped.with_suffix(".md").read_text()
    assert tiny.digest in (shipped.parent / "SHA256SUMS").read_text()
