from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import batch
from batch.errors import InputError, ModelError
from batch.models.contract import load_model
from batch.models.fusion import pack_fusion, unpack_fusion
from batch.models.shipped import find_model
from batch.records import Photo, Region
from batch.vision.crop import resize_photo
from tests.support.tiny_models import bright_model, bright_spec, save_model
from tests.support.trainer_data import CONFIG, write_folders
from trainer.cli.main import cli
from trainer.datasets.dataset import Framing
from trainer.datasets.labelled_files import list_folder_files, load_folders
from trainer.datasets.rendered_pictures import render_pictures
from trainer.evaluation.calibration import fit_temperature, softmax
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, name_sample, read_out_of_fold
from trainer.training.cross_validation import cross_validate
from trainer.training.fit_fusion_rules import (
    ALONE_SCORE,
    LABEL_LIMIT,
    FusionEvidence,
    choose_fusion_thresholds,
    cross_fit,
    fit_fusion,
    gather_evidence,
    predict_fused,
    set_thresholds,
)

LABELS, ABSTAIN = ("happy", "sad"), ("neither", "no_person")


def draw_probabilities(targets: Targets, outputs: int, strength: float, seed: int) -> Probabilities:
    """Draw noisy probabilities in favour of the right class."""
    chance = np.random.default_rng(seed)
    truth = np.eye(max(outputs, 4))[targets][:, :outputs]
    logits = strength * truth + chance.normal(0, 1, (len(targets), outputs))
    return softmax(logits.astype(np.float32), 1.0)


def draw_evidence(count: int, seed: int) -> FusionEvidence:
    """Draw photos of four kinds; a tenth without a person has a false face of low score."""
    chance = np.random.default_rng(seed)
    targets = chance.integers(0, 4, count)
    has_face = chance.random(count) < np.where(targets == 3, 0.1, 0.7)
    face = draw_probabilities(targets, 3, 2.0, seed + 1)
    face[~has_face] = np.nan
    score = np.where(
        targets == 3, chance.uniform(0.6, 0.8, count), chance.uniform(0.7, 0.95, count)
    )
    return FusionEvidence(
        labels=LABELS,
        abstain=ABSTAIN,
        face_abstain=("neither",),
        face=face,
        score=score,
        share=chance.uniform(0.1, 1.0, count),
        photo=draw_probabilities(targets, 4, 2.0, seed + 2),
        targets=targets,
        folds=np.arange(count) % 5,
        weights=np.ones(count, dtype=np.float32),
        kinds=np.full(count, "photo"),
    )


def test_both_models_are_better_than_one() -> None:
    evidence = draw_evidence(3000, 2)
    answers = cross_fit("face", evidence, 0.2).probabilities
    faces = evidence.has_face & (evidence.score < ALONE_SCORE)
    right = (answers.argmax(axis=1) == evidence.targets)[faces].mean()
    assert right > (evidence.photo.argmax(axis=1) == evidence.targets)[faces].mean() + 0.05


def test_a_fold_is_predicted_by_rules_fitted_on_the_others() -> None:
    evidence = draw_evidence(400, 3)
    held = evidence.folds == 0
    turned = np.where(held, (evidence.targets + 1) % 4, evidence.targets)
    one, other = (
        cross_fit("face", each, 0.2) for each in (evidence, replace(evidence, targets=turned))
    )
    assert one.fusions[0] == other.fusions[0]
    assert np.array_equal(one.probabilities[held], other.probabilities[held])
    assert one.fusions[1] != other.fusions[1]


def test_the_fitted_rule_has_the_least_loss() -> None:
    evidence = draw_evidence(2000, 4)
    fusion = fit_fusion("face", evidence)
    mixed = evidence.take(evidence.has_face)
    never_alone = replace(fusion, alone_score=1.0)

    def loss(bias: float, face: float) -> float:
        rule = never_alone.both
        moved = replace(rule, bias=(rule.bias[0] + bias, *rule.bias[1:]), face=rule.face + face)
        answers = predict_fused(replace(never_alone, both=moved), mixed)
        return float(-np.log(answers[np.arange(len(answers)), mixed.targets]).sum())

    least = loss(0, 0)
    assert all(loss(*move) > least for move in ((0.2, 0), (-0.2, 0), (0, 0.1), (0, -0.1)))


def test_a_photo_of_lower_weight_counts_less() -> None:
    evidence = draw_evidence(600, 5)
    wrong = np.arange(600) % 3 == 0
    targets = np.where(wrong, (evidence.targets + 1) % 4, evidence.targets)
    doubted = replace(
        evidence, targets=targets, weights=np.where(wrong, 0.01, 1).astype(np.float32)
    )
    clean = evidence.take(~wrong)
    believed = replace(evidence, targets=targets)
    bias = [fit_fusion("face", each).both.bias for each in (clean, doubted, believed)]
    near, far = (np.abs(np.subtract(bias[0], each)).max() for each in bias[1:])
    assert near < 0.1 < far


def test_thresholds_are_chosen_on_photos_of_weight_one_alone() -> None:
    evidence = draw_evidence(600, 6)
    fusion = fit_fusion("face", evidence)
    wrong = np.arange(600) % 2 == 0
    targets = np.where(wrong, (evidence.targets + 1) % 4, evidence.targets)
    doubted = replace(evidence, targets=targets, weights=np.where(wrong, 0.5, 1).astype(np.float32))
    by_doubted, by_clean, by_all = (
        choose_fusion_thresholds(fusion, each, 0.2)
        for each in (doubted, evidence.take(~wrong), replace(evidence, targets=targets))
    )
    assert (by_doubted.answered, by_doubted.wrong) == (by_clean.answered, by_clean.wrong)
    assert by_doubted.unsure_below == by_clean.unsure_below
    assert by_all.answered != by_clean.answered


def test_the_photo_never_raises_neither_beside_a_face() -> None:
    fusion = fit_fusion("face", draw_evidence(2000, 7))
    face = np.asarray([0.3, 0.6, 0.1], dtype=np.float32)
    photos = ([0.1, 0.1, 0.796, 0.004], [0.2, 0.2, 0.592, 0.008])
    says = [fusion.fuse(face, 0.7, np.asarray(photo, dtype=np.float32)) for photo in photos]
    assert says[0][2] / says[0][0] == pytest.approx(says[1][2] / says[1][0], rel=1e-3)


def test_the_term_of_the_photo_for_a_label_is_bounded() -> None:
    fusion = fit_fusion("face", draw_evidence(2000, 8))
    face = np.asarray([0.5, 0.4, 0.1], dtype=np.float32)
    odds = []
    for sad in (0.9, 0.97, 0.99):
        photo = np.asarray([0.999 - sad, sad, 0.0005, 0.0005], dtype=np.float32)
        says = fusion.fuse(face, 0.7, photo)
        odds.append(np.log(says[1] / says[0]))
    bound = 2 * LABEL_LIMIT * fusion.both.label
    alone = np.log(0.4 / 0.5) * fusion.both.face + fusion.both.bias[1] - fusion.both.bias[0]
    assert odds[1] == pytest.approx(odds[2]) == pytest.approx(alone + bound, abs=1e-3)
    assert odds[0] < odds[1]


def test_data_without_an_abstain_class_make_a_rule_without_it() -> None:
    evidence = draw_evidence(400, 9)
    labelled = evidence.take(evidence.targets < 2)
    photo = labelled.photo[:, :2] / labelled.photo[:, :2].sum(axis=1, keepdims=True)
    face = labelled.face[:, :2] / labelled.face[:, :2].sum(axis=1, keepdims=True)
    two = replace(labelled, abstain=(), face_abstain=(), photo=photo, face=face)
    fusion = fit_fusion("face", two)
    assert (len(fusion.both.bias), fusion.both.abstain, fusion.abstain_from) == (2, {}, {})
    assert predict_fused(fusion, two).shape == (len(two.targets), 2)


def test_the_fitted_rules_are_read_back_from_the_model_file() -> None:
    evidence = draw_evidence(300, 10)
    fusion = fit_fusion("face", evidence)
    fusion = set_thresholds(fusion, choose_fusion_thresholds(fusion, evidence, 0.3))
    assert unpack_fusion(pack_fusion(fusion)) == fusion


FRAMING = Framing(Region.IMAGE, side=16, channels=3)


@pytest.fixture
def root(tmp_path: Path, astronaut: Image.Image) -> Path:
    """Drawn and rendered pictures, few of them with detectable faces, and a photo with a face."""
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


def cross_validate_photos(root: Path, run: Path) -> OutOfFold:
    config = replace(CONFIG, epochs=1)
    return cross_validate(load_folders(root, FRAMING), config, run, folds=2, seed=1)


def gather_photos(root: Path, answers: OutOfFold, face: str = "happy-sad") -> FusionEvidence:
    return gather_evidence(list_folder_files(root)[1], face, answers, FRAMING)


def test_each_photo_has_its_face_and_its_out_of_fold_prediction(
    root: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    answers = cross_validate_photos(root, tmp_path / "run")
    evidence = gather_photos(root, answers)
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


def test_a_missing_photo_is_named(root: Path, tmp_path: Path) -> None:
    answers = cross_validate_photos(root, tmp_path / "run")
    (root / "happy" / "astronaut.png").unlink()
    with pytest.raises(InputError, match="1 cross-validated photos are missing"):
        gather_photos(root, answers)


def test_a_model_that_can_not_be_fused_is_refused(root: Path, tmp_path: Path) -> None:
    answers = cross_validate_photos(root, tmp_path / "run")
    whole_photos = save_model(
        bright_model(bright_spec(region=Region.IMAGE)), tmp_path / "whole.onnx"
    )
    with pytest.raises(ModelError, match="needs a face model"):
        gather_photos(root, answers, str(whole_photos))
    other = replace(answers, labels=("day", "night", "neither", "no_person"))
    with pytest.raises(ModelError, match="has the labels happy, sad, not day, night"):
        gather_photos(root, other)
    with pytest.raises(ModelError, match="do not have photos of each"):
        gather_photos(root, replace(answers, labels=("happy", "sad", "no_person")))


def test_the_commands_lead_from_photos_to_a_fusion(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
    values = json.loads((run / "fusion.json").read_text())
    recipe = read_out_of_fold(run / "out-of-fold.csv").recipe
    assert values.pop("recipe") == asdict(recipe)
    fusion = unpack_fusion(json.dumps(values))
    assert (fusion.face_model, list(fusion.abstain_from)) == ("happy-sad", ["neither", "no_person"])
    assert fusion == unpack_fusion(second.stdout.splitlines()[-1])
    assert fusion.face_sha256 == load_model(find_model("happy-sad")).digest
    assert "labels that count  " in second.stdout
    strict = runner.invoke(cli, ["fuse", *shared, "--risk", "0.01"])
    assert strict.exit_code == 0, strict.output
    assert "no thresholds keep the risk of 1.0%" in strict.stderr
    default = runner.invoke(cli, ["fuse", *shared[:4]])
    assert default.exit_code != 0
    described = "whole photos, 160 x 160 pixels, RGB"
    assert f"missing among the samples of {described}" in default.stderr
    assert f"samples are {described} (--side, --rgb)" in caplog.text
    faces = runner.invoke(cli, ["fuse", *shared[:4], "--region", "face"])
    assert "a cross-validation of whole photos" in faces.stderr
