from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from batch.errors import InputError, UsageError
from batch.path_text import parse_path_text
from tests.support.trainer_data import (
    FERPLUS_ROWS,
    drawn_dataset,
    write_fer2013_tables,
    write_ferplus,
    write_folders,
)
from trainer.datasets.dataset import Framing
from trainer.datasets.ferplus_download import DownloadError
from trainer.datasets.samples import SPLIT_NAMES
from trainer.datasets.sources import choose_source, list_photo_files, load_dataset, record_source

STARTER = Path("drawn")


def fail(home: Path) -> None:
    raise DownloadError("there is no network", "do it by hand")


def forbid(home: Path) -> None:
    raise AssertionError("nothing is to be downloaded")


def test_every_layout_is_recognised(tmp_path: Path) -> None:
    pictures = write_ferplus(tmp_path / "pictures", FERPLUS_ROWS)
    tables = write_fer2013_tables(tmp_path / "tables", pictures)
    folders = write_folders(tmp_path / "folders", 12)
    manifest = tmp_path / "list.csv"
    lines = [f"folders/{p.parent.name}/{p.name},{p.parent.name}" for p in folders.glob("*/*")]
    manifest.write_text("\n".join(["path,label", *lines]))
    names = [load_dataset(source, None).name for source in (pictures, tables, folders, manifest)]
    assert names == ["ferplus", "ferplus", "folders", "list"]
    for source in (pictures, tables):
        with pytest.raises(UsageError, match="grey faces 48 pixels wide"):
            load_dataset(source, Framing(side=64))
    with pytest.raises(
        InputError, match=r"absent does not exist; give --data PATH, or download FER"
    ):
        load_dataset(tmp_path / "absent", None)


def test_the_starter_set_warns_and_a_folder_of_its_name_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_dataset(STARTER, Framing(side=32, channels=3))
    assert data.train.pixels.shape[1:] == (32, 32, 3)
    assert f"WARNING: {data.warning}" in caplog.messages
    write_folders(STARTER, 12)
    own = load_dataset(STARTER, Framing(side=32, channels=3))
    assert not own.warning
    assert len(own.get_split("all")) == 24


def test_given_data_are_used(tmp_path: Path) -> None:
    assert choose_source(tmp_path, tmp_path, tmp_path / "home", forbid) == tmp_path


def test_existing_ferplus_is_used(tmp_path: Path) -> None:
    home = write_ferplus(tmp_path / "ferplus", FERPLUS_ROWS)
    assert choose_source(None, tmp_path / "run", home, forbid) == home


def test_missing_ferplus_is_downloaded(tmp_path: Path) -> None:
    home = tmp_path / "ferplus"
    assert choose_source(None, tmp_path / "run", home, lambda at: at.mkdir()) == home
    assert home.is_dir()


def test_without_a_network_the_starter_set_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_source(None, tmp_path / "run", tmp_path / "ferplus", fail) == STARTER
    assert caplog.messages[0] == "there is no network; do it by hand"
    assert caplog.messages[1].startswith("WARNING: FER+ is not available")


@pytest.mark.parametrize("source", [STARTER, Path("photos")])
def test_a_resumed_run_uses_its_recorded_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    record_source(tmp_path / "run", source, drawn_dataset())
    (tmp_path / "ferplus").mkdir()
    monkeypatch.chdir("/")
    wanted = STARTER if source == STARTER else tmp_path / "photos"
    assert choose_source(None, tmp_path / "run", tmp_path / "ferplus", forbid) == wanted
    assert choose_source(Path("x"), tmp_path / "run", tmp_path / "ferplus", forbid) == Path("x")


def test_skipped_files_are_listed_in_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left_out = (
        ("a, b.png", "no face found"),
        ("bad\udcff.png", "truncated"),
        ("=HYPERLINK(1).png", "=1+1"),
        ("new\nline.png", "-2\udcff"),
    )
    record_source(tmp_path, tmp_path, replace(drawn_dataset(), skipped=left_out))
    with (tmp_path / "left-out.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "reason"]
    names = [parse_path_text(name).as_posix() for name, _ in rows]
    assert names == [name for name, _ in left_out]
    assert rows == [
        ["a, b.png", "no face found"],
        ["bad\\xFF.png", "truncated"],
        ["./=HYPERLINK(1).png", "'=1+1"],
        ["new\\nline.png", "'-2\\xFF"],
    ]
    assert (
        f"{tmp_path / 'left-out.csv'} lists the skipped files with the reasons" in caplog.messages
    )
    record_source(tmp_path, tmp_path, drawn_dataset())
    assert (tmp_path / "left-out.csv").read_text() == "name,reason\n"


def test_the_number_of_skipped_files_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_folders(tmp_path, 12)
    for name in ("torn.png", "a.png"):
        (tmp_path / "sad" / name).write_bytes(b"torn")
    (tmp_path / "notes.txt").write_text("x")
    assert len(load_dataset(tmp_path, Framing(side=24)).skipped) == 3
    assert f"{tmp_path.name}: 3 skipped" in caplog.messages
    assert "  1: in no class folder (notes.txt)" in caplog.messages
    assert [line for line in caplog.messages if line.endswith(" (sad/a.png, ...)")]
    assert (tmp_path / "sad" / "torn.png").exists()


def test_photos_are_listed_from_folders_and_tables_alike(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photos", 3)
    (root / "happy").rename(root / "none")
    (root / "joy").mkdir()
    (root / "none" / "000.png").rename(root / "joy" / "000.png")
    classes, files = list_photo_files(root, {"none": "neither"})
    assert classes == ("joy", "sad", "neither")
    assert [(file.name, file.label) for file in files] == [
        ("joy/000.png", 0),
        ("none/001.png", 2),
        ("none/002.png", 2),
        *((f"sad/00{n}.png", 1) for n in range(3)),
    ]
    table = tmp_path / "photos.csv"
    lines = [f"photos/{file.name},{file.name.partition('/')[0]},0.5" for file in files]
    table.write_text("\n".join(["path,label,weight", *lines]))
    listed_classes, listed = list_photo_files(table, {"none": "neither"})
    assert listed_classes == classes
    assert [(file.path, file.label) for file in listed] == [
        (file.path, file.label) for file in files
    ]
    assert {file.weight for file in listed} == {0.5}


def test_a_class_without_test_samples_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"happy/{n:03}.png,happy,{split}" for n, split in enumerate(SPLIT_NAMES)]
    rows += [f"sad/{n:03}.png,sad,{split}" for n, split in enumerate(SPLIT_NAMES[:2])]
    table = write_folders(tmp_path, 4) / "photos.csv"
    table.write_text("\n".join(("path,label,split", *rows)))
    load_dataset(table, Framing(side=24))
    assert "WARNING: the test split of photos has no sample of sad; add photos of it" in caplog.text
    assert "validation split" not in caplog.text
    assert "is for training" not in caplog.text


def test_a_class_without_training_samples_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"happy/{n:03}.png,happy,{split}" for n, split in enumerate(SPLIT_NAMES)]
    rows += [f"sad/{n:03}.png,sad,{split}" for n, split in enumerate(SPLIT_NAMES[1:])]
    table = write_folders(tmp_path, 4) / "photos.csv"
    table.write_text("\n".join(("path,label,split", *rows)))
    load_dataset(table, Framing(side=24))
    assert (
        "WARNING: no photo of sad in photos is for training, so a model can't learn it: all are "
        "held out; add photos of it"
    ) in caplog.text
