"""A table of photos and their labels, for photos that lie elsewhere or have a split of their own.

Its columns are ``path``, ``label`` and, where wanted, ``split``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from batch.errors import InputError
from trainer.data import Dataset, Framing
from trainer.datasets.samples import SPLITS, Labelled, dataset_of

SUFFIX = ".csv"
REQUIRED = ("path", "label")
SPLIT = "split"

Row = dict[str, str]


class BadManifest(InputError):
    """The table as a whole can't be used."""


def is_manifest(source: Path) -> bool:
    """Tell a table of photos from other sources by the file's name."""
    return source.suffix.lower() == SUFFIX and source.is_file()


def load_manifest(path: Path, framing: Framing) -> Dataset:
    """Read photos by a CSV table (UTF-8) whose first line names the columns.

    Paths are relative to the table's folder. ``split`` is train, validation or test; where
    it is empty or has no column, the digest of the file's bytes decides, as for folders.
    A row that can't be used is in ``left_out`` by its line.

    Raises:
        BadManifest: it is no such table, or has fewer than two labels.
        InputError: a label has no usable photo.
    """
    left_out, rows = [], []
    for line, row in _rows(path):
        problem = _problem(row)
        if problem:
            left_out.append((f"{path.name}, line {line}", problem))
        else:
            rows.append(row)
    labels = tuple(sorted({row["label"] for row in rows}))
    if len(labels) < 2:
        raise BadManifest(f"{path} has {len(labels)} labels", "a training needs two or more")
    files = [
        Labelled(
            path.parent / row["path"], row["path"], labels.index(row["label"]), row.get(SPLIT, "")
        )
        for row in rows
    ]
    return dataset_of(path.resolve().stem, labels, files, framing, left_out)


def _rows(path: Path) -> list[tuple[int, Row]]:
    """All rows with the line each ends on, their cells freed of blanks around them."""
    try:
        # With or without the mark that spreadsheets put in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = [cell.strip() for cell in next(reader, [])]
            _check(path, columns)
            return [
                (reader.line_num, _row(columns, [cell.strip() for cell in cells]))
                for cells in reader
                if cells
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(
            f"{path} can't be read as a table ({error})", "save it as CSV, UTF-8"
        ) from error


def _check(path: Path, columns: list[str]) -> None:
    unknown = [column for column in columns if column not in (*REQUIRED, SPLIT)]
    missing = [column for column in REQUIRED if column not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        raise BadManifest(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            f"its first line must be {','.join(REQUIRED)} or {','.join((*REQUIRED, SPLIT))}",
        )


def _row(columns: list[str], cells: list[str]) -> Row:
    """A row of another length is empty, and so has no path."""
    return dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else {}


def _problem(row: Row) -> str:
    if not row:
        return "the row has more or fewer cells than the first line"
    for column in REQUIRED:
        if not row[column]:
            return f"no {column}"
    split = row.get(SPLIT, "")
    return f"split {split!r} is none of {', '.join(SPLITS)}" if split not in ("", *SPLITS) else ""
