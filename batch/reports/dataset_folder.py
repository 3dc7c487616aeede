"""A dataset in a local folder: written under a hidden name and published in one step."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from batch.errors import OutputError
from batch.files.drafts import CONTENT, DraftFolder, draft_stem, list_names
from batch.files.publish import copy_owner, exchange, resolve_path, sync_folder
from batch.files.regular_file import open_folder, read_regular
from batch.os_errors import is_denied, translate_write_errors
from batch.path_text import path_text
from batch.reports.dataset import (
    MAX_SUCCESS_BYTES,
    SUCCESS_FILE,
    foreign_file_error,
    is_dataset_name,
    is_draft_name,
    parse_success,
)
from batch.reports.output import check_parent_folder

# The folder in the draft that holds the earlier dataset if the swap takes two steps.
EARLIER_FOLDER = "earlier"


def check_local_dataset(output: Path) -> None:
    """Check before the run that a dataset can be published, and leave nothing behind.

    If an earlier run was killed between the two steps of a swap, the first step is undone.

    Raises:
        OutputError: the parent folder is missing or can't be written, or the output exists and is
            not a dataset of batch-label.
    """
    target = resolve_path(output)
    with translate_write_errors(f"report {path_text(output)}"):
        check_parent_folder(target)
        _recover(target)
        if target.is_dir():
            check_holds_only_dataset(target)
        elif target.exists():
            raise OutputError(f"{path_text(target)} is a file", "name a folder with -o")


class LocalDataset:
    """A dataset that is written to a hidden folder, which is renamed once it is complete.

    Attributes:
        root: the hidden folder.
    """

    def __init__(self, output: Path) -> None:
        self._display_name = f"report {path_text(output)}"
        self._target = resolve_path(output)
        _recover(self._target)
        self._draft = DraftFolder.make(self._target.parent, draft_stem(self._target))
        self.root = self._draft.content
        self._streams: list[BinaryIO] = []
        self._earlier: os.stat_result | None = None
        with suppress(OSError):  # there may be no earlier dataset
            self._earlier = self._target.stat()
            copy_owner(self._earlier, self.root)
            self.root.chmod(self._earlier.st_mode & 0o7777)

    def open(self, name: str) -> BinaryIO:
        """Create a file in the hidden folder."""
        stream = (self.root / name).open("xb")
        if self._earlier is not None:
            copy_owner(self._earlier, stream.fileno())
        self._streams.append(stream)
        return stream

    def publish(self) -> None:
        """Replace the earlier dataset in a way that survives a loss of power.

        Raises:
            OutputError: an I/O error, or the target now holds something else.
        """
        with translate_write_errors(self._display_name):
            for path in self.root.iterdir():
                _sync_file(path)
            sync_folder(self.root)
            if self._target.is_dir():
                check_holds_only_dataset(self._target)
            _swap(self._draft, self._target)
            sync_folder(self._target.parent)
        self._draft.remove(_clear)

    def discard(self) -> None:
        """Remove the hidden folder with all files in it."""
        for stream in self._streams:
            with suppress(OSError):
                stream.close()
        self._draft.remove(_clear)


def check_holds_only_dataset(target: Path) -> None:
    """Make sure that replacing a folder loses nothing.

    It must be empty, or hold only files that its ``_SUCCESS`` lists, which this program wrote.

    Raises:
        OutputError: it holds something else, or is a mount point.
    """
    success = None
    try:
        success = read_regular(target / SUCCESS_FILE, MAX_SUCCESS_BYTES)
    except OSError as error:
        if is_denied(error):
            raise
    files = parse_success(success) if success is not None else None
    own = {SUCCESS_FILE, *(file.path for file in files)} if files is not None else set()
    with os.scandir(target) as entries:
        for entry in entries:
            # Stop at the first foreign file: this may be a large folder of photos.
            if entry.name not in own or not entry.is_file(follow_symlinks=False):
                raise foreign_file_error(path_text(target), entry.name)
    if target.is_mount():
        raise OutputError(
            f"{path_text(target)} is a mount point, which can't be replaced",
            "name a folder in it",
        )


def _swap(draft: DraftFolder, target: Path) -> None:
    """Give the new dataset its name; the earlier one, if any, moves into the draft's folder."""
    new = draft.content
    if not target.is_dir() or not any(target.iterdir()):
        new.rename(target)  # replaces at most an empty folder
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
    """Remove the drafts of killed runs, and put back an earlier dataset found in one."""
    for left in DraftFolder.take_over_abandoned(target.parent, draft_stem(target)):
        earlier = left.path / EARLIER_FOLDER / target.name
        with suppress(OSError):  # best effort
            if earlier.is_dir() and not os.path.lexists(target):
                earlier.rename(target)
        left.remove(_clear)


def _clear(draft: int) -> None:
    """Remove datasets, complete or not, from the folder of a draft, given by its descriptor.

    ``drafts`` has proven that the draft is this program's, but a dataset in it may have been
    published before. Files that were added to it since then have other names, and are kept.
    """
    with suppress(FileNotFoundError):  # it was published
        remove_dataset(CONTENT, draft)
    with suppress(FileNotFoundError):  # the usual case
        folder = open_folder(EARLIER_FOLDER, dir_fd=draft)
        try:
            for name in list_names(folder):
                remove_dataset(name, folder)
        finally:
            os.close(folder)
        os.rmdir(EARLIER_FOLDER, dir_fd=draft)


def remove_dataset(name: str, parent: int) -> None:
    """Remove the files of a dataset from a folder, and the folder if it is empty then.

    ``_SUCCESS`` is the last, so that a dataset that was removed in part is still one of its files.

    Args:
        name: the name of the folder.
        parent: descriptor of the folder above.
    """
    folder = open_folder(name, dir_fd=parent)
    try:
        for file in sorted(list_names(folder), key=lambda name: name == SUCCESS_FILE):
            is_regular = stat.S_ISREG(os.stat(file, dir_fd=folder, follow_symlinks=False).st_mode)
            if is_regular and (is_dataset_name(file) or is_draft_name(file)):
                os.unlink(file, dir_fd=folder)
    finally:
        os.close(folder)
    with suppress(OSError):  # not empty
        os.rmdir(name, dir_fd=parent)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
