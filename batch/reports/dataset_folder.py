"""A dataset in a folder, which takes its name once it is whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from batch.errors import OutputError
from batch.files.drafts import CONTENT, DraftFolder, draft_stem, list_names
from batch.files.publish import exchange, resolve_path, sync_folder
from batch.files.regular_file import open_folder, read_regular
from batch.os_errors import is_denied, translate_write_errors
from batch.path_text import path_text
from batch.reports.dataset import (
    MAX_SUCCESS_BYTES,
    SUCCESS_FILE,
    foreign_file_error,
    is_dataset_path,
    is_draft_path,
    is_partition_path,
    parse_success,
)
from batch.reports.output import check_parent_folder

# Where the earlier dataset is, under its name, while the new one takes that in two steps.
EARLIER_FOLDER = "earlier"


def check_local_dataset(output: Path) -> None:
    """Find out before the work whether a dataset could be published, and leave nothing behind.

    What a run that was cut off between two steps has left is put right.

    Raises:
        OutputError: its folder is missing or can't be written, or something is in its place that
            is no dataset of this program's.
    """
    target = resolve_path(output)
    with translate_write_errors(f"report {path_text(output)}"):
        check_parent_folder(target)
        _recover(target)
        if target.is_dir():
            _check_replaceable(target)
        elif target.exists():
            raise OutputError(f"{path_text(target)} is a file", "name a folder with -o")


class LocalDataset:
    """A hidden folder beside the dataset, which takes its name once it is whole."""

    def __init__(self, output: Path) -> None:
        self._called = f"report {path_text(output)}"
        self._target = resolve_path(output)
        _recover(self._target)
        self._draft = DraftFolder.make(self._target.parent, draft_stem(self._target))
        self.root = self._draft.content
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
        with translate_write_errors(self._called):
            for folder, _, files in os.walk(self.root, topdown=False):
                for name in files:
                    _sync_file(Path(folder, name))
                sync_folder(Path(folder))
            if self._target.is_dir():
                _check_replaceable(self._target)
            _swap(self._draft, self._target)
            sync_folder(self._target.parent)
        self._draft.remove(_clear)

    def discard(self) -> None:
        """Remove the hidden folder, with the files that are in the making."""
        for stream in self._streams:
            with suppress(OSError):
                stream.close()
        self._draft.remove(_clear)


def _check_replaceable(target: Path) -> None:
    """Make sure that nothing is lost if a folder is replaced.

    It has to be empty, or a dataset with nothing in it but what its list, which this program wrote,
    names: files by paths with a part of their digest, and their folders.

    Raises:
        OutputError: it holds what this program did not write, or is a mount point.
    """
    success = None
    try:
        success = read_regular(target / SUCCESS_FILE, MAX_SUCCESS_BYTES)
    except OSError as error:
        if is_denied(error):
            raise
    contents = parse_success(success) if success is not None else None
    own = contents.paths if contents else frozenset()
    for name, is_plain in _walk_entries(target):
        if name not in own or not is_plain:
            raise foreign_file_error(
                path_text(target), name
            )  # at once: it may be a folder of photos
    if target.is_mount():
        raise OutputError(
            f"{path_text(target)} is a mount point, which can't be replaced",
            "name a folder in it",
        )


def _walk_entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Give all that is in a folder by its path there, and whether it is neither link nor device."""
    for inside, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(inside, name)
            kind = stat.S_IFMT(path.lstat().st_mode)
            is_plain = kind in (stat.S_IFREG, stat.S_IFDIR)
            yield path.relative_to(folder).as_posix(), is_plain


def _swap(draft: DraftFolder, target: Path) -> None:
    """Give a dataset its name; the earlier one is in the draft's folder then, if there was one."""
    new = draft.content
    if not target.is_dir() or not any(target.iterdir()):
        new.rename(target)  # over an empty folder at most
    elif not exchange(new, target):
        earlier = draft.path / EARLIER_FOLDER / target.name
        earlier.parent.mkdir()
        target.rename(earlier)
        try:
            new.rename(target)
        except OSError:
            earlier.rename(target)
            raise


def _recover(target: Path) -> None:
    """Put right what runs that were killed have left beside a dataset."""
    for left in DraftFolder.take_over_abandoned(target.parent, draft_stem(target)):
        earlier = left.path / EARLIER_FOLDER / target.name
        with suppress(OSError):  # what can't be put right is in nobody's way
            if earlier.is_dir() and not os.path.lexists(target):
                earlier.rename(target)
        left.remove(_clear)


def _clear(draft: int) -> None:
    """Remove datasets, whole or in the making, from the folder of a draft, and nothing else.

    The folder proves itself (see ``drafts``), but one of them may have been in use under its name:
    what has come to lie in it since it was looked at has no name of a dataset's, and stays.
    """
    with suppress(FileNotFoundError):  # it has become the dataset
        _remove_dataset(CONTENT, draft)
    with suppress(FileNotFoundError):  # as mostly
        folder = open_folder(EARLIER_FOLDER, dir_fd=draft)
        try:
            for name in list_names(folder):
                _remove_dataset(name, folder)
        finally:
            os.close(folder)
        os.rmdir(EARLIER_FOLDER, dir_fd=draft)  # which a draft alone has, if it is empty


def _remove_dataset(root: str, parent: int) -> None:
    """Remove a dataset by its name in an open folder, but for what has other names in it."""
    for inside, folders, files, folder in os.fwalk(root, topdown=False, dir_fd=parent):
        within = inside[len(root) + 1 :]
        for name in files:
            path = f"{within}/{name}" if within else name
            is_plain = stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            if is_plain and (is_dataset_path(path) or is_draft_path(path)):
                os.unlink(name, dir_fd=folder)
        for name in folders:
            if is_partition_path(f"{within}/{name}" if within else name):
                with suppress(OSError):  # a link, or not empty
                    os.rmdir(name, dir_fd=folder)
    with suppress(OSError):  # not empty
        os.rmdir(root, dir_fd=parent)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
