from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.errors import InputError
from batch.records import Photo, Region
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import Detector
from tests.support.trainer_data import find_real_data, write_folders
from trainer.datasets.dataset import Dataset, Framing
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.labelled_files import load_folders
from trainer.datasets.samples import assign_split

FACE = Framing(side=24)


def reasons(data: Dataset) -> dict[str, str]:
    return dict(data.skipped)


def test_classes_are_sub_folders_and_small_pictures_are_faces(tmp_path: Path) -> None:
    data = load_folders(write_folders(tmp_path, 20), FACE)
    assert data.labels == ("happy", "sad")
    assert len(data.get_split("all")) == 40
    assert data.train.pixels.shape[1:] == (24, 24, 1)
    assert not data.skipped
    path = tmp_path / "sad" / "003.png"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    photo = decode_bytes(path, path.read_bytes())
    assert isinstance(photo, Photo)
    part = data.get_split(assign_split(digest))
    where = np.flatnonzero((part.pixels == resize_photo(photo, 24, 24, 1)).all(axis=(1, 2, 3)))
    assert part.targets[where].tolist() == [1]


def test_more_photos_move_none_that_were_there(tmp_path: Path) -> None:
    few = load_folders(write_folders(tmp_path / "few", 20), FACE)
    many = load_folders(write_folders(tmp_path / "many", 60), FACE)
    for split in ("train", "validation", "test"):
        before, after = (
            {face.tobytes() for face in getattr(data, split).pixels} for data in (few, many)
        )
        assert before <= after
    shares = [len(many.get_split(split)) / 120 for split in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.08)


def test_a_split_is_told_by_the_digest_alone() -> None:
    assert assign_split("0" * 64) == "train"
    assert assign_split("cc" + "0" * 62) == "train"
    assert assign_split("cd" + "0" * 62) == "validation"
    assert assign_split("e6" + "0" * 62) == "validation"
    assert assign_split("e7" + "0" * 62) == "test"
    assert assign_split("f" * 64) == "test"


def test_names_change_nothing(tmp_path: Path) -> None:
    before = load_folders(write_folders(tmp_path, 20), FACE).fingerprint
    (tmp_path / "sad" / "deep").mkdir()
    (tmp_path / "sad" / "003.png").rename(tmp_path / "sad" / "deep" / "zzz.png")
    assert load_folders(tmp_path, FACE).fingerprint == before


def test_what_can_not_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    write_folders(tmp_path, 20)
    shutil.copy(tmp_path / "sad" / "001.png", tmp_path / "sad" / "copy.png")
    shutil.copy(tmp_path / "sad" / "002.png", tmp_path / "happy" / "both.png")
    (tmp_path / "sad" / "torn.png").write_bytes((tmp_path / "sad" / "004.png").read_bytes()[:90])
    (tmp_path / "happy" / "notes.txt").write_text("no picture")
    (tmp_path / "happy" / ".hidden.png").write_text("nor looked at")
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "happy" / "wall.png")
    data = load_folders(tmp_path, FACE)
    left_out = reasons(data)
    assert set(left_out) == {
        "sad/copy.png",
        "sad/002.png",
        "happy/both.png",
        "sad/torn.png",
        "happy/notes.txt",
        "happy/wall.png",
    }
    assert left_out["sad/copy.png"] == "the same photo as sad/001.png"
    assert left_out["sad/002.png"] == "the same photo is in happy and sad"
    assert left_out["happy/wall.png"] == "no face found"
    assert all(left_out.values())
    assert len(data.get_split("all")) == 39
    assert (tmp_path / "sad" / "torn.png").exists()


def test_whole_photos_need_no_face(tmp_path: Path) -> None:
    write_folders(tmp_path, 20)
    Image.new("RGB", (200, 100), "red").save(tmp_path / "happy" / "wall.png")
    data = load_folders(tmp_path, Framing(region=Region.IMAGE, side=24, channels=3))
    assert not data.skipped
    assert len(data.get_split("all")) == 41
    assert (data.get_split("all").pixels == (255, 0, 0)).all(axis=(1, 2, 3)).sum() == 1


def test_abstain_folders_come_last_and_sub_folders_are_kinds(tmp_path: Path) -> None:
    write_folders(tmp_path, 6)
    for name, sub_folder, seed in (("neither", "", 50), ("empty", "pets/dogs", 60)):
        (tmp_path / name / sub_folder).mkdir(parents=True)
        for n in range(3):
            face = draw_snapshot(Mood.HAPPY, 32, 3, seed + n)
            Image.fromarray(face).save(tmp_path / name / sub_folder / f"{n}.png")
    (tmp_path / "zest").mkdir()
    (tmp_path / "sad" / "000.png").rename(tmp_path / "zest" / "000.png")
    data = load_folders(tmp_path, FACE, {"empty": "no_person"})
    assert data.labels == ("happy", "sad", "zest", "neither", "no_person")
    assert data.abstain == ("neither", "no_person")
    part = data.get_split("all")
    kinds = {
        (data.labels[target], kind)
        for target, kind in zip(part.targets.tolist(), part.kinds.tolist(), strict=True)
    }
    assert kinds == {
        ("happy", "happy"),
        ("sad", "sad"),
        ("zest", "zest"),
        ("neither", "neither"),
        ("no_person", "no_person/pets/dogs"),
    }


@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_labels_are_an_error(tmp_path: Path, classes: int) -> None:
    for n in range(classes):
        (tmp_path / f"class{n}").mkdir()
    (tmp_path / "neither").mkdir()
    with pytest.raises(InputError, match=f"has {classes} sub-folders"):
        load_folders(tmp_path, FACE)


def test_an_empty_class_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    write_folders(tmp_path, 3)
    (tmp_path / "angry").mkdir()
    with pytest.raises(InputError, match=r"angry in .* has no usable photo"):
        load_folders(tmp_path, FACE)
    with pytest.raises(InputError, match="absent is not a folder"):
        load_folders(tmp_path / "absent", FACE)


def test_a_real_face_is_cut_as_the_runner_cuts_it(tmp_path: Path) -> None:
    from zipfile import ZipFile

    framing = Framing(margin=0.2, side=48, channels=3)
    detector = Detector()
    with ZipFile(find_real_data("people.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        chosen = [n for n in names if n.startswith("happy/")][:6]
        chosen += [n for n in names if n.startswith("sad/")][:6]
        archive.extractall(tmp_path, chosen)
    data = load_folders(tmp_path, framing)
    samples = {sample.tobytes() for sample in data.get_split("all").pixels}
    assert len(samples) + len(data.skipped) == 12
    for name in chosen:
        photo = decode_bytes(tmp_path / name, (tmp_path / name).read_bytes())
        assert isinstance(photo, Photo)
        boxes = detector.detect(photo)
        if boxes:
            assert crop(photo, boxes[0], 0.2, 48, 48, 3).tobytes() in samples
        else:
            assert reasons(data)[name] == "no face found"
