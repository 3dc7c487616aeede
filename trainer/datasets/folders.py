"""A folder for each class, full of photos: the data layout anyone can make."""

from __future__ import annotations

from pathlib import Path

from batch.errors import InputError
from trainer.data import Dataset, Framing
from trainer.datasets.samples import Labelled, dataset_of


def load_folders(root: Path, framing: Framing) -> Dataset:
    """Read a folder whose sub-folders are the classes, each searched to any depth.

    The digest of a file's bytes alone decides its part (80 % train, 10 % validation, 10 %
    test), so more photos move none that were there.

    Raises:
        InputError: no such folder, fewer than two classes, or a class with no photo.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder a class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise InputError(
            f"{root} has {len(folders)} sub-folders, and each is a class",
            "make two or more, for example happy and sad",
        )
    files = [
        Labelled(path, path.relative_to(root).as_posix(), n)
        for n, folder in enumerate(folders)
        for path in _files(folder)
    ]
    labels = tuple(folder.name for folder in folders)
    return dataset_of(root.resolve().name, labels, files, framing)


def _files(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
