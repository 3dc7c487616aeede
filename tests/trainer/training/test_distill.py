from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.errors import OutputError, UsageError
from tests.support.trainer_data import CONFIG, drawn_dataset, tiny_export, tiny_training
from trainer.datasets.dataset import Dataset
from trainer.evaluation.exported_models import predict_onnx
from trainer.exporting.export import ExportOptions, export_model
from trainer.training.config import Config
from trainer.training.loop import mix_teacher_votes, train


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "all.onnx"
    options = ExportOptions(name="all", created="2026-01-02")
    path.write_bytes(export_model(tiny_training(), drawn_dataset(), options).graph)
    return path


def taught_by(teacher: Path | str, share: float) -> Config:
    return replace(CONFIG, teacher=str(teacher), teacher_share=share)


def test_the_teacher_gets_its_share_of_the_vote(teacher: Path) -> None:
    data = drawn_dataset()
    mixed = mix_teacher_votes(data.train, data, taught_by(teacher, 0.25))
    pixels = data.train.pixels
    graph = teacher.read_bytes()
    answers = (predict_onnx(graph, pixels) + predict_onnx(graph, pixels[:, :, ::-1].copy())) / 2
    np.testing.assert_allclose(mixed.votes, 0.75 * data.train.votes + 0.25 * answers, atol=1e-6)
    assert mixed.votes.dtype == np.float32
    np.testing.assert_array_equal(mixed.pixels, pixels)


def test_without_a_teacher_people_alone_vote() -> None:
    data = drawn_dataset()
    assert mix_teacher_votes(data.train, data, CONFIG) is data.train


def test_a_teacher_of_other_labels_or_pictures_is_refused(teacher: Path, tmp_path: Path) -> None:
    data = drawn_dataset()
    two = tmp_path / "two.onnx"
    two.write_bytes(tiny_export().graph)
    with pytest.raises(UsageError, match="knows happy, sad; the data have happiness"):
        mix_teacher_votes(data.train, data, taught_by(two, 0.5))
    small = replace(data.train, pixels=data.train.pixels[:, :16, :16])
    with pytest.raises(UsageError, match="another size or colour"):
        mix_teacher_votes(small, data, taught_by(teacher, 0.5))
    with pytest.raises(UsageError, match="there is no model nobody"):
        mix_teacher_votes(data.train, data, taught_by("nobody", 0.5))


def test_a_run_is_not_gone_on_with_by_another_teacher(teacher: Path, tmp_path: Path) -> None:
    data: Dataset = drawn_dataset()
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(teacher.read_bytes())
    once = replace(taught_by(teacher, 0.5), epochs=1)
    history = train(data, once, tmp_path / "run")
    assert train(data, replace(once, teacher=str(moved)), tmp_path / "run") == history
    options = ExportOptions(name="other", created="2026-01-03")
    moved.write_bytes(export_model(tiny_training(), data, options).graph)
    with pytest.raises(OutputError, match="other data or settings"):
        train(data, replace(once, teacher=str(moved)), tmp_path / "run")
