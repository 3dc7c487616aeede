from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.trainer_data import write_ferplus
from tests.trainer.datasets.test_ferplus import HAPPY, ROWS
from trainer.datasets.ferplus import (
    PIXEL_FILE,
    SPLIT_FOLDERS,
    USAGES,
    VOTE_COLUMNS,
    VOTE_FILE,
    NotFerPlus,
    is_fer2013,
    load_fer2013,
    load_ferplus,
    read_ferplus,
)

Table = list[list[str]]


def write_tables(root: Path, pictures: Path) -> Path:
    """Write the same faces as the two tables, with a row that FERPlus removed between them."""
    pixels: Table = [["emotion", "pixels", "Usage"]]
    votes: Table = [["Usage", "Image name", *VOTE_COLUMNS]]
    for split, faces in read_ferplus(pictures).items():
        for name, counts, face in zip(faces.names, faces.counts, faces.pixels, strict=True):
            pixels.append(["3", " ".join(map(str, face.ravel())), USAGES[split]])
            votes.append([USAGES[split], name, *map(str, counts)])
        pixels.append(["0", " ".join(["7"] * 48 * 48), USAGES[split]])
        votes.append([USAGES[split], "", *["0"] * 10])
    root.mkdir()
    write(root / PIXEL_FILE, pixels)
    write(root / VOTE_FILE, votes)
    return root


def write(path: Path, table: Table) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)


def read(path: Path) -> Table:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "tables", write_ferplus(tmp_path / "pictures", ROWS))


def test_the_tables_give_the_same_data_as_the_pictures(tables: Path) -> None:
    data, same = load_fer2013(tables), load_ferplus(tables.parent / "pictures")
    assert data.fingerprint == same.fingerprint
    assert data.skipped == same.skipped
    assert (data.name, data.labels, data.framing) == (same.name, same.labels, same.framing)


def test_the_tables_are_told_from_pictures(tables: Path) -> None:
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
    table = read(tables / file)
    table[row][column] = cell
    write(tables / file, table)
    with pytest.raises(NotFerPlus, match=why):
        load_fer2013(tables)


@pytest.mark.parametrize("file", [PIXEL_FILE, VOTE_FILE])
def test_a_table_that_ends_early_is_refused(tables: Path, file: str) -> None:
    write(tables / file, read(tables / file)[:-1])
    with pytest.raises(NotFerPlus, match="one has more rows than the other"):
        load_fer2013(tables)


def test_a_table_that_is_no_text_is_refused(tables: Path) -> None:
    (tables / VOTE_FILE).write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(NotFerPlus, match=r"fer2013new\.csv can't be read"):
        load_fer2013(tables)


def test_an_empty_part_stays_empty(tmp_path: Path) -> None:
    rows = {folder: [HAPPY] for folder in SPLIT_FOLDERS.values()} | {"FER2013Valid": []}
    data = load_fer2013(write_tables(tmp_path / "t", write_ferplus(tmp_path / "p", rows)))
    assert (len(data.train), len(data.validation), len(data.test)) == (1, 0, 1)
