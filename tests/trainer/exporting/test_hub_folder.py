"""The folder of ``trainer publish``: what the hub and other programs read in it."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import batch
from batch.models.contract import load_model
from batch.models.shipped import list_shipped_models
from tests.support.trainer_data import drawn_dataset, tiny_export, tiny_training
from trainer.cli.main import cli
from trainer.exporting.card_metadata import split_card
from trainer.exporting.model_card import write_card
from trainer.exporting.publish_model import publish_model

FACE_FILES = {".gitattributes", "README.md", "config.json", "onnx/model.onnx"}


def publish(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["publish", *map(str, arguments)])


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with its card."""
    path, exported = tmp_path / "models" / "tiny.onnx", tiny_export()
    publish_model(exported.graph, write_card(exported, tiny_training(), drawn_dataset()), path)
    return path


def test_a_shipped_model_has_all_files_of_the_layout(tmp_path: Path) -> None:
    folder, shipped = tmp_path / "new" / "people", list_shipped_models()["people"]
    ran = publish("people", folder)
    assert (ran.exit_code, ran.output) == (0, f"{folder} has the model people\n")
    assert list_files(folder) == {*FACE_FILES, "preprocessor_config.json"}
    assert (folder / "onnx" / "model.onnx").read_bytes() == shipped.read_bytes()
    assert (folder / ".gitattributes").read_text().split()[:2] == ["*.onnx", "filter=lfs"]
    card = pytest.importorskip("huggingface_hub").ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == (None, "image-classification")
    before = split_card(shipped.with_suffix(".md").read_text(encoding="utf-8"))
    assert split_card((folder / "README.md").read_text())[0] == before[0]
    assert before[1] in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["people"]
    assert folder.stat().st_mode & 0o777 == tmp_path.joinpath("new").stat().st_mode & 0o777


def test_the_configuration_files_are_true(tmp_path: Path, photos: Path) -> None:
    assert publish("people", tmp_path / "people").exit_code == 0
    config = json.loads((tmp_path / "people" / "config.json").read_text())
    steps = json.loads((tmp_path / "people" / "preprocessor_config.json").read_text())
    assert {int(n): name for n, name in config["id2label"].items()} == {
        n: name for name, n in config["label2id"].items()
    }
    assert (steps["do_rescale"], steps["do_normalize"]) == (False, False)
    graph = tmp_path / "people" / "onnx" / "model.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    options = batch.Options(model="people", always_answer=True)
    for row in batch.label(str(photos), options):
        with Image.open(row.path) as photo:
            assert steps["do_convert_rgb"]
            assert steps["do_resize"]
            size = (steps["size"]["width"], steps["size"]["height"])
            assert list(size[::-1]) == config["image_size"]
            small = photo.convert("RGB").resize(size, steps["resample"])
        pixels = np.asarray(small)
        assert steps["data_format"] == "channels_last"
        assert pixels.shape[2] == config["num_channels"]
        (answers,) = session.run(None, {session.get_inputs()[0].name: pixels[None]})
        assert row.answer is not None
        assert dict(row.answer.probabilities) == {
            config["id2label"][str(n)]: pytest.approx(float(p), abs=0.05)
            for n, p in enumerate(answers[0])
        }


def test_a_face_model_has_no_preprocessor_and_says_why(tmp_path: Path, model: Path) -> None:
    assert publish(model, tmp_path / "hub").exit_code == 0
    assert list_files(tmp_path / "hub") == FACE_FILES
    metadata, text = split_card((tmp_path / "hub" / "README.md").read_text())
    assert "license" not in metadata
    assert "no `preprocessor_config.json`" in text
    assert load_model(tmp_path / "hub" / "onnx" / "model.onnx").spec.name == "tiny"


def test_a_licence_is_written_with_its_text(tmp_path: Path, model: Path) -> None:
    (tmp_path / "mine.txt").write_text("Do as you like.\n")
    given = ("--license", "cc0-1.0", "--license-file", tmp_path / "mine.txt")
    assert publish(model, tmp_path / "hub", *given).exit_code == 0
    assert split_card((tmp_path / "hub" / "README.md").read_text())[0]["license"] == "cc0-1.0"
    assert (tmp_path / "hub" / "LICENSE").read_text() == "Do as you like.\n"
    for wrong, message in (
        (("--license", "My own"), "is not an identifier"),
        (("--license-file", tmp_path / "none"), "can't be read"),
    ):
        refused = publish(model, tmp_path / "other", *wrong)
        assert refused.exit_code != 0
        assert message in refused.output
    assert not (tmp_path / "other").exists()


def read_states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Inodes and times of change; reading a file changes only its time of access."""
    found = ((path, path.stat()) for path in folder.rglob("*"))
    return {path: (status.st_ino, status.st_ctime_ns) for path, status in found}


def test_publishing_again_changes_nothing(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()  # an empty folder is used
    assert publish(model, folder).exit_code == 0
    (folder / ".git").mkdir()  # a clone of the repository
    before = read_states(folder)
    again = publish(model, folder)
    assert (again.exit_code, again.output) == (0, f"{folder} already has the model tiny\n")
    assert read_states(folder) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "hub"
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(b"another")
    refused = publish(model, folder)
    assert refused.exit_code != 0
    assert f"{folder} is not empty and does not hold this model" in refused.output
    assert list_files(folder) == {"onnx/model.onnx"}
    (tmp_path / "file").touch()
    assert "can't be written" in publish(model, tmp_path / "file").output


def test_nothing_is_left_if_the_disk_is_full(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    sync = os.fsync

    def fill(descriptor: int) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    refused = publish(model, tmp_path / "hub")
    assert refused.exit_code != 0
    assert "can't be written (No space left on device)" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_pair_and_a_model_without_card_are_refused(tmp_path: Path, model: Path) -> None:
    for name in ("happy-sad+people", "default"):
        pair = publish(name, tmp_path / "hub")
        assert "names two models; publish each into a folder of its own" in pair.output
    model.with_suffix(".md").unlink()
    assert "is not the card of" in publish(model, tmp_path / "hub").output
    assert not (tmp_path / "hub").exists()


def test_a_licence_in_the_model_file_is_used(tmp_path: Path) -> None:
    import onnx

    exported = tiny_export()
    proto = onnx.load_from_string(exported.graph)
    proto.metadata_props.add(key="license", value="bsd-3-clause")
    licensed = replace(exported, graph=proto.SerializeToString())
    path = tmp_path / "tiny.onnx"
    publish_model(licensed.graph, write_card(licensed, tiny_training(), drawn_dataset()), path)
    assert publish(path, tmp_path / "hub").exit_code == 0
    metadata, _ = split_card((tmp_path / "hub" / "README.md").read_text())
    assert metadata["license"] == "bsd-3-clause"
