from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import batch
from batch.errors import InputError, ModelError
from batch.models.fusion import unpack_fusion
from batch.records import Photo, Region
from batch.vision.crop import resize_photo
from tests.support.tiny_models import bright_model, bright_spec, save_model
from tests.support.trainer_data import CONFIG, write_folders
from trainer.cli.main import cli
from trainer.datasets.dataset import Framing
from trainer.datasets.labelled_files import list_folder_files, load_folders
from trainer.datasets.rendered_pictures import render_pictures
from trainer.evaluation.calibration import fit_temperature, softmax
from trainer.evaluation.out_of_fold import OutOfFold, name_sample
from trainer.training.cross_validation import cross_validate
from trainer.training.fit_fusion_rules import FusionEvidence, gather_evidence

FRAMING = Framing(Region.IMAGE, side=16, channels=3)


@pytest.fixture
def root(tmp_path: Path, astronaut: Image.Image) -> Path:
    """Drawn and rendered pictures, in few of which a detector sees a face, and a photo with one."""
    folder = write_folders(tmp_path / "people", 10)
    astronaut.save(folder / "happy" / "astronaut.png")
    turned = write_folders(tmp_path / "others", 8) / "sad"
    turned.rename(folder / "neither")
    for path in (folder / "neither").iterdir():
        Image.open(path).rotate(90).save(path)
    (folder / "no_person").mkdir()
    for n, (kind, picture) in enumerate(render_pictures(26)):
        picture.save(folder / "no_person" / f"{kind}{n}.png")
    return folder


def held_out(root: Path, run: Path) -> OutOfFold:
    config = replace(CONFIG, epochs=1)
    return cross_validate(load_folders(root, FRAMING), config, run, folds=2, seed=1)


def evidence_of(root: Path, answers: OutOfFold, face: str = "happy-sad") -> FusionEvidence:
    return gather_evidence(list_folder_files(root)[1], face, answers, FRAMING)


def test_the_face_of_each_photo_is_put_beside_its_held_out_answer(
    root: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    answers = held_out(root, tmp_path / "run")
    evidence = evidence_of(root, answers)
    assert (evidence.labels, evidence.abstain) == (("happy", "sad"), ("neither", "no_person"))
    assert evidence.face_abstain == ("neither",)
    assert np.array_equal(evidence.targets, answers.targets)
    temperature = fit_temperature(answers.logits, answers.targets)
    assert np.array_equal(evidence.photo, softmax(answers.logits, temperature))
    assert 1 <= evidence.has_face.sum() < len(evidence.targets)
    photo = Photo(Path(), astronaut.convert("RGB"), *astronaut.size)
    sample = name_sample(resize_photo(photo, 16, 16, 3))
    place = answers.names.index(sample)
    assert evidence.targets[place] == 0
    (row,) = batch.label([root / "happy" / "astronaut.png"], batch.Options(model="happy-sad"))
    assert row.answer is not None
    assert row.answer.box is not None
    assert evidence.face[place].tolist() == list(row.answer.probabilities.values())
    assert evidence.score[place] == row.answer.box.score
    longer = max(row.answer.box.width, row.answer.box.height)
    assert evidence.share[place] == longer / max(astronaut.size)


def test_a_photo_that_went_away_is_told(root: Path, tmp_path: Path) -> None:
    answers = held_out(root, tmp_path / "run")
    (root / "happy" / "astronaut.png").unlink()
    with pytest.raises(InputError, match="1 cross-validated photos are missing"):
        evidence_of(root, answers)


def test_a_model_that_can_not_be_fused_is_refused(root: Path, tmp_path: Path) -> None:
    answers = held_out(root, tmp_path / "run")
    whole_photos = save_model(
        bright_model(bright_spec(region=Region.IMAGE)), tmp_path / "whole.onnx"
    )
    with pytest.raises(ModelError, match="needs a face model"):
        evidence_of(root, answers, str(whole_photos))
    other = replace(answers, labels=("day", "night", "neither", "no_person"))
    with pytest.raises(ModelError, match="answers happy, sad, not day, night"):
        evidence_of(root, other)
    with pytest.raises(ModelError, match="no photos of them all"):
        evidence_of(root, replace(answers, labels=("happy", "sad", "no_person")))


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
    second = runner.invoke(cli, ["fuse", *shared, "--risk", "0.5"])
    assert second.exit_code == 0, second.output
    fusion = unpack_fusion((run / "fusion.json").read_text())
    assert (fusion.face_model, list(fusion.abstain_from)) == ("happy-sad", ["neither", "no_person"])
    assert fusion == unpack_fusion(second.stdout.splitlines()[-1])
    assert "right, of the labels that count" in second.stdout
    strict = runner.invoke(cli, ["fuse", *shared, "--risk", "0.01"])
    assert strict.exit_code == 0, strict.output
    assert "no thresholds keep the risk of 1.0%" in strict.stderr
