"""Labelled photo files, listed from a folder per class or from a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from batch.errors import InputError
from trainer.datasets.dataset import Dataset, Framing, select_abstain_classes, sort_classes
from trainer.datasets.samples import SPLIT_NAMES, LabelledFile, Skipped, build_dataset

# Map from a name in the data to its abstain class.
AbstainNames = Mapping[str, str]
TableRow = dict[str, str]

SUFFIX = ".csv"
REQUIRED_COLUMNS = ("path", "label")
SPLIT, WEIGHT, KIND, GROUP = "split", "weight", "kind", "group"
OPTIONAL_COLUMNS = (SPLIT, WEIGHT, KIND, GROUP)
MIN_WEIGHT, MAX_WEIGHT = 0.001, 100.0


class LabelTableError(InputError):
    """A table as a whole can't be used."""


def load_folders(root: Path, framing: Framing, abstain: AbstainNames | None = None) -> Dataset:
    """Read a folder whose sub-folders are the classes, see ``list_folder_files``.

    The digest of a file's bytes decides its split (80 % train, 10 % validation, 10 % test), so that
    adding photos does not move others to another split.

    Raises:
        InputError: the folder does not exist, there are fewer than two labels, or a class has no
            usable photo.
    """
    classes, files = list_folder_files(root, abstain)
    return build_dataset(root.resolve().name, classes, files, framing)


def list_folder_files(
    root: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """List the classes of a folder, which are its sub-folders, and all files in them.

    The folders ``neither`` and ``no_person``, and those named by ``abstain``, are the abstain
    classes. A file's kind is its class and the sub-folder that it is in, such as
    ``no_person/pets``.

    Raises:
        InputError: the folder does not exist, or there are fewer than two labels.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder", "give a folder with a sub-folder for each class"
        )
    names = abstain or {}
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    classes = sort_classes(names.get(folder.name, folder.name) for folder in folders)
    labels = len(classes) - len(select_abstain_classes(classes))
    if labels < 2:
        raise InputError(
            f"{root} has {labels} sub-folders for labels",
            "make at least two, such as happy and sad",
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


def is_label_table(source: Path) -> bool:
    """Tell by the file's name whether a source is a table of photos."""
    return source.suffix.lower() == SUFFIX and source.is_file()


def load_label_table(path: Path, framing: Framing, abstain: AbstainNames | None = None) -> Dataset:
    """Read the photos of a table, see ``list_table_files``.

    If the table gives no split for a photo, the name of its group decides; without a group, the
    digest of the file's bytes does, as for folders. Unusable rows are in ``skipped``.

    Raises:
        LabelTableError: the file is not such a table.
        InputError: a class has no usable photo.
    """
    classes, files, skipped = list_table_files(path, abstain)
    return build_dataset(path.resolve().stem, classes, files, framing, skipped)


def list_table_files(
    path: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile], list[Skipped]]:
    """List the classes and photos of a CSV table (UTF-8) whose first line names the columns.

    The columns are ``path``, relative to the table's folder, ``label``, and optionally ``split``
    (train, validation or test), ``weight`` (in the training loss, 1 by default), ``kind`` (for
    tables by kind, the class by default) and ``group`` (of photos that share a split). The labels
    ``neither`` and ``no_person``, and those named by ``abstain``, are the abstain classes.

    Returns:
        The classes, the photos, and the unusable rows with the reason.

    Raises:
        LabelTableError: the file is not such a table, has fewer than two labels, or puts a group
            into two splits.
    """
    skipped, rows = [], []
    for line, row in _read_table_rows(path):
        problem = _find_problem(row)
        if problem:
            skipped.append((f"{path.name}, line {line}", problem))
        else:
            rows.append(row)
    names = abstain or {}
    for row in rows:
        row["label"] = names.get(row["label"], row["label"])
    classes = sort_classes(row["label"] for row in rows)
    labels = len(classes) - len(select_abstain_classes(classes))
    if labels < 2:
        raise LabelTableError(f"{path} has {labels} labels", "training needs at least two")
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
    return classes, files, skipped


def _list_files(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _group_splits(path: Path, rows: Iterable[TableRow]) -> dict[str, str]:
    """Return the split that the table gives for each group."""
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
    """Read all rows with stripped cells, each with the number of its last line."""
    try:
        # With or without the byte order mark that spreadsheets write.
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
    """Build a row; it is empty if its length is wrong."""
    return dict(zip(columns, cells, strict=True)) if len(cells) == len(columns) else {}


def _find_problem(row: TableRow) -> str:
    if not row:
        return "the row has more or fewer cells than the first line"
    for column in REQUIRED_COLUMNS:
        if not row[column]:
            return f"no {column}"
    split, weight = row.get(SPLIT, ""), row.get(WEIGHT, "")
    if split not in ("", *SPLIT_NAMES):
        return f"split {split!r} is not one of {', '.join(SPLIT_NAMES)}"
    if weight and not _is_weight(weight):
        return f"weight {weight!r} is not a number from {MIN_WEIGHT} to {MAX_WEIGHT:g}"
    return ""


def _is_weight(text: str) -> bool:
    try:
        return MIN_WEIGHT <= float(text) <= MAX_WEIGHT
    except ValueError:
        return False
