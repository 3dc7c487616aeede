"""A dataset in a folder, which takes its name once it is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from batch.errors import OutputError
from batch.names import path_text
from batch.reports.dataset_files import SUCCESS, contents_of, is_own, refusal
from batch.reports.exchange import exchange
from batch.reports.output import check_folder
from batch.reports.publish import draft_path, is_another_alive, resolved, sync_folder, writing

# Where the earlier dataset is while the new one takes its name, if that takes two steps.
_OLD = ".old"


def check_local_dataset(output: Path) -> None:
    """Find out before the work whether a dataset could be published, and leave nothing behind.

    What a run that was cut off between two steps has left is put right.

    Raises:
        OutputError: its folder is missing or can't be written, or something is in its place that
            is no dataset of this program's.
    """
    target = resolved(output)
    with writing(f"report {path_text(output)}"):
        check_folder(target)
        _recover(target)
        if target.is_dir():
            _check_replaceable(target)
        elif target.exists():
            raise OutputError(f"{path_text(target)} is a file", "name a folder with -o")


class LocalDataset:
    """A hidden folder beside the dataset, which takes its name once it is whole."""

    def __init__(self, output: Path) -> None:
        self._called = f"report {path_text(output)}"
        self._target = resolved(output)
        _recover(self._target)
        self.root = draft_path(self._target)
        self.root.mkdir()
        self._streams: list[BinaryIO] = []
        with suppress(OSError):  # mostly since there is no earlier one
            self.root.chmod(self._target.stat().st_mode & 0o7777)

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("xb")
        self._streams.append(stream)
        return stream

    def publish(self) -> None:
        """Put the folder in the earlier one's place, safe against a loss of power.

        Raises:
            OutputError: the system refuses, or something else has come to lie there.
        """
        with writing(self._called):
            for folder, _, files in os.walk(self.root, topdown=False):
                for name in files:
                    _sync_file(Path(folder, name))
                sync_folder(Path(folder))
            if self._target.is_dir():
                _check_replaceable(self._target)
            _swap(self.root, self._target)
            sync_folder(self._target.parent)
        _clear(self.root)

    def discard(self) -> None:
        """Remove the hidden folder, with the files that are in the making."""
        for stream in self._streams:
            with suppress(OSError):
                stream.close()
        _clear(self.root)


def _check_replaceable(target: Path) -> None:
    """Make sure that nothing is lost if a folder is replaced.

    Raises:
        OutputError: it holds what this program did not write, or is a mount point.
    """
    names = list(_names(target))
    with suppress(OSError):
        if contents_of((target / SUCCESS).read_bytes()) is not None:
            names = [name for name in names if not is_own(name)]
    if names:
        raise refusal(path_text(target), min(names))
    if target.is_mount():
        raise OutputError(
            f"{path_text(target)} is a mount point, which can't be replaced",
            "name a folder in it",
        )


def _names(folder: Path) -> Iterator[str]:
    for inside, folders, files in os.walk(folder):
        links = [name for name in folders if Path(inside, name).is_symlink()]
        for name in [*files, *links]:
            yield Path(inside, name).relative_to(folder).as_posix()


def _swap(new: Path, target: Path) -> None:
    """Give a folder its name; the earlier one then has the new one's, if there was one."""
    if not target.is_dir() or not any(target.iterdir()):
        new.rename(target)
    elif not exchange(new, target):
        old = new.with_name(new.name + _OLD)
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
        old.rename(new)


def _recover(target: Path) -> None:
    """Put right what runs that were killed have left beside a dataset."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.([1-9][0-9]*)\.tmp({re.escape(_OLD)})?")
    with suppress(OSError):  # what can't be put right is in nobody's way
        for entry in sorted(target.parent.iterdir(), reverse=True):  # .old before its .tmp
            match = pattern.fullmatch(entry.name)
            if match is None or entry.is_symlink() or is_another_alive(int(match[1])):
                continue
            if match[2] and not target.exists():
                entry.rename(target)
            else:
                _clear(entry)


def _clear(folder: Path) -> None:
    """Remove a dataset, whole or in the making, and leave what is not part of one."""
    with suppress(OSError):
        for inside, _, files in os.walk(folder, topdown=False):
            for name in files:
                path = Path(inside, name)
                if is_own(path.relative_to(folder).as_posix()):
                    path.unlink()
            with suppress(OSError):  # not empty
                Path(inside).rmdir()


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
