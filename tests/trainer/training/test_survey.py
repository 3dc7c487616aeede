from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from batch.records import Region
from tests.support.trainer_data import write_folders
from trainer.datasets.labelled_files import list_folder_files
from trainer.datasets.samples import LabelledFile
from trainer.training.defaults import PhotoSurvey, choose_region
from trainer.training.survey import MAX_PHOTOS, _choose_files, survey_photos


def write_noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC).save(path)


def test_crops_of_faces_need_no_comparison(tmp_path: Path) -> None:
    found = survey_photos(*list_folder_files(write_folders(tmp_path / "photos", 6)))
    assert found == PhotoSurvey(photos=12, faces=12)
    assert choose_region(found)[0] is Region.FACE


def test_photos_without_faces_are_learnt_as_wholes(tmp_path: Path) -> None:
    for n in range(8):
        write_noise(tmp_path / ("a" if n % 2 else "b") / f"{n}.png", n)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no picture")
    found = survey_photos(*list_folder_files(tmp_path))
    assert found == PhotoSurvey(photos=8, faces=0)
    assert choose_region(found)[0] is Region.IMAGE


def test_pictures_without_a_person_are_learnt_as_wholes(tmp_path: Path) -> None:
    for name in ("a", "b", "no_person"):
        write_noise(tmp_path / name / "1.png", 1)
    found = survey_photos(*list_folder_files(tmp_path))
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
    found = survey_photos(*list_folder_files(tmp_path))
    assert found.faces >= 36
    assert found.photo_wins > found.face_wins
    assert choose_region(found)[0] is Region.IMAGE
    assert found == survey_photos(*list_folder_files(tmp_path))


def test_the_same_number_of_each_class_is_surveyed(tmp_path: Path) -> None:
    files = [LabelledFile(tmp_path / f"{n}.jpg", f"{n}.jpg", int(n > 400)) for n in range(500)]
    chosen = _choose_files(files)
    assert [sum(file.label == label for file in chosen) for label in (0, 1)] == [
        MAX_PHOTOS // 2,
        99,
    ]
    assert chosen == _choose_files(files[::-1])
