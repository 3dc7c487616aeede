"""Models that were trained on held-out samples are found by digests of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from batch.errors import InputError
from batch.models.contract import load_model
from batch.models.model import Model
from batch.models.shipped import find_model
from tests.support.tiny_models import bright_model, save_model
from tests.support.trainer_data import (
    CONFIG,
    drawn_dataset,
    find_real_data,
    tiny_export,
    tiny_training,
)
from trainer.datasets.dataset import Dataset
from trainer.datasets.sources import load_dataset
from trainer.evaluation.trained_on import (
    find_seen,
    find_trained_on,
    hash_samples,
    keep_unseen,
    merge_trained_on,
    unpack_trained_on,
)
from trainer.exporting.export import ExportOptions, export_model
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network
from trainer.training.cross_validation import cross_validate
from trainer.training.loop import train

SHORT = replace(CONFIG, epochs=1)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    options = ExportOptions(name="teacher", created="2026-01-02")
    path.write_bytes(export_model(tiny_training(), drawn_dataset(), options).graph)
    return path


def exchange_splits(data: Dataset) -> Dataset:
    """Test on samples that the tiny network was trained on."""
    return replace(data, train=data.test, test=data.train)


def test_a_training_and_its_model_record_the_samples() -> None:
    data = drawn_dataset()
    trained = unpack_trained_on(tiny_training().trained_on, "run")
    assert trained.digests == hash_samples(data.train.pixels)
    assert trained.is_complete
    assert tiny_export().spec.trained_on == tiny_training().trained_on
    assert find_seen(data.train.pixels, [trained]).all()
    assert not find_seen(data.test.pixels, [trained]).any()


def test_what_earlier_models_were_trained_on_is_inherited(teacher: Path, tmp_path: Path) -> None:
    model, data = load_model(teacher), drawn_dataset()
    earlier = find_trained_on(model.spec, "teacher", None)
    both = unpack_trained_on(merge_trained_on([data.test.pixels], [earlier]), "both")
    assert find_seen(data.train.pixels, [both]).all()
    assert find_seen(data.test.pixels, [both]).all()
    assert not find_seen(data.validation.pixels, [both]).any()
    # If the samples of one are not known, those of the result are not either.
    unknown = unpack_trained_on("", "old")
    assert not unpack_trained_on(merge_trained_on([], [earlier, unknown]), "mixed").is_complete
    train(data, replace(SHORT, teacher=str(teacher)), tmp_path / "run")
    found = unpack_trained_on(load_trained_network(tmp_path / "run").trained_on, "run")
    assert found == replace(earlier, name="run")


@pytest.mark.parametrize("text", ["7", "{}", '{"complete": true, "digests": "AAAA"}', "{"])
def test_a_damaged_record_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"m\.onnx has a damaged entry trained_on"):
        unpack_trained_on(text, "m.onnx")


def test_samples_of_the_training_are_excluded(
    teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = drawn_dataset()
    known = [find_trained_on(load_model(teacher).spec, "mine", data)]
    assert len(keep_unseen(data.test, known)) == len(data.test)
    assert not caplog.text
    part = keep_unseen(data.get_split("all"), known)
    assert len(part) == len(data.validation) + len(data.test)
    assert f"{len(data.train):,} of " in caplog.text
    assert "they were used to train mine" in caplog.text
    with pytest.raises(InputError, match="mine: trained on all"):
        keep_unseen(data.train, known)


def bare(model: Model, **changes: object) -> Model:
    """A model of an earlier release, without a record."""
    return replace(model, spec=replace(model.spec, trained_on="", **changes))  # type: ignore[arg-type]


def test_a_model_without_a_record_is_known_by_the_fingerprint_of_its_data(
    teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, model = drawn_dataset(), load_model(teacher)
    by_fingerprint = find_trained_on(bare(model).spec, "old", data)
    assert by_fingerprint == find_trained_on(model.spec, "old", None)
    crossed = bare(model, metrics={"split": "cross-validation"})
    with pytest.raises(InputError, match="trained on all"):
        keep_unseen(data.test, [find_trained_on(crossed.spec, "old", data)])
    bright = load_model(save_model(bright_model(), tmp_path / "bright.onnx"))
    other = find_trained_on(bright.spec, "bright", data)
    assert len(keep_unseen(data.test, [other])) == len(data.test)
    assert "bright: not all samples are recorded" in caplog.text


@pytest.mark.parametrize("name", ["happy-sad", "expressions"])
def test_the_shipped_face_models_record_their_samples(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else each evaluation of a model that starts from one says that this is not known."""
    shipped = find_trained_on(load_model(find_model(name)).spec, name, None)
    test = drawn_dataset().test
    assert len(keep_unseen(test, [shipped])) == len(test)
    assert not caplog.records
    ferplus = load_dataset(find_real_data("ferplus.zip"), None)
    assert shipped.digests == hash_samples(ferplus.train.pixels)
    assert not find_seen(ferplus.test.pixels, [shipped]).any()


@pytest.mark.parametrize("setting", ["teacher", "init"])
def test_a_model_that_saw_the_held_out_samples_is_refused(
    setting: str, teacher: Path, tmp_path: Path
) -> None:
    config = replace(SHORT, **{setting: str(teacher)})  # type: ignore[arg-type]
    data = drawn_dataset()
    said = rf"{setting} .*teacher\.onnx was trained on \d+ of \d+ held-out samples"
    with pytest.raises(InputError, match=said):
        train(exchange_splits(data), config, tmp_path / "run")
    with pytest.raises(InputError, match=said):
        cross_validate(data, config, tmp_path / "run", folds=2, seed=1)
    assert not (tmp_path / "run").exists()
    # Its own held-out samples are still held out, and without any there is nothing to leak.
    assert train(data, config, tmp_path / "same")
    assert train(exchange_splits(data), replace(config, learn_from="all"), tmp_path / "all")


def test_a_checkpoint_that_saw_the_held_out_samples_is_refused(tmp_path: Path) -> None:
    data = drawn_dataset()
    train(data, SHORT, tmp_path / "first")
    path = tmp_path / "first" / CHECKPOINT_FILE
    config = replace(SHORT, init=str(path))
    with pytest.raises(InputError, match=r"checkpoint\.pt was trained on"):
        train(exchange_splits(data), config, tmp_path / "second")
    # One of an earlier release has only the fingerprint of its data.
    stored = torch.load(path, weights_only=True)
    del stored["trained_on"]
    torch.save(stored, path)
    with pytest.raises(InputError, match=r"checkpoint\.pt was trained on"):
        cross_validate(data, config, tmp_path / "third", folds=2, seed=1)
    assert train(data, config, tmp_path / "fourth")
