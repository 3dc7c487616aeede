from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.models.contract import load_model
from batch.models.model import Model
from batch.models.shipped import list_shipped_models
from batch.records import Region
from tests.support.tiny_models import bright_model, bright_spec, save_model
from tests.support.trainer_data import (
    abstaining_training,
    drawn_dataset,
    tiny_export,
    write_folders,
)
from tests.trainer.cli.test_cli import trainer
from trainer.evaluation import gate_checks
from trainer.evaluation.exported_models import open_model
from trainer.evaluation.gate import (
    _compare_decisions,
    check_compatible,
    check_pair,
    compare_models,
    compare_predictions,
)
from trainer.evaluation.gate_checks import (
    CandidateRejected,
    Comparison,
    PairedCounts,
    Requirement,
    judge_comparison,
    require_passed,
)
from trainer.evaluation.metrics import Estimate, Probabilities, Targets
from trainer.evaluation.selective import Decisions
from trainer.evaluation.tables import format_checks, format_comparison
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.publish_model import publish_model

HERE = Path("new.onnx")
TARGETS: Targets = np.arange(1000) % 2
LABELS = ("happy", "sad")


def right_about(share: float, seed: int, confidence: float | None = None) -> Probabilities:
    """Draw answers of which a share is right; this share is their confidence by default."""
    right = np.random.default_rng(seed).random(len(TARGETS)) < share
    true = np.where(right, confidence or share, 1 - (confidence or share))
    probabilities = np.empty((len(TARGETS), 2), dtype=np.float32)
    probabilities[np.arange(len(TARGETS)), TARGETS] = true
    probabilities[np.arange(len(TARGETS)), 1 - TARGETS] = 1 - true
    return probabilities


def compared(candidate: Probabilities, shipped: Probabilities) -> Comparison:
    return compare_predictions(candidate, shipped, TARGETS, LABELS)


def check_comparison(comparison: Comparison, require: Requirement, candidate: Path) -> None:
    require_passed(judge_comparison(comparison, require), candidate)


def test_a_clear_gain_is_better() -> None:
    comparison = compared(right_about(0.9, 1), right_about(0.8, 2))
    assert comparison.accuracy.value == pytest.approx(0.1, abs=0.03)
    assert comparison.won - comparison.lost == pytest.approx(100, abs=30)
    check_comparison(comparison, Requirement.BETTER, HERE)


def test_a_gain_within_sampling_error_is_not_better() -> None:
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
    with pytest.raises(
        CandidateRejected,
        match=r"new\.onnx is not better: of 1,000 samples, 12 are right only with the candidate "
        r"and 8 only with the current model, and that is within sampling error \(p = 0\.25, "
        r"needed 0\.025\)",
    ):
        check_comparison(comparison, Requirement.BETTER, HERE)


def test_a_model_is_as_good_as_itself_but_not_better() -> None:
    same = right_about(0.9, 1)
    comparison = compared(same, same)
    # Equal answers do not prove that no answer can differ.
    assert comparison.accuracy.low < comparison.accuracy.value == 0 < comparison.accuracy.high
    assert comparison.calibration.low == comparison.calibration.high == 0
    check_comparison(comparison, Requirement.AS_GOOD, HERE)
    with pytest.raises(CandidateRejected, match="not better"):
        check_comparison(comparison, Requirement.BETTER, HERE)


def test_a_loss_beyond_sampling_error_is_not_called_one_within_it() -> None:
    with pytest.raises(
        CandidateRejected, match=r"is worse: of 1,000 samples, .* more than sampling"
    ):
        check_comparison(
            compared(right_about(0.85, 1), right_about(0.9, 2)), Requirement.BETTER, HERE
        )


def test_a_loss_is_not_as_good() -> None:
    with pytest.raises(CandidateRejected, match="is not as good"):
        check_comparison(
            compared(right_about(0.85, 1), right_about(0.9, 2)), Requirement.AS_GOOD, HERE
        )


def test_too_few_samples_for_as_good_say_how_many_it_takes() -> None:
    """The documented number is that of the test."""
    same = right_about(0.9, 1)
    for samples, needed in ((14, True), (132, True), (133, False)):
        few = compare_predictions(same[:samples], same[:samples], TARGETS[:samples], LABELS)
        check, *_ = judge_comparison(few, Requirement.AS_GOOD)
        assert bool(check.problem) == needed
        assert check.remedy.startswith("the current model stays; give 133 or more") == needed
    few = Comparison(20, 1, 0, (PairedCounts("happy", 20, 1, 0),), same_as(0), same_as(0))
    check, *_ = judge_comparison(few, Requirement.AS_GOOD)
    assert check.problem.startswith(
        "can't be shown to be as good: of 20 samples, 1 is right only with the candidate and 0 "
        "only with the current model, and with fewer than 133 samples a loss of 2.0% is never "
        "excluded"
    )
    # A loss that few samples show needs a better candidate, not more samples.
    worse = replace(few, classes=(PairedCounts("happy", 20, 0, 8),))
    check, *_ = judge_comparison(worse, Requirement.AS_GOOD)
    assert check.problem.startswith("is not as good: of 20 samples, 0 are right only with the")
    assert "train longer" in check.remedy


def same_as(value: float) -> Estimate:
    return Estimate(value, value, value)


def test_a_gain_in_accuracy_does_not_excuse_worse_calibration() -> None:
    boaster = right_about(0.9, 1, confidence=0.999)
    with pytest.raises(CandidateRejected, match="calibration error grew by"):
        check_comparison(compared(boaster, right_about(0.8, 2)), Requirement.BETTER, HERE)


def test_a_growth_of_calibration_error_within_the_margin_does_not_count() -> None:
    same = right_about(0.9, 1)
    comparison = compared(same, same)
    slight = replace(comparison, calibration=Estimate(0.018, 0.01, 0.026))
    check_comparison(slight, Requirement.AS_GOOD, HERE)
    clear = replace(comparison, calibration=Estimate(0.03, 0.021, 0.039))
    with pytest.raises(CandidateRejected, match="calibration error grew by"):
        check_comparison(clear, Requirement.AS_GOOD, HERE)


def test_a_class_of_fewer_than_50_samples_is_listed_but_not_judged() -> None:
    comparison = replace(
        compared(right_about(0.9, 1), right_about(0.8, 2)),
        classes=(PairedCounts("happy", 900, 150, 50), PairedCounts("contempt", 49, 0, 40)),
    )
    checks = judge_comparison(comparison, Requirement.BETTER)
    assert [c.result for c in checks[:3]] == ["passed", "passed", "not judged"]
    fifty = replace(comparison, classes=(comparison.classes[0], PairedCounts("fear", 50, 0, 8)))
    with pytest.raises(CandidateRejected, match=r"may be worse for fear: of 50 .* loss of 14\.1%"):
        check_comparison(fifty, Requirement.BETTER, HERE)


def test_calibration_is_not_judged_on_fewer_than_100_samples() -> None:
    boaster, modest = (right_about(0.7, 1, confidence) for confidence in (0.999, 0.7))
    for samples, result in ((99, "not judged"), (100, "failed")):
        few = compare_predictions(boaster[:samples], modest[:samples], TARGETS[:samples], LABELS)
        (check,) = (c for c in judge_comparison(few, Requirement.AS_GOOD) if "calib" in c.name)
        assert check.result == result
        assert ("not measured: fewer than 100 samples" in format_comparison(few)) == (
            result == "not judged"
        )
    assert "calibration error" in format_checks([check])
    assert "nan" not in format_checks(judge_comparison(few, Requirement.AS_GOOD))


def test_a_paired_bootstrap_finds_a_gain_that_separate_intervals_miss() -> None:
    shipped = right_about(0.9, 1)
    candidate = shipped.copy()
    wrong = np.flatnonzero(shipped.argmax(axis=1) != TARGETS)[:12]
    candidate[wrong] = candidate[wrong, ::-1]
    comparison = compared(candidate, shipped)
    assert (comparison.won, comparison.lost) == (12, 0)
    # Unpaired, a gain of 12 of 1,000 is within either interval, which is 37 wide.
    assert 0 < comparison.accuracy.low < comparison.accuracy.high < 0.025


def test_each_class_has_the_same_weight_in_balanced_accuracy() -> None:
    targets = np.array([0] * 90 + [1] * 10)
    always_first = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (100, 1))
    right = np.eye(2, dtype=np.float32)[targets]
    assert compare_predictions(
        right, always_first, targets, LABELS
    ).accuracy.value == pytest.approx(0.5)


def decided(shares: tuple[float, float], seed: int) -> Decisions:
    """Draw decisions on 1,000 samples of a label and 200 of ``neither``.

    ``shares``: the share that gets a label that counts, and the share of these that is wrong.
    """
    chance = np.random.default_rng(seed)
    answered, wrong = chance.random((2, 1200)) < np.array(shares)[:, None]
    truth = np.append(TARGETS, [3] * 200)
    outcome = np.where(answered, np.where(wrong | (truth == 3), 1 - truth % 2, truth), 2)
    return Decisions(np.zeros(1200, np.int64), np.zeros(1200), outcome)


ABSTAINING: Targets = np.append(TARGETS, [2] * 200)


def test_equal_decisions_do_not_prove_that_none_can_differ() -> None:
    made, targets = np.array([0, 1] * 5), np.array([0, 1] * 5)
    same = Decisions(made, np.ones(10), made)
    for growth in _compare_decisions(same, same, targets, 2):
        assert growth.low < growth.value == 0 < growth.high


def with_decisions(new: tuple[float, float], old: tuple[float, float]) -> Comparison:
    risk, coverage = _compare_decisions(decided(new, 1), decided(old, 2), ABSTAINING, 2)
    same = right_about(0.9, 1)
    return replace(compared(same, same), risk=risk, coverage=coverage)


def test_the_risk_of_labels_that_count_may_not_grow() -> None:
    same = with_decisions((0.8, 0.05), (0.8, 0.05))
    assert same.risk is not None
    assert same.risk.low < 0 < same.risk.high
    check_comparison(same, Requirement.AS_GOOD, HERE)
    riskier = with_decisions((0.8, 0.15), (0.8, 0.05))
    assert riskier.risk is not None
    assert riskier.risk.value == pytest.approx(0.09, abs=0.03)
    with pytest.raises(CandidateRejected, match="is wrong more often"):
        check_comparison(riskier, Requirement.AS_GOOD, HERE)
    check_comparison(with_decisions((0.8, 0.02), (0.8, 0.1)), Requirement.AS_GOOD, HERE)


def test_a_loss_of_coverage_is_rejected() -> None:
    with pytest.raises(CandidateRejected, match="answers less often: its coverage"):
        check_comparison(with_decisions((0.3, 0.05), (0.8, 0.05)), Requirement.AS_GOOD, HERE)
    check_comparison(with_decisions((0.9, 0.05), (0.8, 0.05)), Requirement.AS_GOOD, HERE)
    silent = with_decisions((0.0, 0.0), (0.8, 0.05))
    assert silent.risk is not None
    assert silent.risk.high < 0
    with pytest.raises(CandidateRejected, match="answers less"):
        check_comparison(silent, Requirement.AS_GOOD, HERE)


def test_accuracy_is_compared_as_if_no_sample_abstained() -> None:
    """More abstentions do not change the gain in accuracy."""
    shipped = np.array([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.2, 0.2, 0.6]], np.float32)
    shy = np.array([[0.3, 0.1, 0.6], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]], np.float32)
    comparison = compare_predictions(shy, shipped, np.array([0, 1, 2]), LABELS)
    assert comparison.accuracy.value == 0
    assert (comparison.won, comparison.lost) == (0, 2)
    assert (comparison.labelled.won, comparison.labelled.lost) == (0, 0)
    nobody = compare_predictions(shy[2:], shipped[2:], np.array([2]), LABELS)
    assert np.isnan(nobody.accuracy.value)
    with pytest.raises(CandidateRejected, match="not better"):
        check_comparison(nobody, Requirement.BETTER, HERE)


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a dozen equal answers prove a model as good: 133 are needed for the real margin."""
    monkeypatch.setattr(gate_checks, "ACCURACY_MARGIN", 0.9)


@pytest.mark.usefixtures("few_suffice")
def test_the_command_compares_models_that_abstain(tmp_path: Path) -> None:
    trained, data = abstaining_training()
    exported = export_model(trained, data, ExportOptions(name="t", created="2026-01-02", risk=0.3))
    for name in ("new", "old"):
        publish_model(exported.graph, f"`{exported.digest}`", tmp_path / name / "t.onnx")
    photos = tmp_path / "photos"
    for n, sample in enumerate(data.test.pixels):
        place = photos / (*data.labels[:2], "neither", "empty")[int(data.test.targets[n])]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample[:, :, 0]).save(place / f"{n}.png")
    result = trainer(
        "gate", tmp_path / "new" / "t.onnx", tmp_path / "old" / "t.onnx", "--data", photos,
        "--abstain", "no_person=empty", "--split", "all", "--require", "as-good",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "growth of the risk of labels that count  +0.0000" in result.stdout
    assert "gain in samples that get their label     +0.0000" in result.stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    publish_model(tiny_export().graph, f"# tiny\n\n`{tiny_export().digest}`\n", path)
    return load_model(path)


def test_real_models_answer_the_same_samples(tiny: Model) -> None:
    data = drawn_dataset()
    comparison = compare_models(tiny, tiny, data.test, data.labels)
    assert (comparison.samples, comparison.won, comparison.lost) == (36, 0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "other"}, "it has the name other instead of tiny"),
        ({"labels": ("sad", "happy")}, "it has the labels sad, happy instead of happy, sad"),
        (
            {"region": Region.IMAGE, "margin": 0.5},
            "the region image instead of face; the margin 0.5 instead of 0.0",
        ),
    ],
)
def test_a_model_for_another_purpose_is_refused(
    changes: dict[str, object], said: str, tiny: Model, tmp_path: Path
) -> None:
    spec = bright_spec(**{"name": "tiny", **changes})
    other = load_model(save_model(bright_model(spec), tmp_path / "other.onnx"))
    with pytest.raises(CandidateRejected, match=said):
        check_compatible(other, tiny)


def test_a_model_with_other_abstain_outputs_is_refused(tiny: Model) -> None:
    shy = replace(tiny, spec=replace(tiny.spec, abstain_from={"neither": 0.5}))
    with pytest.raises(
        CandidateRejected, match="as answers without a label neither instead of none"
    ):
        check_compatible(shy, tiny)


def test_a_whole_photo_model_without_the_fusion_of_the_current_one_is_refused() -> None:
    people = open_model("people")
    check_compatible(people, people)
    alone = replace(people, spec=replace(people.spec, fusion=None))
    with pytest.raises(
        CandidateRejected,
        match="a fusion with no face model instead of with the face model happy-sad",
    ):
        check_compatible(alone, people)
    check_compatible(people, alone)


def test_a_fusion_with_another_face_model_than_the_present_one_is_refused() -> None:
    people = open_model("people")
    check_pair(people, "happy-sad")
    check_pair(people, "none")
    assert people.spec.fusion
    stale = replace(people.spec.fusion, face_sha256="0" * 64)
    with pytest.raises(CandidateRejected, match="is fitted to another happy-sad"):
        check_pair(replace(people, spec=replace(people.spec, fusion=stale)), "happy-sad")


def test_another_input_is_refused(tiny: Model) -> None:
    with pytest.raises(CandidateRejected, match="the input's channels 3 instead of 1"):
        check_compatible(replace(tiny, channels=3), tiny)


def folder_with(shipped: Model, path: Path) -> tuple[bytes, str]:
    """Publish a model with a card, and return the content of both files."""
    publish_model(shipped.graph, f"shipped card `{shipped.digest}`", path)
    return path.read_bytes(), path.with_suffix(".md").read_text()


@pytest.mark.usefixtures("few_suffice")
def test_the_command_replaces_the_file_only_if_the_gate_opens(tiny: Model, tmp_path: Path) -> None:
    photos = write_folders(tmp_path / "photos", 30)
    shipped = tmp_path / "models" / "tiny.onnx"
    before = folder_with(tiny, shipped)
    arguments = ("gate", tiny.path, shipped, "--data", photos, "--split", "all")
    refused = trainer(*arguments)
    assert refused.exit_code == 1
    assert "is not better" in refused.stderr
    assert (shipped.read_bytes(), shipped.with_suffix(".md").read_text()) == before
    assert trainer(*arguments, "--require", "as-good", "--dry-run").exit_code == 0
    assert shipped.with_suffix(".md").read_text() == before[1]
    opened = trainer(*arguments, "--require", "as-good")
    assert opened.exit_code == 0, opened.output
    assert shipped.with_suffix(".md").read_text() == f"# tiny\n\n`{tiny.digest}`\n"
    assert tiny.digest in (shipped.parent / "SHA256SUMS").read_text()


@pytest.mark.usefixtures("few_suffice")
def test_a_shipped_model_that_is_named_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    shipped = list_shipped_models()["happy-sad"]
    before = {path: path.read_bytes() for path in shipped.parent.iterdir()}
    photos = write_folders(tmp_path / "photos", 6)
    arguments = ("happy-sad", "--data", photos, "--split", "all", "--require", "as-good")
    for name in ("happy-sad", "mine"):
        for suffix in (".onnx", ".md"):
            shutil.copy(shipped.with_suffix(suffix), tmp_path / f"{name}{suffix}")
    refused = trainer("gate", tmp_path / "happy-sad.onnx", *arguments)
    assert refused.exit_code == 2
    assert "happy-sad is the name of a shipped model" in refused.stderr
    opened = trainer("gate", tmp_path / "mine.onnx", *arguments)
    assert opened.exit_code == 0, opened.output
    own = tmp_path / "data" / "batch-label" / "models" / "mine.onnx"
    assert f"copied {tmp_path / 'mine.onnx'} to {own}" in opened.stdout
    assert {path: path.read_bytes() for path in shipped.parent.iterdir()} == before
    # The next run replaces it by its name.
    own.with_suffix(".md").write_text(f"an older card of `{load_model(own).digest}`")
    assert trainer("gate", tmp_path / "mine.onnx", "mine", *arguments[1:]).exit_code == 0
    assert own.with_suffix(".md").read_bytes() == (tmp_path / "mine.md").read_bytes()
