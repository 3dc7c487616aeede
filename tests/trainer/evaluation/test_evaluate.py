from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.errors import ModelError
from batch.models.contract import load_model
from batch.models.model import Model
from batch.records import Abstain
from batch.share_interval import compute_share_interval
from tests.support.tiny_models import bright_spec
from tests.support.trainer_data import (
    drawn_dataset,
    make_drawn_split,
    tiny_export,
    wide_dataset,
    wide_training,
)
from trainer.datasets.dataset import Split, keep_classes
from trainer.datasets.ferplus import FERPLUS_LABELS as FERPLUS
from trainer.evaluation.evaluate import (
    evaluate,
    evaluate_model,
    evaluation_to_json,
    find_columns,
    map_classes,
)
from trainer.evaluation.exported_models import predict_onnx
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.tables import format_evaluation, format_interval, format_percent
from trainer.exporting.export import ExportOptions, export_model

ALWAYS_RIGHT = np.eye(2, dtype=np.float32)[[0, 0, 1]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(tiny_export().graph)
    return load_model(path)


def test_a_model_file_is_evaluated_on_its_own_labels(model: Model) -> None:
    data = drawn_dataset()
    evaluation = evaluate_model(model, data.test, data.labels)
    assert evaluation.labels == ("happy", "sad")
    assert evaluation.samples == int(keep_classes(data.test, (0, 1)).certain.sum()) == 36
    assert np.sum(evaluation.confusion) == 36
    assert evaluation_to_json(evaluation) == evaluation_to_json(tiny_export().test)


def test_the_order_of_the_data_does_not_matter(model: Model) -> None:
    data = drawn_dataset()
    backwards = Split(data.test.pixels, data.test.votes[:, ::-1], data.test.certain)
    one = evaluate_model(model, data.test, data.labels)
    other = evaluate_model(model, backwards, data.labels[::-1])
    assert evaluation_to_json(one) == evaluation_to_json(other)


def test_other_pictures_and_missing_labels_are_refused(model: Model) -> None:
    part = make_drawn_split(6, 0)
    with pytest.raises(ModelError, match=r"takes pictures of \(24, 24, 1\)"):
        evaluate_model(model, replace(part, pixels=part.pixels[:, :20, :20]), ("a", "b", "c"))
    with pytest.raises(ModelError, match="has the label happy, sad, the data only a, b, c"):
        evaluate_model(model, part, ("a", "b", "c"))


def test_a_part_with_none_of_the_labels_is_refused(model: Model) -> None:
    data = drawn_dataset()
    others = data.test.targets == 2
    part = Split(data.test.pixels[others], data.test.votes[others], data.test.certain[others])
    with pytest.raises(ModelError, match="no sample of happy, sad"):
        evaluate_model(model, part, data.labels)


def test_labels_are_found_by_name_and_by_synonym() -> None:
    assert find_columns(("happy", "sad"), FERPLUS, "m") == (1, 3)
    assert find_columns(("sadness", "happiness"), ("happy", "sad"), "m") == (1, 0)
    assert find_columns(("b", "a"), ("a", "b", "c"), "m") == (1, 0)


def test_classes_of_the_data_are_mapped_to_a_model_s_outputs() -> None:
    spec = bright_spec(abstain_from={"neither": 0.5})
    # Happiness is happy, sadness is sad, and FER+'s other six are neither.
    assert map_classes(spec, FERPLUS, "m").tolist() == [2, 0, 2, 1, 2, 2, 2, 2]
    assert map_classes(bright_spec(), FERPLUS, "m").tolist() == [-1, 0, -1, 1, -1, -1, -1, -1]
    classes = ("angry", "happy", "sad", "neither", "no_person")
    assert map_classes(spec, classes, "m").tolist() == [2, 0, 1, 2, -1]
    both = bright_spec(abstain_from={"neither": 0.5, "no_person": 0.3})
    assert map_classes(both, classes, "m").tolist() == [2, 0, 1, 2, 3]
    nobody = bright_spec(abstain_from={"no_person": 0.3})
    assert map_classes(nobody, classes, "m").tolist() == [-1, 0, 1, -1, 2]


def test_a_model_that_abstains_is_evaluated_by_its_own_thresholds(tmp_path: Path) -> None:
    options = ExportOptions(
        name="t",
        created="2026-01-02",
        labels={"happy": "happiness", "sad": "sadness"},
        rest=Abstain.NEITHER,
        risk=0.3,
    )
    data = wide_dataset()
    exported = export_model(wide_training(), data, options)
    path = tmp_path / "t.onnx"
    path.write_bytes(exported.graph)
    found = evaluate_model(load_model(path), data.test, data.labels)
    assert found.labels == ("happy", "sad", "neither")
    assert found.samples == int(data.test.certain.sum()) == 72
    assert evaluation_to_json(found) == evaluation_to_json(exported.test)
    selective = found.selective
    assert selective is not None
    # Happy and sad only, always answered: the evaluation of a model with these two labels.
    two = data.test.certain & (data.test.targets < 2)
    answered = predict_onnx(exported.graph, data.test.pixels[two])[:, :2].argmax(axis=1)
    assert selective.always.value == (answered == data.test.targets[two]).mean()
    assert selective.labelled == int(two.sum())
    assert "By the model's own thresholds:" in format_evaluation(found)
    assert {row.kind for row in selective.kinds} == {"drawn", "turned"}


def test_the_interval_contains_the_value_and_narrows_with_more_samples() -> None:
    chance = np.random.default_rng(5)

    def estimate(n: int) -> tuple[float, float, float]:
        targets = chance.integers(0, 2, n)
        shares = np.full((n, 2), 0.5, dtype=np.float32)
        shares[:, 0] += np.where(chance.random(n) < 0.8, 0.3, -0.3) * np.where(targets, -1, 1)
        shares[:, 1] = 1 - shares[:, 0]
        found = evaluate(shares, targets, ("a", "b")).accuracy
        return found.low, found.value, found.high

    few, many = estimate(100), estimate(10_000)
    assert few[0] < few[1] < few[2]
    # The normal approximation of a share of 0.8 among 10,000.
    assert many[2] - many[0] == pytest.approx(2 * 1.96 * 0.004, rel=0.1)
    assert few[2] - few[0] > 5 * (many[2] - many[0])


def test_the_same_answers_give_the_same_intervals() -> None:
    targets = np.array([0, 1, 1])
    once, again = (evaluate(ALWAYS_RIGHT, targets, ("a", "b")) for _ in range(2))
    assert evaluation_to_json(once) == evaluation_to_json(again)


def test_a_class_without_samples_is_null_in_json_and_no_row_in_the_table() -> None:
    evaluation = evaluate(
        np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 1]), ("a", "b", "never")
    )
    text = json.dumps(evaluation_to_json(evaluation), allow_nan=False)
    recall = json.loads(text)["recall"]
    assert recall == {
        "a": {"value": 1.0, "low": 0.3424, "high": 1.0},
        "b": {"value": 1.0, "low": 0.2065, "high": 1.0},
        "never": None,
    }
    lines = format_evaluation(evaluation).splitlines()
    rows = [line.split() for line in lines]
    assert ["a", "2", "0", "0"] in rows
    assert ["samples", "3"] in rows
    assert json.loads(text)["calibration_error"] is None
    assert ["calibration", *"error not measured: fewer than 100 samples".split()] in rows
    assert not [row for row in rows if row[:1] == ["never"]]
    assert "NOTE: no sample of never: no metric says how well the model answers those." in lines
    assert "nan" not in format_interval(evaluation.recall[2]) + format_percent(evaluation.recall[2])
    table = lines.index(next(line for line in lines if line.startswith("true / answer")))
    assert len({len(line) for line in lines[table : table + 3]}) == 1


def test_metrics_on_few_samples_say_so() -> None:
    targets = np.array([0] * 30 + [1] * 4)
    few = format_evaluation(evaluate(np.eye(2, dtype=np.float32)[targets], targets, ("a", "b")))
    assert "recall of a, 30 samples" in few
    assert "recall of b, 4 samples" in few
    assert few.endswith(
        "NOTE: fewer than 30 samples of b (4): metrics on so few say little about other photos."
    )
    enough = evaluate(np.eye(2, dtype=np.float32)[[0, 1] * 30], np.array([0, 1] * 30), ("a", "b"))
    assert "NOTE" not in format_evaluation(enough)


def test_samples_of_a_group_count_as_one_in_the_intervals() -> None:
    targets = np.array([0, 1] * 20)
    answers = np.eye(2, dtype=np.float32)[np.where(np.arange(40) < 36, targets, 1 - targets)]
    groups = np.array([f"person {n // 4}" for n in range(36)] + [""] * 4)
    alone, grouped = (evaluate(answers, targets, ("a", "b"), g) for g in (None, groups))
    assert (alone.independent, grouped.independent) == (40, 9 + 4)
    assert grouped.accuracy == Estimate(0.9, *compute_share_interval(0.9, 13))
    assert grouped.recall[0] == Estimate(0.9, *compute_share_interval(0.9, 9 + 2))
    assert grouped.accuracy.low < alone.accuracy.low
    assert grouped.balanced_accuracy.low < alone.balanced_accuracy.low
    assert "NOTE: The 40 samples are of 13 groups" in format_evaluation(grouped)
    assert "groups" not in format_evaluation(alone)


def test_every_metric_is_within_its_interval() -> None:
    chance = np.random.default_rng(2)
    shares = chance.dirichlet((1, 1, 1), 400).astype(np.float32)
    targets = np.where(chance.random(400) < 0.7, shares.argmax(axis=1), chance.integers(0, 3, 400))
    found = evaluate(shares, targets, ("a", "b", "c"))
    estimates = (
        found.accuracy,
        found.balanced_accuracy,
        found.macro_f1,
        found.calibration_error,
        *found.recall,
    )
    assert len(estimates) == 7
    for estimate in estimates:
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1
