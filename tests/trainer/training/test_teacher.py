from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from batch.errors import OutputError, UsageError
from tests.support.trainer_data import CONFIG, drawn_dataset, tiny_export, tiny_training
from trainer.datasets.dataset import Dataset
from trainer.evaluation.exported_models import predict_onnx
from trainer.exporting.export import ExportOptions, export_model
from trainer.training.config import Config
from trainer.training.loop import train
from trainer.training.teacher import mix_teacher_votes


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "all.onnx"
    options = ExportOptions(name="all", created="2026-01-02")
    path.write_bytes(export_model(tiny_training(), drawn_dataset(), options).graph)
    return path


@pytest.fixture(scope="module")
def other_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that prefers the first label."""
    path = tmp_path_factory.mktemp("teacher") / "other.onnx"
    training = copy.deepcopy(tiny_training())
    with torch.no_grad():
        training.network.classifier.bias[0] += 1
    options = ExportOptions(name="other", created="2026-01-02")
    path.write_bytes(export_model(training, drawn_dataset(), options).graph)
    return path


def make_config(teacher: Path | str | tuple[str, ...], share: float) -> Config:
    names = teacher if isinstance(teacher, tuple) else str(teacher)
    return replace(CONFIG, teacher=names, teacher_share=share)


def test_the_teacher_gets_its_share_of_the_vote(teacher: Path) -> None:
    data = drawn_dataset()
    mixed = mix_teacher_votes(data.train, data, make_config(teacher, 0.25))
    pixels = data.train.pixels
    graph = teacher.read_bytes()
    answers = (predict_onnx(graph, pixels) + predict_onnx(graph, pixels[:, :, ::-1].copy())) / 2
    np.testing.assert_allclose(mixed.votes, 0.75 * data.train.votes + 0.25 * answers, atol=1e-6)
    assert mixed.votes.dtype == np.float32
    np.testing.assert_array_equal(mixed.pixels, pixels)


def test_several_teachers_count_equally(teacher: Path, other_teacher: Path) -> None:
    data = drawn_dataset()
    both = str(teacher), str(other_teacher)
    one, other = (mix_teacher_votes(data.train, data, make_config(t, 0.5)).votes for t in both)
    assert np.abs(one - other).max() > 0.01
    mixed = mix_teacher_votes(data.train, data, make_config(both, 0.5)).votes
    np.testing.assert_allclose(mixed, (one + other) / 2, atol=1e-6)
    twice = mix_teacher_votes(data.train, data, make_config((*both, both[0]), 0.5)).votes
    np.testing.assert_allclose(twice, (2 * one + other) / 3, atol=1e-6)


def test_without_a_teacher_votes_do_not_change() -> None:
    data = drawn_dataset()
    assert mix_teacher_votes(data.train, data, CONFIG) is data.train
    assert mix_teacher_votes(data.train, data, make_config((), 0.5)) is data.train


def test_a_teacher_of_other_labels_or_pictures_is_refused(teacher: Path, tmp_path: Path) -> None:
    data = drawn_dataset()
    two = tmp_path / "two.onnx"
    two.write_bytes(tiny_export().graph)
    with pytest.raises(UsageError, match="has the labels happy, sad, the data have happiness"):
        mix_teacher_votes(data.train, data, make_config((str(teacher), str(two)), 0.5))
    small = replace(data.train, pixels=data.train.pixels[:, :16, :16])
    with pytest.raises(UsageError, match="another size or colour"):
        mix_teacher_votes(small, data, make_config(teacher, 0.5))
    with pytest.raises(UsageError, match="there is no model nobody"):
        mix_teacher_votes(data.train, data, make_config("nobody", 0.5))


def test_a_run_is_not_resumed_with_another_teacher(teacher: Path, tmp_path: Path) -> None:
    data: Dataset = drawn_dataset()
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(teacher.read_bytes())
    once = replace(make_config(teacher, 0.5), epochs=1)
    history = train(data, once, tmp_path / "run")
    assert train(data, replace(once, teacher=str(moved)), tmp_path / "run") == history
    options = ExportOptions(name="other", created="2026-01-03")
    moved.write_bytes(export_model(tiny_training(), data, options).graph)
    with pytest.raises(OutputError, match="other data or settings"):
        train(data, replace(once, teacher=str(moved)), tmp_path / "run")


def test_a_run_is_not_resumed_with_fewer_teachers(
    teacher: Path, other_teacher: Path, tmp_path: Path
) -> None:
    data = drawn_dataset()
    once = replace(make_config((str(teacher), str(other_teacher)), 0.5), epochs=1)
    history = train(data, once, tmp_path / "run")
    assert train(data, once, tmp_path / "run") == history
    with pytest.raises(OutputError, match="other data or settings"):
        train(data, replace(once, teacher=str(teacher)), tmp_path / "run")
