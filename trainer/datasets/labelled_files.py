"""A folder of photos for each class: the data layout anyone can make."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from batch.errors import InputError
from trainer.datasets.dataset import Dataset, Framing, select_abstain_classes, sort_classes
from trainer.datasets.samples import SPLIT_NAMES, LabelledFile, Skipped, build_dataset

# Names given to the abstain classes: the class by the name that the data use for it.
AbstainNames = Mapping[str, str]


def load_folders(root: Path, framing: Framing, abstain: AbstainNames | None = None) -> Dataset:
    """Read a folder whose sub-folders are the classes, each searched to any depth.

    Its photos are those of ``list_folder_files``. The digest of a file's bytes alone decides its part
    (80 % train, 10 % validation, 10 % test), so more photos move none that were there.

    Raises:
        InputError: no such folder, fewer than two labels, or a class with no photo.
    """
    classes, files = list_folder_files(root, abstain)
    return build_dataset(root.resolve().name, classes, files, framing)


def list_folder_files(
    root: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """List the classes of a folder and the files of each.

    The folders ``neither`` and ``no_person``, and those that ``abstain`` names, are the abstain
    classes. A file's kind is its class and the sub-folder that it lies in, such as
    ``no_person/pets``.

    Raises:
        InputError: no such folder, or fewer than two labels.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder a class")
    names = abstain or {}
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    classes = sort_classes(names.get(folder.name, folder.name) for folder in folders)
    labels = len(classes) - len(select_abstain_classes(classes))
    if labels < 2:
        raise InputError(
            f"{root} has {labels} sub-folders that are labels", "make two or more, happy and sad"
        )
    files = [
        LabelledFile(
            path,
            path.relative_to(root).as_posix(),
            classes.index(class_),
            kind=str(PurePosixPath(class_, path.relative_to(folder).parent.as_posix())),
        )
        for folder in folders
        for class_ in [names.get(folder.name, folder.name)]
        for path in _list_files(folder)
    ]
    return classes, files


def _list_files(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


# == A table of photos and their labels, for photos that lie elsewhere or have a split of their own.
# ==
# == Its columns are ``path``, ``label`` and, optionally, ``split``, ``weight``, ``kind`` and ``group``.

SUFFIX = ".csv"
REQUIRED_COLUMNS = ("path", "label")
SPLIT, WEIGHT, KIND, GROUP = "split", "weight", "kind", "group"
OPTIONAL_COLUMNS = (SPLIT, WEIGHT, KIND, GROUP)
# A weight lies between these.
MIN_WEIGHT, MAX_WEIGHT = 0.001, 100.0

TableRow = dict[str, str]


class LabelTableError(InputError):
    """The table as a whole can't be used."""


def is_label_table(source: Path) -> bool:
    """Tell a table of photos from other sources by the file's name."""
    return source.suffix.lower() == SUFFIX and source.is_file()


def load_label_table(path: Path, framing: Framing, abstain: AbstainNames | None = None) -> Dataset:
    """Read the photos that a table lists, see ``list_table_files``.

    If the table names no split for a photo, its group's name decides or else the digest of the
    file's bytes, as for folders. A row that can't be used is in ``left_out`` by its line.

    Raises:
        BadManifest: it is no such table.
        InputError: a class has no usable photo.
    """
    classes, files, left_out = list_table_files(path, abstain)
    return build_dataset(path.resolve().stem, classes, files, framing, left_out)


def list_table_files(
    path: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile], list[Skipped]]:
    """List the classes and photos of a CSV table (UTF-8) whose first line names the columns.

    Paths are relative to the table's folder. The labels ``neither`` and ``no_person``, and those
    that ``abstain`` names, are the abstain classes. ``split`` is train, validation or test;
    ``weight`` is how much a photo counts in the training loss, 1 by default; ``kind`` is what
    tables by kind call it, the class by default. Rows that can't be used come with the reason.

    Raises:
        BadManifest: it is no such table, has fewer than two labels, or puts one group into two
            splits.
    """
    left_out, rows = [], []
    for line, row in _read_table_rows(path):
        problem = _find_problem(row)
        if problem:
            left_out.append((f"{path.name}, line {line}", problem))
        else:
            rows.append(row)
    names = abstain or {}
    for row in rows:
        row["label"] = names.get(row["label"], row["label"])
    classes = sort_classes(row["label"] for row in rows)
    labels = len(classes) - len(select_abstain_classes(classes))
    if labels < 2:
        raise LabelTableError(f"{path} has {labels} labels", "a training needs two or more")
    splits = _group_splits(path, rows)
    files = [
        LabelledFile(
            path=path.parent / row["path"],
            name=row["path"],
            label=classes.index(row["label"]),
            split=row.get(SPLIT) or splits.get(row.get(GROUP, ""), ""),
            weight=float(row.get(WEIGHT) or 1),
            kind=row.get(KIND) or row["label"],
            group=row.get(GROUP, ""),
        )
        for row in rows
    ]
    return classes, files, left_out


def _group_splits(path: Path, rows: Iterable[TableRow]) -> dict[str, str]:
    """The split that the table itself names for each group."""
    splits: dict[str, str] = {}
    for row in rows:
        group, split = row.get(GROUP, ""), row.get(SPLIT, "")
        if group and split and splits.setdefault(group, split) != split:
            raise LabelTableError(
                f"{path} puts the group {group!r} into {splits[group]} and {split}",
                "give all rows of a group the same split, or none",
            )
    return splits


def _read_table_rows(path: Path) -> list[tuple[int, TableRow]]:
    """All rows with the line each ends on, their cells freed of blanks around them."""
    try:
        # With or without the mark that spreadsheets put in front.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            columns = [cell.strip() for cell in next(reader, [])]
            _check_columns(path, columns)
            return [
                (reader.line_num, _to_row(columns, [cell.strip() for cell in cells]))
                for cells in reader
                if cells
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(
            f"{path} can't be read as a table ({error})", "save it as CSV, UTF-8"
        ) from error


def _check_columns(path: Path, columns: list[str]) -> None:
    unknown = [column for column in columns if column not in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)]
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if unknown or missing or len(set(columns)) < len(columns):
        raise LabelTableError(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            f"its first line must name {' and '.join(REQUIRED_COLUMNS)}, and may name "
            f"{', '.join(OPTIONAL_COLUMNS)}",
        )


def _to_row(columns: list[str], cells: list[str]) -> TableRow:
    """A row of another length is empty, and so has no path."""
    return dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else {}


def _find_problem(row: TableRow) -> str:
    if not row:
        return "the row has more or fewer cells than the first line"
    for column in REQUIRED_COLUMNS:
        if not row[column]:
            return f"no {column}"
    split, weight = row.get(SPLIT, ""), row.get(WEIGHT, "")
    if split not in ("", *SPLIT_NAMES):
        return f"split {split!r} is none of {', '.join(SPLIT_NAMES)}"
    if weight and not _is_weight(weight):
        return f"weight {weight!r} is not a number from {MIN_WEIGHT} to {MAX_WEIGHT:g}"
    return ""


def _is_weight(text: str) -> bool:
    try:
        return MIN_WEIGHT <= float(text) <= MAX_WEIGHT
    except ValueError:
        return False
