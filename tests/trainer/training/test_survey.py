from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from batch.records import Region
from tests.support.trainer_data import write_folders
from trainer.datasets.labelled_files import list_folder_files, list_table_files
from trainer.datasets.samples import TEST, TRAIN, LabelledFile, build_dataset
from trainer.evaluation.out_of_fold import assign_folds
from trainer.training.defaults import FACE_FRAMING, PhotoSurvey, choose_region
from trainer.training.survey import MAX_PHOTOS, PHOTO_FRAMING, _choose_files, survey_photos


def write_noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC).save(path)


def list_training_files(root: Path) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """List the photos of a folder, all of the training split."""
    classes, files = list_folder_files(root)
    return classes, [replace(file, split=TRAIN) for file in files]


def test_crops_of_faces_need_no_comparison(tmp_path: Path) -> None:
    found = survey_photos(*list_training_files(write_folders(tmp_path / "photos", 6)))
    assert found == PhotoSurvey(photos=12, faces=12)
    assert choose_region(found)[0] is Region.FACE


def test_photos_without_faces_are_learnt_as_wholes(tmp_path: Path) -> None:
    for n in range(8):
        write_noise(tmp_path / ("a" if n % 2 else "b") / f"{n}.png", n)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no picture")
    found = survey_photos(*list_training_files(tmp_path))
    assert found == PhotoSurvey(photos=8, faces=0)
    assert choose_region(found)[0] is Region.IMAGE


@pytest.mark.parametrize("has_splits", [False, True])
def test_test_photos_have_no_part_in_the_choice(tmp_path: Path, has_splits: bool) -> None:
    """Six photos per class are so few that some get their split by the rule for small classes."""
    classes, files = list_folder_files(write_folders(tmp_path, 6))
    if has_splits:
        files = [replace(f, split=TEST if n % 3 else TRAIN) for n, f in enumerate(files)]
    data = build_dataset("photos", classes, files, FACE_FRAMING)
    assert len(data.test)
    assert survey_photos(classes, files).photos == len(files) - len(data.test)


def test_a_choice_by_labels_is_the_same_whatever_test_photos_show(tmp_path: Path) -> None:
    classes, files, _ = list_table_files(write_series(tmp_path))
    data = build_dataset("photos", classes, files, PHOTO_FRAMING)
    tested = set(data.test.names)
    assert len(tested) >= 4
    found = survey_photos(classes, files)
    wrong = [replace(f, label=1 - f.label) if f.name in tested else f for f in files]
    assert found == survey_photos(classes, wrong)
    assert found.photos == len(files) - len(tested)
    everything = survey_photos(classes, [replace(file, split=TRAIN) for file in files])
    assert everything != survey_photos(classes, [replace(file, split=TRAIN) for file in wrong])


def test_pictures_without_a_person_are_learnt_as_wholes(tmp_path: Path) -> None:
    for name in ("a", "b", "no_person"):
        write_noise(tmp_path / name / "1.png", 1)
    found = survey_photos(*list_training_files(tmp_path))
    assert found.has_no_person
    assert choose_region(found)[0] is Region.IMAGE


def test_labels_of_the_place_behind_a_face_are_learnt_from_whole_photos(tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    face = Image.fromarray(data.astronaut()[60:200, 160:290])
    chance = np.random.default_rng(1)
    for n in range(40):
        green = n % 2
        colour = (40, 150, 60) if green else (120, 60, 160)
        photo = Image.new("RGB", (360, 360), colour)
        # The same face in other light, anywhere in the photo.
        lit = ImageEnhance.Brightness(face).enhance(0.8 + n / 100)
        photo.paste(lit, (int(chance.integers(60, 160)), int(chance.integers(60, 160))))
        path = tmp_path / ("garden" if green else "studio") / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        photo.save(path)
    found = survey_photos(*list_training_files(tmp_path))
    assert found.faces >= 36
    assert found.photo_wins > found.face_wins
    assert choose_region(found)[0] is Region.IMAGE
    assert found == survey_photos(*list_training_files(tmp_path))


def test_a_second_survey_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    classes, files, _ = list_table_files(write_series(photos))
    files = [replace(file, split=TRAIN) for file in files]
    first = survey_photos(classes, files, cache)
    assert first.faces >= 40
    assert first == survey_photos(classes, files)
    for n in range(4):
        write_noise(photos / f"empty-{n}.png", n)
    files = [
        *files,
        *(LabelledFile(photos / f"empty-{n}.png", f"{n}", n % 2, TRAIN) for n in range(4)),
    ]
    second = survey_photos(classes, files, cache)

    def refuse(path: Path, _: bytes) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr("trainer.datasets.samples.decode_bytes", refuse)
    monkeypatch.setattr("batch.vision.decode.decode_image", refuse)
    assert survey_photos(classes, files, cache) == second
    assert second.photos == first.photos + 4
    with pytest.raises(AssertionError, match="is decoded again"):
        survey_photos(classes, files)


def write_series(folder: Path) -> Path:
    """Write photos of one face: six series of four per class, each before a backdrop of its own.

    Returns:
        The table, whose column ``group`` is the series.
    """
    data = pytest.importorskip("skimage.data")
    face = Image.fromarray(data.astronaut()[60:200, 160:290])
    chance = np.random.default_rng(1)
    rows = ["path,label,group"]
    for series in range(12):
        grid = chance.integers(0, 256, (4, 4, 3), np.uint8)
        backdrop = Image.fromarray(grid).resize((360, 360), Image.Resampling.BICUBIC)
        for n in range(4):
            photo = backdrop.copy()
            lit = ImageEnhance.Brightness(face).enhance(0.8 + n / 10)
            photo.paste(lit, (int(chance.integers(20, 200)), int(chance.integers(20, 200))))
            photo.save(folder / f"{series}-{n}.png")
            rows.append(f"{series}-{n}.png,{'ab'[series % 2]},{series}")
    table = folder / "labels.csv"
    table.write_text("\n".join(rows))
    return table


def test_photos_of_a_series_share_a_fold(tmp_path: Path) -> None:
    classes, files, _ = list_table_files(write_series(tmp_path))
    files = [replace(file, split=TRAIN) for file in files]
    ungrouped = survey_photos(classes, [replace(file, group="") for file in files])
    grouped = survey_photos(classes, files)
    assert grouped.faces == ungrouped.faces >= 40
    # The backdrop tells the series, and so the label, only if a photo of it is in another fold.
    assert choose_region(ungrouped)[0] is Region.IMAGE
    assert choose_region(grouped)[0] is Region.FACE


def test_near_duplicates_share_a_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pytest.importorskip("skimage.data")
    photo = Image.fromarray(data.astronaut())
    for n in range(12):
        path = tmp_path / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(exist_ok=True)
        turned = photo.rotate(90 * (n // 3), expand=True) if n < 6 else photo.crop((n, 0, 300, 300))
        ImageEnhance.Brightness(turned).enhance(0.7 + n % 3 / 10).save(path)
    seen: list[list[int]] = []

    def record(groups: np.ndarray, *rest: object) -> np.ndarray:
        seen.append(groups.tolist())
        return assign_folds(groups, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.training.survey.assign_folds", record)
    survey_photos(*list_training_files(tmp_path))
    (groups,) = seen
    assert len(set(groups)) < len(groups) == 12


def test_the_same_number_of_each_class_is_surveyed(tmp_path: Path) -> None:
    files = [LabelledFile(tmp_path / f"{n}.jpg", f"{n}.jpg", int(n > 400)) for n in range(500)]
    chosen = _choose_files(files)
    assert [sum(file.label == label for file in chosen) for label in (0, 1)] == [
        MAX_PHOTOS // 2,
        99,
    ]
    assert chosen == _choose_files(files[::-1])


@pytest.mark.parametrize("classes", [3, 7, 150, 3000])
def test_the_survey_is_bounded_for_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    files = [LabelledFile(tmp_path / f"{n}.jpg", f"{n}.jpg", n % classes) for n in range(6000)]
    chosen = _choose_files(files)
    assert len(chosen) == MAX_PHOTOS
    counts = np.bincount([file.label for file in chosen], minlength=classes)
    assert counts.max() - counts.min() <= 1
