"""Labelled photo files, listed from a folder per class or from a CSV table."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from batch.errors import InputError
from trainer.datasets.dataset import Dataset, Framing, select_abstain_classes, sort_classes
from trainer.datasets.samples import (
    SPLIT_NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    LabelledFile,
    Skipped,
    build_dataset,
)

# Map from a name in the data to its abstain class.
AbstainNames = Mapping[str, str]
TableRow = dict[str, str]

SUFFIX = ".csv"
REQUIRED_COLUMNS = ("path", "label")
SPLIT, WEIGHT, KIND, GROUP = "split", "weight", "kind", "group"
OPTIONAL_COLUMNS = (SPLIT, WEIGHT, KIND, GROUP)
MIN_WEIGHT, MAX_WEIGHT = 0.001, 100.0
# The split that a folder of this name holds, if it and all folders beside it hold class folders.
SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}

logger = logging.getLogger(__name__)


class LabelTableError(InputError):
    """A table as a whole can't be used."""


def load_folders(
    root: Path,
    framing: Framing,
    abstain: AbstainNames | None = None,
    cache: Path | None = None,
) -> Dataset:
    """Read a folder whose sub-folders are the classes, see ``list_folder_files``.

    If the folder has no split folders, the digest of a file's bytes decides its split (80 % train,
    10 % validation, 10 % test), so that adding photos does not move others to another split, see
    ``spread_classes``. Files that are in no class folder are skipped.

    Raises:
        InputError: the folder does not exist, there are fewer than two labels, a class has no
            usable photo, or folders named like splits can't be used.
    """
    classes, files = list_folder_files(root, abstain)
    splits = find_split_folders(root)
    if splits:
        _log_splits(root, splits)
    places = (root, *splits)
    loose = [
        (path.relative_to(root).as_posix(), "in no class folder")
        for place in places
        for path in sorted(place.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]
    return build_dataset(root.resolve().name, classes, files, framing, loose, cache)


def find_split_folders(root: Path) -> dict[Path, str]:
    """Find the folders of a folder that are splits: the split of each by path, empty for none.

    They are splits if all have names of ``SPLIT_FOLDERS`` and hold folders, the classes.

    Raises:
        InputError: all have such names but not all hold folders or none is the training split, or
            several splits are beside other folders.
    """
    folders = _list_folders(root)
    named = {f: SPLIT_FOLDERS[f.name.casefold()] for f in folders if _is_named_like_split(f)}
    nested = {folder: split for folder, split in named.items() if _list_folders(folder)}
    others = [folder.name for folder in folders if folder not in named]
    if others:
        if len(set(nested.values())) < 2:
            return {}
        raise InputError(
            f"{root} has splits ({_join_names(nested)}) beside other folders ({', '.join(others)})",
            "move the others away or, if all of them are classes, give a table of photos",
        )
    flat = [folder for folder in named if folder not in nested]
    if flat:
        raise InputError(
            f"{root} has folders named like splits ({_join_names(flat)}) without class folders",
            "make a sub-folder for each class in them, or move them away; if they are classes, "
            "rename them",
        )
    if named and TRAIN not in named.values():
        raise InputError(
            f"{root} has the splits {_join_names(named)}, but no folder train",
            "add it or, if these are classes, rename them",
        )
    return named


def list_folder_files(
    root: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """List the classes of a folder, which are its sub-folders, and all files in them.

    The folders ``neither`` and ``no_person``, and those named by ``abstain``, are the abstain
    classes. A file's kind is its class and the sub-folder that it is in, such as
    ``no_person/pets``. In split folders (``find_split_folders``) the classes are a level deeper. If
    there is none for validation or test, the digests of the training files decide which go there.

    Raises:
        InputError: the folder does not exist, there are fewer than two labels, folders named like
            splits can't be used, a class is not in the training split, or its name is not UTF-8.
    """
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder", "give a folder with a sub-folder for each class"
        )
    names = abstain or {}
    splits = find_split_folders(root)
    folders = [folder for place in splits or (root,) for folder in _list_folders(place)]
    _check_folder_names(folders, names)
    classes = sort_classes(names.get(folder.name, folder.name) for folder in folders)
    labels = len(classes) - len(select_abstain_classes(classes))
    if labels < 2:
        raise InputError(
            f"{root} has {labels} sub-folders for labels",
            "make at least two, such as happy and sad",
        )
    if splits:
        _check_classes(root, folders, splits, names)
    missing = tuple(split for split in SPLIT_NAMES if split not in splits.values())
    files = [
        LabelledFile(
            path,
            path.relative_to(root).as_posix(),
            classes.index(class_),
            split="" if missing and split == TRAIN else split,
            choices=(TRAIN, *missing) if splits else SPLIT_NAMES,
            kind=str(PurePosixPath(class_, path.relative_to(folder).parent.as_posix())),
        )
        for folder in folders
        for class_ in [names.get(folder.name, folder.name)]
        for split in [splits.get(folder.parent, "")]
        for path in _list_files(folder)
    ]
    return classes, files


def is_label_table(source: Path) -> bool:
    """Tell by the file's name whether a source is a table of photos."""
    return source.suffix.lower() == SUFFIX and source.is_file()


def load_label_table(
    path: Path,
    framing: Framing,
    abstain: AbstainNames | None = None,
    cache: Path | None = None,
) -> Dataset:
    """Read the photos of a table, see ``list_table_files``.

    If the table gives no split for a photo, the name of its group decides; without a group, the
    digest of the file's bytes does, as for folders. Unusable rows are in ``skipped``.

    Raises:
        LabelTableError: the file is not such a table.
        InputError: a class has no usable photo.
    """
    classes, files, skipped = list_table_files(path, abstain)
    return build_dataset(path.resolve().stem, classes, files, framing, skipped, cache)


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


def _list_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _is_named_like_split(folder: Path) -> bool:
    return folder.name.casefold() in SPLIT_FOLDERS


def _join_names(folders: Iterable[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def _check_folder_names(folders: Iterable[Path], names: AbstainNames) -> None:
    """Check that every class has a name in UTF-8, because reports and models store it as text."""
    for folder in folders:
        try:
            names.get(folder.name, folder.name).encode()
        except UnicodeEncodeError as error:
            # Bytes that are not UTF-8 are written as \xff.
            escaped = os.fsencode(folder).decode("utf-8", "backslashreplace")
            raise InputError(
                f"the class folder {escaped} has a name that is not UTF-8",
                "rename the folder; convmv converts names of other encodings",
            ) from error


def _check_classes(
    root: Path, folders: Iterable[Path], splits: Mapping[Path, str], names: AbstainNames
) -> None:
    """Check that every class of a held-out split is in the training split too."""
    trained = {names.get(f.name, f.name) for f in folders if splits[f.parent] == TRAIN}
    for folder in folders:
        if names.get(folder.name, folder.name) not in trained:
            raise InputError(
                f"{folder} has no folder of its class in the training split of {root}",
                "add photos of the class there, or move this folder away",
            )


def _log_splits(root: Path, splits: Mapping[Path, str]) -> None:
    missing = [split for split in SPLIT_NAMES if split not in splits.values()]
    logger.info(
        "%s: the folders %s are its splits%s",
        root,
        _join_names(splits),
        f"; {' and '.join(missing)} photos are taken from the training split" if missing else "",
    )


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
