from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from batch.errors import InputError
from tests.support.trainer_data import write_folders
from trainer.datasets.dataset import Framing
from trainer.datasets.labelled_files import (
    LabelTableError,
    is_label_table,
    load_folders,
    load_label_table,
)
from trainer.datasets.samples import assign_split, hash_group

FACE = Framing(side=24)


def write_manifest(root: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    path = root / "photos.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def rows(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root).as_posix()},{path.parent.name}"
        for path in sorted(root.glob("*/*.png"))
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_without_a_split_it_is_the_same_as_folders(tmp_path: Path, encoding: str) -> None:
    write_folders(tmp_path, 12)
    manifest = write_manifest(tmp_path, ["path, label", *rows(tmp_path)], encoding)
    assert is_label_table(manifest)
    assert not is_label_table(tmp_path)
    data, same = load_label_table(manifest, FACE), load_folders(tmp_path, FACE)
    assert data.fingerprint == same.fingerprint
    assert data.name == "photos"


def test_a_given_split_holds_and_an_empty_one_is_the_files(tmp_path: Path) -> None:
    write_folders(tmp_path, 10)
    splits = ["train", "validation", "test", "", ""] * 4
    lines = [f"{split},{row}" for split, row in zip(splits, rows(tmp_path), strict=True)]
    data = load_label_table(write_manifest(tmp_path, ["split,path,label", *lines]), FACE)
    free = [
        assign_split(hashlib.sha256((tmp_path / row.split(",")[0]).read_bytes()).hexdigest())
        for row, split in zip(rows(tmp_path), splits, strict=True)
        if not split
    ]
    for name in ("train", "validation", "test"):
        assert len(getattr(data, name)) == 4 + free.count(name)


def test_rows_that_can_not_be_used_are_listed_by_line_or_name(tmp_path: Path) -> None:
    write_folders(tmp_path, 6)
    (tmp_path / "torn.png").write_bytes((tmp_path / "sad" / "000.png").read_bytes()[:70])
    shutil.copy(tmp_path / "sad" / "001.png", tmp_path / "both.png")
    shutil.copy(tmp_path / "sad" / "002.png", tmp_path / "held-out.png")
    lines = [
        "path,label,split",
        *(f"{row},train" for row in rows(tmp_path)),
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
    data = load_label_table(write_manifest(tmp_path, lines), FACE)
    reasons = dict(data.skipped)
    assert reasons["photos.csv, line 14"].startswith("split 'training' is none of train, ")
    assert reasons["photos.csv, line 15"] == "no label"
    assert reasons["photos.csv, line 16"] == "no path"
    assert reasons["photos.csv, line 17"].startswith("the row has more or fewer cells")
    assert reasons["both.png"] == reasons["sad/001.png"] == "the same photo is in happy and sad"
    assert reasons["sad/002.png"] == "the same photo as held-out.png"
    assert reasons["gone.png"]
    assert reasons["torn.png"]
    assert len(reasons) == 9
    assert (len(data.train), len(data.test)) == (10, 1)


def test_a_group_stays_in_one_split_whatever_its_files_are(tmp_path: Path) -> None:
    write_folders(tmp_path, 30)
    lines = [f"{row},person {n % 5}" for n, row in enumerate(rows(tmp_path))]
    data = load_label_table(write_manifest(tmp_path, ["path,label,group", *lines]), FACE)
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
    first, *others = rows(tmp_path)
    lines = [f"{first},validation,all", *(f"{row},,all" for row in others)]
    data = load_label_table(write_manifest(tmp_path, ["path,label,split,group", *lines]), FACE)
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 12, 0)


def test_weights_and_kinds_come_from_the_table(tmp_path: Path) -> None:
    write_folders(tmp_path, 4)
    weights = ["0.5", "", "1e-60", "101", "100", "1", "nan", "x"]
    kinds = ["indoors", *[""] * 7]
    lines = [f"{row},{w},{k}" for row, w, k in zip(rows(tmp_path), weights, kinds, strict=True)]
    data = load_label_table(write_manifest(tmp_path, ["path,label,weight,kind", *lines]), FACE)
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


def test_abstain_classes_come_last_whatever_they_are_called(tmp_path: Path) -> None:
    write_folders(tmp_path, 4)
    table = [
        f"{row.split(',')[0]},{label}"
        for row, label in zip(rows(tmp_path), ["zest", "empty", "neither", "able"] * 2, strict=True)
    ]
    manifest = write_manifest(tmp_path, ["path,label", *table])
    data = load_label_table(manifest, FACE, {"empty": "no_person"})
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
        (["path,label", "a.png,sad"], "has 1 labels; a training needs two or more"),
        (["path,label", '"a.png,sad'], "can't be read as a table"),
    ],
)
def test_what_is_no_table_of_photos_is_refused(tmp_path: Path, lines: list[str], why: str) -> None:
    with pytest.raises(LabelTableError, match=why):
        load_label_table(write_manifest(tmp_path, lines), FACE)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ["path,label", "ä.png,sad"], "latin-1")
    with pytest.raises(LabelTableError, match="save it as CSV, UTF-8"):
        load_label_table(manifest, FACE)


def test_a_label_without_a_usable_photo_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, 3)
    manifest = write_manifest(tmp_path, ["path,label", *rows(tmp_path), "gone.png,angry"])
    with pytest.raises(InputError, match="angry in photos has no usable photo"):
        load_label_table(manifest, FACE)
