from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.trainer_data import (
    FERPLUS_ROWS,
    HAPPY_VOTES,
    find_real_data,
    write_fer2013_tables,
    write_ferplus,
)
from trainer.datasets.dataset import keep_classes
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.ferplus import (
    FERPLUS_LABELS,
    PIXEL_FILE,
    SPLIT_FOLDERS,
    VOTE_FILE,
    FerplusError,
    is_fer2013,
    is_ferplus,
    load_fer2013,
    load_ferplus,
)


def test_votes_follow_the_papers_rules(tmp_path: Path) -> None:
    data = load_ferplus(write_ferplus(tmp_path, FERPLUS_ROWS))
    assert data.labels == FERPLUS_LABELS
    assert (len(data.train), len(data.validation), len(data.test)) == (2, 1, 2)
    np.testing.assert_allclose(data.train.votes[0], [0, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(data.train.votes[1], [0.3, 0.3, 0.2, 0.2, 0, 0, 0, 0])
    assert data.train.certain.tolist() == [True, False]
    np.testing.assert_array_equal(data.train.pixels[1], draw_snapshot(Mood.HAPPY, 48, 1, 1))


def test_a_zip_file_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    folder = write_ferplus(tmp_path / "wrapped" / "ferplus", FERPLUS_ROWS)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "wrapped")
    assert load_ferplus(Path(archive)).fingerprint == load_ferplus(folder).fingerprint
    assert load_ferplus(folder.parent).fingerprint == load_ferplus(folder).fingerprint


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, FERPLUS_ROWS)
    Image.new("L", (40, 48)).save(root / "FER2013Valid" / "fer0000000.png")
    with pytest.raises(FerplusError, match=r"FER2013Valid/fer0000000\.png"):
        load_ferplus(root)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, FERPLUS_ROWS)
    (root / "FER2013Valid" / "fer0000000.png").write_bytes(b"no picture")
    with pytest.raises(FerplusError, match=r"FER2013Valid/fer0000000\.png"):
        load_ferplus(root)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, FERPLUS_ROWS)
    (root / "FER2013Train" / "fer0000000.png").unlink()
    with pytest.raises(FerplusError, match=r"FER2013Train/fer0000000\.png"):
        load_ferplus(root)


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    root = write_ferplus(tmp_path, FERPLUS_ROWS)
    shutil.rmtree(root / "FER2013Test")
    with pytest.raises(FerplusError, match=r"FER2013Test/label\.csv"):
        load_ferplus(root)


def test_anything_else_is_not_ferplus(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    for source in (tmp_path, tmp_path / "absent", tmp_path / "text.zip"):
        assert not is_ferplus(source)
        with pytest.raises(FerplusError, match=source.name):
            load_ferplus(source)


def test_the_real_ferplus_has_the_published_counts() -> None:
    data = load_ferplus(find_real_data("ferplus.zip"))
    # 28,385 and 3,555 are published; the others are copies of held-out faces.
    assert (len(data.train), len(data.validation), len(data.test)) == (26657, 3430, 3545)
    assert data.test.certain.sum() == 3137
    happy_sad = (FERPLUS_LABELS.index("happiness"), FERPLUS_LABELS.index("sadness"))
    assert keep_classes(data.test, happy_sad).certain.sum() == 1274


def write_rows(path: Path, table: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)


def read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return write_fer2013_tables(
        tmp_path / "tables", write_ferplus(tmp_path / "pictures", FERPLUS_ROWS)
    )


def test_the_tables_give_the_same_data_as_the_pictures(tables: Path) -> None:
    data, same = load_fer2013(tables), load_ferplus(tables.parent / "pictures")
    assert data.fingerprint == same.fingerprint
    assert data.skipped == same.skipped
    assert (data.name, data.labels, data.framing) == (same.name, same.labels, same.framing)


def test_tables_and_pictures_are_distinguished(tables: Path) -> None:
    assert is_fer2013(tables)
    assert not is_fer2013(tables.parent / "pictures")
    (tables / VOTE_FILE).unlink()
    assert not is_fer2013(tables)


@pytest.mark.parametrize(
    ("file", "row", "column", "cell", "why"),
    [
        (PIXEL_FILE, 2, 1, "1 2 3", "in line 3 .a picture of 3 pixels, not 2304"),
        (PIXEL_FILE, 2, 1, "red", "in line 3"),
        (PIXEL_FILE, 1, 1, "256 " * 2304, "in line 2"),
        (PIXEL_FILE, 1, 2, "PublicTest", "in line 2 .usage Training in one, PublicTest in the"),
        (VOTE_FILE, 1, 0, "Testing", "in line 2 .usage Testing in one"),
        (VOTE_FILE, 3, 4, "many", "in line 4"),
        (VOTE_FILE, 0, 3, "joy", "has no column happiness"),
        (PIXEL_FILE, 0, 1, "image", "has no column pixels"),
    ],
)
def test_a_wrong_cell_is_named_by_its_line(
    tables: Path, file: str, row: int, column: int, cell: str, why: str
) -> None:
    table = read_rows(tables / file)
    table[row][column] = cell
    write_rows(tables / file, table)
    with pytest.raises(FerplusError, match=why):
        load_fer2013(tables)


@pytest.mark.parametrize("file", [PIXEL_FILE, VOTE_FILE])
def test_a_table_that_ends_early_is_refused(tables: Path, file: str) -> None:
    write_rows(tables / file, read_rows(tables / file)[:-1])
    with pytest.raises(FerplusError, match="one has more rows than the other"):
        load_fer2013(tables)


def test_a_binary_table_is_refused(tables: Path) -> None:
    (tables / VOTE_FILE).write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(FerplusError, match=r"fer2013new\.csv can't be read"):
        load_fer2013(tables)


def test_an_empty_split_stays_empty(tmp_path: Path) -> None:
    rows = {folder: [HAPPY_VOTES] for folder in SPLIT_FOLDERS.values()} | {"FER2013Valid": []}
    data = load_fer2013(write_fer2013_tables(tmp_path / "t", write_ferplus(tmp_path / "p", rows)))
    assert (len(data.train), len(data.validation), len(data.test)) == (1, 0, 1)
