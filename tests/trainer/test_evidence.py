from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import batch
from batch.crop import whole
from batch.errors import InputError, ModelError
from batch.fusion import log_odds, unpack_fusion
from batch.records import Photo, Region
from tests.tiny_models import bright_model, bright_spec, save
from tests.trainer_data import CONFIG, write_folders
from trainer.cli import cli
from trainer.data import Framing
from trainer.datasets.folders import load_folders
from trainer.evaluation.calibrate import fit_temperature, softmax
from trainer.evaluation.crossvalidate import crossvalidate
from trainer.evaluation.evidence import gather
from trainer.evaluation.folds import OutOfFold, sample_name

FRAMING = Framing(Region.IMAGE, side=16, channels=3)


@pytest.fixture
def root(tmp_path: Path, astronaut: Image.Image) -> Path:
    """Drawn pictures, in few of which a detector sees a face, and one photo with a face."""
    folder = write_folders(tmp_path / "people", 10)
    astronaut.save(folder / "happy" / "astronaut.png")
    return folder


def held_out(root: Path, run: Path) -> OutOfFold:
    config = replace(CONFIG, epochs=1)
    return crossvalidate(load_folders(root, FRAMING), config, run, folds=2, seed=1)


def test_the_face_of_each_photo_is_put_beside_its_held_out_answer(
    root: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    answers = held_out(root, tmp_path / "run")
    evidence = gather(root, "happy-sad", answers, FRAMING)
    assert np.array_equal(evidence.targets, answers.targets)
    temperature = fit_temperature(answers.logits, answers.targets)
    chances = softmax(answers.logits, temperature)[:, 0]
    assert evidence.photo == pytest.approx([log_odds(chance) for chance in chances], abs=1e-4)
    assert 1 <= evidence.has_face.sum() < len(evidence.targets)
    photo = np.asarray(astronaut.convert("RGB"))
    sample = sample_name(whole(Photo(Path(), photo, *astronaut.size), 16, 16, 3))
    place = answers.names.index(sample)
    assert answers.labels[evidence.targets[place]] == "happy"
    (row,) = batch.label([root / "happy" / "astronaut.png"], batch.Options(model="happy-sad"))
    assert row.answer is not None
    assert evidence.face[place] == log_odds(row.answer.probabilities["happy"]) > 1


def test_a_photo_that_went_away_is_told(root: Path, tmp_path: Path) -> None:
    answers = held_out(root, tmp_path / "run")
    (root / "happy" / "astronaut.png").unlink()
    with pytest.raises(InputError, match="1 cross-validated photos are missing"):
        gather(root, "happy-sad", answers, FRAMING)


def test_a_face_model_of_other_labels_is_refused(root: Path, tmp_path: Path) -> None:
    answers = held_out(root, tmp_path / "run")
    spec = bright_spec(region=Region.IMAGE)
    other = save(bright_model(spec), tmp_path / "other.onnx")
    renamed = replace(answers, labels=("day", "night"))
    with pytest.raises(ModelError, match="not day, night"):
        gather(root, str(other), renamed, FRAMING)


def test_the_commands_lead_from_photos_to_a_fusion(root: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("widths = [4, 8]\nbatch_size = 8\nthreads = 1\nepochs = 1\n")
    run = tmp_path / "run"
    shared = ["--data", str(root), "--run", str(run), "--region", "image", "--side", "16", "--rgb"]
    runner = CliRunner()
    first = runner.invoke(
        cli, ["crossvalidate", *shared, "--config", str(settings), "--folds", "2"]
    )
    assert first.exit_code == 0, first.output
    assert "accuracy" in first.stdout
    second = runner.invoke(cli, ["fuse", *shared])
    assert second.exit_code == 0, second.output
    fusion = unpack_fusion((run / "fusion.json").read_text())
    assert fusion.face_model == "happy-sad"
    assert fusion == unpack_fusion(second.stdout.splitlines()[-1])
