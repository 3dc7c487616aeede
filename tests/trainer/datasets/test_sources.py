from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.errors import InputError, UsageError
from tests.support.trainer_data import drawn_dataset, write_ferplus, write_folders
from tests.trainer.datasets.test_fer2013 import write_tables
from tests.trainer.datasets.test_ferplus import ROWS
from trainer.datasets.dataset import Framing
from trainer.datasets.drawn_faces import STARTER_LABELS, load_starter
from trainer.datasets.ferplus_download import DownloadError
from trainer.datasets.sources import choose_source, list_photo_files, load_dataset, record_source

STARTER = Path("drawn")


def fail(home: Path) -> None:
    raise DownloadError("there is no network", "do it by hand")


def forbid(home: Path) -> None:
    raise AssertionError("nothing is to be downloaded")


def test_every_layout_is_told_by_what_is_there(tmp_path: Path) -> None:
    pictures = write_ferplus(tmp_path / "pictures", ROWS)
    tables = write_tables(tmp_path / "tables", pictures)
    folders = write_folders(tmp_path / "folders", 12)
    manifest = tmp_path / "list.csv"
    lines = [f"folders/{p.parent.name}/{p.name},{p.parent.name}" for p in folders.glob("*/*")]
    manifest.write_text("\n".join(["path,label", *lines]))
    names = [load_dataset(source, None).name for source in (pictures, tables, folders, manifest)]
    assert names == ["ferplus", "ferplus", "folders", "list"]
    for source in (pictures, tables):
        with pytest.raises(UsageError, match="grey faces 48 pixels wide"):
            load_dataset(source, Framing(side=64))
    with pytest.raises(InputError, match=r"no data at .*absent; give --data PATH, or get FER"):
        load_dataset(tmp_path / "absent", None)


def test_the_starter_set_warns_and_a_folder_of_its_name_goes_first(
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


def test_the_starter_set_is_the_same_every_time_and_half_happy() -> None:
    data = load_starter(Framing(side=32))
    assert data.fingerprint == load_starter(Framing(side=32)).fingerprint
    assert data.labels == STARTER_LABELS == ("happy", "sad")
    faces = data.get_split("all")
    assert len({face.tobytes() for face in faces.pixels}) == len(faces) == 600
    for part in (data.train, data.validation, data.test):
        assert part.targets.mean() == 0.5


def test_what_is_given_is_taken(tmp_path: Path) -> None:
    assert choose_source(tmp_path, tmp_path, tmp_path / "home", forbid) == tmp_path


def test_ferplus_is_taken_where_it_is(tmp_path: Path) -> None:
    home = write_ferplus(tmp_path / "ferplus", ROWS)
    assert choose_source(None, tmp_path / "run", home, forbid) == home


def test_ferplus_is_downloaded_where_it_is_not(tmp_path: Path) -> None:
    home = tmp_path / "ferplus"
    assert choose_source(None, tmp_path / "run", home, lambda at: at.mkdir()) == home
    assert home.is_dir()


def test_without_a_network_the_starter_set_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_source(None, tmp_path / "run", tmp_path / "ferplus", fail) == STARTER
    assert caplog.messages[0] == "there is no network; do it by hand"
    assert caplog.messages[1].startswith("WARNING: without FER+")


@pytest.mark.parametrize("source", [STARTER, Path("photos")])
def test_a_run_goes_on_with_what_it_learnt_from(
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


def test_what_is_left_out_is_listed_in_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    left_out = (("a, b.png", "no face found"), ("bad\udcff.png", "truncated"))
    record_source(tmp_path, tmp_path, replace(drawn_dataset(), skipped=left_out))
    with (tmp_path / "left-out.csv").open(
        newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        assert list(csv.reader(file)) == [["name", "reason"], *map(list, left_out)]
    assert f"{tmp_path / 'left-out.csv'} says which, and why" in caplog.messages
    record_source(tmp_path, tmp_path, drawn_dataset())
    assert (tmp_path / "left-out.csv").read_text() == "name,reason\n"


def test_how_many_are_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_folders(tmp_path, 12)
    (tmp_path / "sad" / "torn.png").write_bytes(b"torn")
    assert len(load_dataset(tmp_path, Framing(side=24)).skipped) == 1
    assert f"{tmp_path.name}: 1 left out" in caplog.messages
    assert (tmp_path / "sad" / "torn.png").exists()


def test_the_starter_set_tells_happy_from_sad_by_more_than_light() -> None:
    data = load_starter(Framing(side=32))
    means = data.train.pixels.mean(axis=(1, 2, 3))
    happy, sad = (means[data.train.targets == n] for n in (0, 1))
    assert abs(happy.mean() - sad.mean()) < 0.2 * np.concatenate([happy, sad]).std()


def test_photos_are_listed_from_folders_and_tables_alike(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photos", 3)
    (root / "happy").rename(root / "none")
    (root / "joy").mkdir()
    (root / "none" / "000.png").rename(root / "joy" / "000.png")
    files = list_photo_files(root, {"none": "neither"})
    assert [(file.name, file.label) for file in files] == [
        ("joy/000.png", 0),
        ("none/001.png", 2),
        ("none/002.png", 2),
        *((f"sad/00{n}.png", 1) for n in range(3)),
    ]
    table = tmp_path / "photos.csv"
    lines = [f"photos/{file.name},{file.name.partition('/')[0]},0.5" for file in files]
    table.write_text("\n".join(["path,label,weight", *lines]))
    listed = list_photo_files(table, {"none": "neither"})
    assert [(file.path, file.label) for file in listed] == [
        (file.path, file.label) for file in files
    ]
    assert {file.weight for file in listed} == {0.5}
