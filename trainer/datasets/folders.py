"""A folder of photos for each class: the data layout anyone can make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from batch.errors import InputError
from trainer.data import Dataset, Framing, select_abstain_classes, sort_classes
from trainer.datasets.samples import LabelledFile, build_dataset

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
