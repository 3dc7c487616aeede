from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.errors import InputError
from batch.models.ensemble import load_ensemble
from batch.options import Device, Options, Provider
from batch.reading.held_out import is_held_out
from batch.records import Photo, Region
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import Detector
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from tests.support.trainer_data import find_real_data, write_folders
from trainer.datasets.dataset import Dataset, Framing
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.labelled_files import (
    LabelTableError,
    is_label_table,
    list_folder_files,
    load_folders,
    load_label_table,
)
from trainer.datasets.samples import (
    SPLIT_NAMES,
    Sample,
    assign_split,
    generalise_reason,
    hash_group,
    spread_classes,
)

FACE = Framing(side=24)


def list_reasons(data: Dataset) -> dict[str, str]:
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


def test_more_photos_do_not_change_the_splits_of_others(tmp_path: Path) -> None:
    few = load_folders(write_folders(tmp_path / "few", 20), FACE)
    many = load_folders(write_folders(tmp_path / "many", 60), FACE)
    for split in ("train", "validation", "test"):
        before, after = (
            {face.tobytes() for face in getattr(data, split).pixels} for data in (few, many)
        )
        assert before <= after
    shares = [len(many.get_split(split)) / 120 for split in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.08)


def test_a_split_depends_only_on_the_digest() -> None:
    assert assign_split("0" * 64) == "train"
    assert assign_split("cc" + "0" * 62) == "train"
    assert assign_split("cd" + "0" * 62) == "validation"
    assert assign_split("e6" + "0" * 62) == "validation"
    assert assign_split("e7" + "0" * 62) == "test"
    assert assign_split("f" * 64) == "test"


def test_names_of_files_do_not_matter(tmp_path: Path) -> None:
    before = load_folders(write_folders(tmp_path, 20), FACE).fingerprint
    (tmp_path / "sad" / "deep").mkdir()
    (tmp_path / "sad" / "003.png").rename(tmp_path / "sad" / "deep" / "zzz.png")
    assert load_folders(tmp_path, FACE).fingerprint == before


def test_unusable_files_are_listed_with_the_reason(tmp_path: Path) -> None:
    write_folders(tmp_path, 20)
    shutil.copy(tmp_path / "sad" / "001.png", tmp_path / "sad" / "copy.png")
    shutil.copy(tmp_path / "sad" / "002.png", tmp_path / "happy" / "both.png")
    (tmp_path / "sad" / "torn.png").write_bytes((tmp_path / "sad" / "004.png").read_bytes()[:90])
    (tmp_path / "happy" / "notes.txt").write_text("no picture")
    (tmp_path / "happy" / ".hidden.png").write_text("nor looked at")
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "happy" / "wall.png")
    data = load_folders(tmp_path, FACE)
    left_out = list_reasons(data)
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


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_class_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photos", 6)
    named = root / os.fsdecode("été-".encode() + b"caf\xe9")
    shutil.copytree(next(root.iterdir()), named)
    with pytest.raises(InputError, match="has a name that is not UTF-8; rename") as refused:
        list_folder_files(root)
    assert f"{root}/été-caf\\xe9 " in str(refused.value)
    # An abstain class has a name of its own.
    assert list_folder_files(root, {named.name: "neither"})[0][-1] == "neither"


def test_an_empty_class_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    write_folders(tmp_path, 3)
    (tmp_path / "angry").mkdir()
    with pytest.raises(InputError, match=r"angry in .* has no usable photo"):
        load_folders(tmp_path, FACE)
    with pytest.raises(InputError, match="absent is not a folder"):
        load_folders(tmp_path / "absent", FACE)


def test_a_real_face_is_cropped_as_by_the_runner(tmp_path: Path) -> None:
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
            assert list_reasons(data)[name] == "no face found"


def test_a_clear_portrait_is_cropped_by_the_box_with_which_it_is_labelled(
    astronaut: Image.Image, tmp_path: Path
) -> None:
    for label in ("happy", "sad"):
        (tmp_path / label).mkdir()
    astronaut.save(tmp_path / "happy" / "astronaut.png")
    Image.fromarray(draw_snapshot(Mood.SAD, 64, 3, 5)).save(tmp_path / "sad" / "drawn.png")
    data = load_folders(tmp_path, Framing(side=48, channels=1))
    options = Options(model="happy-sad", provider=Provider.CPU)
    labeller = Labeller(make_plan(load_ensemble(options), 1), Device(Provider.CPU))
    photo = Photo(tmp_path, astronaut, *astronaut.size)
    row = labeller.label(photo)
    assert row.answer
    assert row.answer.box
    close = Detector().look_closely(photo, Detector().glance(photo))
    assert row.answer.box != close[0], "else both looks give the same pixels"
    samples = {sample.tobytes() for sample in data.get_split("all").pixels}
    assert crop(photo, row.answer.box, 0.0, 48, 48, 1).tobytes() in samples


def write_table(root: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path = root / "photos.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def list_rows(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root).as_posix()},{path.parent.name}"
        for path in sorted(root.glob("*/*.png"))
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_without_a_split_it_is_the_same_as_folders(tmp_path: Path, encoding: str) -> None:
    write_folders(tmp_path, 12)
    table = write_table(tmp_path, ["path, label", *list_rows(tmp_path)], encoding)
    assert is_label_table(table)
    assert not is_label_table(tmp_path)
    data, same = load_label_table(table, FACE), load_folders(tmp_path, FACE)
    assert data.fingerprint == same.fingerprint
    assert data.name == "photos"


def test_a_given_split_is_used_and_an_empty_one_depends_on_the_file(tmp_path: Path) -> None:
    write_folders(tmp_path, 10)
    splits = ["train", "validation", "test", "", ""] * 4
    lines = [f"{split},{row}" for split, row in zip(splits, list_rows(tmp_path), strict=True)]
    data = load_label_table(write_table(tmp_path, ["split,path,label", *lines]), FACE)
    free = [
        assign_split(hashlib.sha256((tmp_path / row.split(",")[0]).read_bytes()).hexdigest())
        for row, split in zip(list_rows(tmp_path), splits, strict=True)
        if not split
    ]
    for name in ("train", "validation", "test"):
        assert len(getattr(data, name)) == 4 + free.count(name)


def test_unusable_rows_are_listed_by_line_or_name(tmp_path: Path) -> None:
    write_folders(tmp_path, 6)
    (tmp_path / "torn.png").write_bytes((tmp_path / "sad" / "000.png").read_bytes()[:70])
    shutil.copy(tmp_path / "sad" / "001.png", tmp_path / "both.png")
    shutil.copy(tmp_path / "sad" / "002.png", tmp_path / "held-out.png")
    lines = [
        "path,label,split",
        *(f"{row},train" for row in list_rows(tmp_path)),
        "sad/003.png,sad,training",
        "sad/003.png,,train",
        ",sad,train",
        "sad/003.png,sad",
        "",
        "gone.png,sad,",
        "torn.png,sad,test",
        "both.png,happy,test",
        "held-out.png,sad,test",
    ]
    data = load_label_table(write_table(tmp_path, lines), FACE)
    reasons = dict(data.skipped)
    assert reasons["photos.csv, line 14"].startswith("split 'training' is not one of train, ")
    assert reasons["photos.csv, line 15"] == "no label"
    assert reasons["photos.csv, line 16"] == "no path"
    assert reasons["photos.csv, line 17"].startswith("the row has more or fewer cells")
    assert reasons["both.png"] == reasons["sad/001.png"] == "the same photo is in happy and sad"
    assert reasons["sad/002.png"] == "the same photo as held-out.png"
    assert reasons["gone.png"]
    assert reasons["torn.png"]
    assert len(reasons) == 9
    assert (len(data.train), len(data.test)) == (10, 1)


def test_a_group_stays_in_one_split(tmp_path: Path) -> None:
    write_folders(tmp_path, 30)
    lines = [f"{row},person {n % 5}" for n, row in enumerate(list_rows(tmp_path))]
    data = load_label_table(write_table(tmp_path, ["path,label,group", *lines]), FACE)
    splits = {
        split: set(getattr(data, split).groups.tolist())
        for split in ("train", "validation", "test")
    }
    assert set.union(*splits.values()) == {f"person {n}" for n in range(5)}
    assert sum(map(len, splits.values())) == 5
    for split, groups in splits.items():
        assert all(assign_split(hash_group(group)) == split for group in groups)


def test_the_split_of_one_row_holds_for_its_group(tmp_path: Path) -> None:
    write_folders(tmp_path, 6)
    first, *others = list_rows(tmp_path)
    lines = [f"{first},validation,all", *(f"{row},,all" for row in others)]
    data = load_label_table(write_table(tmp_path, ["path,label,split,group", *lines]), FACE)
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 12, 0)


def test_weights_and_kinds_come_from_the_table(tmp_path: Path) -> None:
    write_folders(tmp_path, 4)
    weights = ["0.5", "", "1e-60", "101", "100", "1", "nan", "x"]
    kinds = ["indoors", *[""] * 7]
    lines = [
        f"{row},{w},{k}" for row, w, k in zip(list_rows(tmp_path), weights, kinds, strict=True)
    ]
    data = load_label_table(write_table(tmp_path, ["path,label,weight,kind", *lines]), FACE)
    part = data.get_split("all")
    assert sorted(zip(part.weights.tolist(), part.kinds.tolist(), strict=True)) == [
        (0.5, "indoors"),
        (1.0, "happy"),
        (1.0, "sad"),
        (100.0, "sad"),
    ]
    reasons = [reason for _, reason in data.skipped]
    assert reasons == [
        f"weight {w!r} is not a number from 0.001 to 100" for w in ("1e-60", "101", "nan", "x")
    ]


def test_abstain_classes_come_last_under_any_name(tmp_path: Path) -> None:
    write_folders(tmp_path, 4)
    lines = [
        f"{row.split(',')[0]},{label}"
        for row, label in zip(
            list_rows(tmp_path), ["zest", "empty", "neither", "able"] * 2, strict=True
        )
    ]
    table = write_table(tmp_path, ["path,label", *lines])
    data = load_label_table(table, FACE, {"empty": "no_person"})
    assert data.labels == ("able", "zest", "neither", "no_person")
    assert data.abstain == ("neither", "no_person")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["path,label,mood"], "has the columns path, label, mood; its first line must name"),
        (["path,label", "a.png,sad", "b.png,neither"], "has 1 labels"),
        (
            ["path,label,split,group", "a.png,sad,train,ann", "b.png,happy,test,ann"],
            "puts the group 'ann' into train and test",
        ),
        (["path,mood"], "has the columns path, mood"),
        (["path,label,label"], "has the columns path, label, label"),
        ([""], r"has the columns \(none\)"),
        (["path,label"], "has 0 labels"),
        (["path,label", "a.png,sad"], "has 1 labels; training needs at least two"),
        (["path,label", '"a.png,sad'], "can't be read as a table"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(LabelTableError, match=why):
        load_label_table(write_table(tmp_path, lines), FACE)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path, ["path,label", "ä.png,sad"], "latin-1")
    with pytest.raises(LabelTableError, match="save it as CSV, UTF-8"):
        load_label_table(table, FACE)


def test_a_label_without_a_usable_photo_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, 3)
    table = write_table(tmp_path, ["path,label", *list_rows(tmp_path), "gone.png,angry"])
    with pytest.raises(InputError, match="angry in photos has no usable photo"):
        load_label_table(table, FACE)


def make_samples(count: int, seed: int) -> list[Sample]:
    """Make samples of two classes with random digests, split by them."""
    rng = np.random.default_rng(seed)
    digests = [rng.bytes(32).hex() for _ in range(count)]
    pixels = np.zeros((1, 1, 1), np.uint8)
    return [
        Sample(digest, n % 2, assign_split(digest), digest, pixels, choices=SPLIT_NAMES)
        for n, digest in enumerate(digests)
    ]


def list_cells(samples: Sequence[Sample]) -> set[tuple[int, str]]:
    return {(sample.label, sample.split) for sample in samples}


def test_every_class_of_a_few_photos_is_in_all_splits() -> None:
    lacking = 0
    for seed in range(300):
        samples = make_samples(10 + seed % 30, seed)
        lacking += len(list_cells(samples)) < 6
        spread = spread_classes(samples)
        assert len(list_cells(spread)) == 6
        assert [sample.digest for sample in spread] == [sample.digest for sample in samples]
    assert lacking > 100, "the digests alone do not do it"


def test_an_added_photo_moves_few_others_and_none_of_training_to_the_test() -> None:
    moved = []
    for seed in range(300):
        *samples, added = make_samples(41, seed)
        before, after = spread_classes(samples), spread_classes([*samples, added])
        moves = [
            (one.split, other.split)
            for one, other in zip(before, after[:-1], strict=True)
            if one.split != other.split
        ]
        assert set(moves) <= {("validation", "train"), ("test", "validation")}
        moved.append(len(moves))
    assert max(moved) <= 2
    assert sum(moved) / len(moved) < 0.15
    large = make_samples(400, 1)
    assert spread_classes(large) == large


def test_photos_held_out_by_their_digest_never_move_to_training() -> None:
    for seed in range(300):
        samples = [s for s in make_samples(80, seed) if s.label or is_held_out(s.digest)]
        spread = spread_classes(samples)
        assert not [s for s in spread if s.split == "train" and is_held_out(s.digest)]
        assert (0, "train") not in list_cells(spread), "the class has only held-out photos"


def test_given_splits_and_groups_do_not_move() -> None:
    samples = [replace(sample, split="train", choices=()) for sample in make_samples(20, 1)]
    assert spread_classes(samples) == samples
    samples[0] = replace(samples[0], choices=("train", "validation"))
    assert [sample.split for sample in spread_classes(samples)] == ["validation", *["train"] * 19]
    assert spread_classes(make_samples(8, 2)) == make_samples(8, 2), "four of a class are too few"


def write_splits(root: Path, *names: str) -> Path:
    for n, name in enumerate(names):
        write_folders(root / name, 8)
        for path in (root / name).rglob("*.png"):
            face = draw_snapshot(Mood(path.parent.name), 32, 3, 100 * n + int(path.stem))
            Image.fromarray(face).save(path)
    return root


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "testing")])
def test_folders_named_like_splits_are_splits(
    tmp_path: Path, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    (write_splits(tmp_path, *names) / "readme.txt").write_text("about")
    (tmp_path / names[0] / "list.txt").write_text("of photos")
    with caplog.at_level(logging.INFO, "trainer"):
        data = load_folders(tmp_path, FACE)
    assert data.labels == ("happy", "sad")
    twins = sum("nearly the same as" in reason for _, reason in data.skipped)
    assert len(data.test) == 16
    assert len(data.train) + len(data.validation) + twins == 32
    assert set(data.train.kinds.tolist()) == {"happy", "sad"}
    reasons = list_reasons(data)
    assert reasons["readme.txt"] == reasons[f"{names[0]}/list.txt"] == "in no class folder"
    assert f"the folders {', '.join(sorted(names))} are its splits\n" in f"{caplog.text}\n"


def test_a_missing_split_is_taken_from_the_training_photos(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_splits(tmp_path, "train", "test")
    with caplog.at_level(logging.INFO, "trainer"):
        classes, files = list_folder_files(tmp_path)
        data = load_folders(tmp_path, FACE)
    assert "its splits; validation photos are taken from the training split" in caplog.text
    assert classes == ("happy", "sad")
    assert {(f.name.split("/")[0], f.split, f.choices) for f in files if f.split != "test"} == {
        ("train", "", ("train", "validation"))
    }
    assert len(data.test) == 16
    assert set(data.validation.targets.tolist()) == {0, 1}
    assert len(data.train) > len(data.validation)
    # With no held-out folder at all the rule for plain folders applies.
    shutil.rmtree(tmp_path / "test")
    plain = load_folders(tmp_path / "train", FACE)
    assert load_folders(tmp_path, FACE).fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (("train/happy", "train/sad", "test"), r"named like splits \(test\) without class folders"),
        (("train", "test"), r"named like splits \(test, train\) without class folders"),
        (("val/happy", "test/happy"), r"has the splits test, val, but no folder train; add it"),
        (("train/a", "train/b", "test/a", "notes"), r"splits \(test, train\) beside .* \(notes\)"),
        (("train/a", "train/b", "test/c"), r"test/c has no folder of its class in the training"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_refused(
    tmp_path: Path, folders: tuple[str, ...], problem: str
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError, match=problem):
        list_folder_files(tmp_path)


@pytest.mark.parametrize(
    "folders", [("test", "train", "other"), ("train/steam", "train/diesel", "bus", "test")]
)
def test_a_class_may_be_named_like_a_split_beside_others(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert list_folder_files(tmp_path)[0] == tuple(sorted({f.split("/")[0] for f in folders}))


@pytest.mark.parametrize(
    ("reason", "counted_as"),
    [
        ("no face found", "no face found"),
        ("the same photo as happy/a.jpg", "the same photo as another"),
        ("the same photo is in happy and sad", "the same photo is in happy and sad"),
        (
            "nearly the same as a of the validation split.jpg of the test split",
            "nearly the same as one of the test split",
        ),
        (
            "nearly the same as a.jpg of the test split, which is labelled sad, not happy",
            "nearly the same as one of the test split, which has another label",
        ),
        (
            "nearly the same as a held-out sample of the review",
            "nearly the same as a held-out sample of the review",
        ),
    ],
)
def test_reasons_are_counted_without_the_names_in_them(reason: str, counted_as: str) -> None:
    assert generalise_reason(reason) == counted_as
