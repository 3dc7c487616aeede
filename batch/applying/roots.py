"""Folders that are filled: made if they are missing, and removed again if they stay empty."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from batch.applying.operations import Operations
from batch.errors import OutputError
from batch.files.publish import sync_folder
from batch.os_errors import translate_write_errors
from batch.path_text import path_text

_REMOVED = "removed"  # a note, in place of what identifies a folder
_REMEDY = "create it first, or choose another folder"


def check_root(root: Path, operations: Operations | None) -> None:
    """Make sure that a folder can be filled; make it if the folder that contains it exists.

    Args:
        root: the folder.
        operations: the record, in which it is noted that the folder was made; None to make nothing.

    Raises:
        OutputError: the folder can't be filled.
    """
    name = f"folder {path_text(root)}"
    if not root.is_dir():
        if os.path.lexists(root):
            raise OutputError(f"{name} is not a folder", "choose another name")
        if not root.parent.is_dir():
            raise OutputError(
                f"{name} can't be made, as there is no folder {path_text(root.parent)}", _REMEDY
            )
        if operations is not None:
            with translate_write_errors(name, _REMEDY, root):
                root.mkdir()
            operations.write_note(_name_note(root), _identify(root))
            operations.commit()
    if operations is not None:
        with (
            translate_write_errors(name, "choose another folder", root),
            tempfile.TemporaryFile(dir=root),
        ):
            pass


def remove_root(root: Path, operations: Operations) -> None:
    """Remove a folder that ``check_root`` has made, if it is empty."""
    note = operations.read_note(_name_note(root))
    with suppress(OSError):
        if note and note == _identify(root):
            root.rmdir()
            sync_folder(root.parent)
            operations.write_note(_name_note(root), _REMOVED)


def is_root_gone(root: Path, operations: Operations) -> bool:
    """Return whether a folder is missing that ``remove_root`` has not removed."""
    return not root.is_dir() and operations.read_note(_name_note(root)) != _REMOVED


def _name_note(root: Path) -> str:
    return f"made {path_text(root)}"


def _identify(root: Path) -> str:
    """Identify a folder, which another one with the same name is not."""
    status = root.stat()
    return f"{status.st_dev}:{status.st_ino}"
