from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import InputError, ModelError
from batch.records import Answer, Failure, Reason, Region, Row, Stage, Status
from tests.tiny_models import bright_model, bright_spec, save
from tests.trainer.test_cli import WITHOUT_TORCH, trainer
from tests.trainer_data import REPOSITORY
from trainer.evaluation.end_to_end import compare, end_to_end_figures, run_end_to_end
from trainer.evaluation.tables import end_to_end_table


def row(name: str, happy: float | None, sure: bool = True) -> Row:
    if happy is None:
        return Row(Path(name), Status.NO_FACE)
    label, confidence = ("happy", happy) if happy >= 0.5 else ("sad", 1 - happy)
    answer = Answer(label, confidence, {"happy": happy, "sad": 1 - happy}, sure)
    return Row(Path(name), Status.OK if sure else Status.UNSURE, answer)


def test_what_has_no_answer_counts_as_wrong_and_the_unsure_count_apart() -> None:
    failure = Failure(Path("e"), Stage.READ, Reason.EMPTY, "no bytes")
    rows = [
        row("a", 0.9), row("b", 0.8), row("c", 0.2), row("d", None),
        Row(Path("e"), Status.FAILED, failure=failure), row("f", 0.6, sure=False),
        row("g", 0.3), row("h", 0.1),
    ]  # fmt: skip
    found = compare(["happy"] * 6 + ["sad"] * 2, rows)
    assert found.photos == 8
    assert found.statuses == {"ok": 5, "unsure": 1, "no_face": 1, "failed": 1}
    assert found.coverage.value == 6 / 8
    assert found.accuracy.value == 5 / 8
    assert found.sure.value == 5 / 8
    assert found.sure_accuracy.value == 4 / 5
    assert found.answered.accuracy.value == 5 / 6
    assert found.answered.confusion == ((3, 1), (0, 2))


def test_without_a_sure_answer_there_is_no_accuracy_of_them() -> None:
    found = compare(["happy"], [row("a", 0.6, sure=False)])
    assert end_to_end_figures(found)["sure_accuracy"] is None
    json.dumps(end_to_end_figures(found), allow_nan=False)


def test_without_an_answer_there_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="no photo got an answer"):
        compare(["happy"], [row("a", None)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Whole photos of more than medium grey are happy."""
    return save(bright_model(bright_spec(region=Region.IMAGE)), tmp_path / "bright.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, grey in (("happiness/a", 250), ("happiness/deep/b", 20), ("sad/c", 10)):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), grey).save(path)
    (tmp_path / "photos" / "sad" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return tmp_path / "photos"


def test_whole_photos_go_the_runner_s_own_way(model: Path, photos: Path) -> None:
    found = run_end_to_end(photos, str(model))
    assert found.statuses == {"ok": 3, "unsure": 0, "no_face": 0, "failed": 1}
    assert found.accuracy.value == 2 / 4
    assert found.answered.confusion == ((1, 1), (0, 1))
    assert "right, of all photos  0.5000" in end_to_end_table(found)


def test_a_folder_that_is_no_label_of_the_model_is_refused(model: Path, photos: Path) -> None:
    (photos / "sad").rename(photos / "gloomy")
    with pytest.raises(ModelError, match=r"no label for the folder gloomy; .*happy, sad"):
        run_end_to_end(photos, str(model))


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
