from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import InputError, ModelError
from batch.records import Answer, Failure, Reason, Region, Row, Stage, Status
from tests.support.tiny_models import bright_model, bright_spec, save_model
from tests.support.trainer_data import REPOSITORY
from tests.trainer.cli.test_cli import WITHOUT_TORCH, trainer
from trainer.evaluation.end_to_end import compare_rows, end_to_end_to_json, run_end_to_end
from trainer.evaluation.tables import format_end_to_end


def row(name: str, happy: float | None, sure: bool = True) -> Row:
    if happy is None:
        return Row(Path(name), Status.NO_FACE)
    label, confidence = ("happy", happy) if happy >= 0.5 else ("sad", 1 - happy)
    status = Status.OK if sure else Status.UNSURE
    answer = Answer(status, label, confidence, {"happy": happy, "sad": 1 - happy})
    return Row(Path(name), status, answer)


def abstaining(name: str, label: str | None, *probabilities: float) -> Row:
    """Build a row of a model with both abstain outputs; the likelier one is its default status."""
    outputs = ("happy", "sad", "neither", "no_person")
    by_name = dict(zip(outputs, probabilities, strict=True))
    status = Status.OK if label else Status(max(outputs[2:], key=by_name.__getitem__))
    confidence = by_name[label or status.value]
    return Row(Path(name), status, Answer(status, label, confidence, by_name))


def test_a_missing_answer_counts_as_wrong_and_unsure_ones_are_counted_separately() -> None:
    failure = Failure(Path("e"), Stage.READ, Reason.EMPTY, "no bytes")
    rows = [
        row("a", 0.9), row("b", 0.8), row("c", 0.2), row("d", None),
        Row(Path("e"), Status.FAILED, failure=failure), row("f", 0.6, sure=False),
        row("g", 0.3), row("h", 0.1),
    ]  # fmt: skip
    found = compare_rows(["happy"] * 6 + ["sad"] * 2, rows)
    assert found.photos == 8
    assert found.statuses == {
        "ok": 5, "unsure": 1, "neither": 0, "no_person": 0, "no_face": 1, "failed": 1,
    }  # fmt: skip
    assert found.selective.always.value == 5 / 8
    assert found.selective.confusion == ((2, 1, 1, 2), (0, 2, 0, 0))
    assert found.coverage.value == 6 / 8
    assert found.accuracy.value == 5 / 8
    assert found.sure.value == 5 / 8
    assert found.sure_accuracy.value == 4 / 5
    assert found.answered.accuracy.value == 5 / 6
    assert found.answered.confusion == ((3, 1), (0, 2))


def test_for_a_photo_of_an_abstain_class_no_label_is_right() -> None:
    rows = [
        abstaining("a", "happy", 0.9, 0.1, 0, 0),
        abstaining("b", None, 0.2, 0.1, 0.7, 0),
        abstaining("c", None, 0.2, 0.1, 0.7, 0),
        abstaining("d", "sad", 0.1, 0.8, 0.1, 0),
        abstaining("e", None, 0.1, 0, 0, 0.9),
    ]
    truth = ["happy", "sad", "neither", "neither", "no_person"]
    found = compare_rows(truth, rows, ["happy", "sad", "neither/shouting", "neither", "no_person"])
    assert (found.photos, found.statuses["neither"], found.statuses["no_person"]) == (2, 2, 1)
    assert (found.coverage.value, found.accuracy.value) == (0.5, 0.5)
    assert found.sure_accuracy.value == 0.5
    assert [estimate.value for estimate in found.selective.answered] == [0.5, 0]
    assert found.selective.always.value == 0.5
    assert found.answered.labels == ("happy", "sad", "neither", "no_person")
    assert {row.kind for row in found.selective.kinds} >= {"neither/shouting", "no_person"}
    assert "neither/shouting" in format_end_to_end(found)


def test_a_model_without_abstain_outputs_gets_no_person_right_only_without_an_answer() -> None:
    found = compare_rows(
        ["happy", "no_person", "no_person"], [row("a", 0.9), row("b", 0.8), row("c", None)]
    )
    assert found.photos == 1
    assert found.sure_accuracy.value == 0.5
    assert found.answered.samples == 1
    assert found.selective.outcomes[-1] == "none"
    assert found.selective.confusion[-1] == (1, 0, 0, 0, 1)


def test_without_a_sure_answer_the_sure_accuracy_is_null() -> None:
    found = compare_rows(["happy"], [row("a", 0.6, sure=False)])
    assert end_to_end_to_json(found)["sure_accuracy"] is None
    json.dumps(end_to_end_to_json(found), allow_nan=False)


def test_answers_of_different_outputs_are_an_error() -> None:
    """Missing outputs must not count as probabilities of 0."""
    rows = [abstaining("a", "happy", 0.7, 0.1, 0.1, 0.1), row("b", 0.2)]
    with pytest.raises(KeyError):
        compare_rows(["happy", "sad"], rows)


def test_without_an_answer_there_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="no photo got an answer"):
        compare_rows(["happy"], [row("a", None)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole-photo model for which bright photos are happy."""
    return save_model(bright_model(bright_spec(region=Region.IMAGE)), tmp_path / "bright.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, grey in (("happiness/a", 250), ("happiness/deep/b", 20), ("sad/c", 10)):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), grey).save(path)
    (tmp_path / "photos" / "sad" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return tmp_path / "photos"


def test_whole_photos_are_labelled_as_by_the_runner(model: Path, photos: Path) -> None:
    found = run_end_to_end(photos, str(model))
    assert (found.statuses["ok"], found.statuses["failed"]) == (3, 1)
    assert found.accuracy.value == 2 / 4
    assert found.answered.confusion == ((1, 1), (0, 1))
    assert "right, of all photos  0.5000" in format_end_to_end(found)


def test_a_folder_without_a_label_of_the_model_is_refused(model: Path, photos: Path) -> None:
    (photos / "sad").rename(photos / "gloomy")
    with pytest.raises(ModelError, match=r"no label for the folder gloomy; .*happy, sad"):
        run_end_to_end(photos, str(model))


def test_abstain_folders_may_have_other_names(model: Path, photos: Path) -> None:
    (photos / "sad").rename(photos / "empty")
    (photos / "happiness" / "deep").rename(photos / "sad")
    found = run_end_to_end(photos, str(model), {"empty": "no_person"})
    assert found.photos == 2
    assert found.accuracy.value == 1
    assert found.selective.answered[0].value == 0.5
    with pytest.raises(ModelError, match="no label for the folder empty"):
        run_end_to_end(photos, str(model))


def test_of_a_folder_of_splits_one_must_be_given(model: Path, tmp_path: Path) -> None:
    for folder in ("train/happy", "train/sad", "test/happy", "test/sad"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=r"are splits, not classes; give one .*/test$"):
        run_end_to_end(tmp_path, str(model))


def test_photos_outside_of_class_folders_are_refused(model: Path, photos: Path) -> None:
    with pytest.raises(InputError, match="deep has no sub-folders"):
        run_end_to_end(photos / "happiness" / "deep", str(model))


def test_the_command_prints_and_writes_the_same(model: Path, photos: Path) -> None:
    figures = photos.parent / "figures.json"
    result = trainer("evaluate", model, "--end-to-end", "--data", photos, "--json", figures)
    assert result.exit_code == 0, result.output
    written = json.loads(figures.read_text())
    assert written["statuses"]["failed"] == 1
    assert f"answered              {written['coverage']['value']:.4f}" in result.stdout


def test_pytorch_is_not_needed(model: Path, photos: Path) -> None:
    arguments = ["evaluate", str(model), "--end-to-end", "--data", str(photos)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "right, of all photos" in done.stdout
