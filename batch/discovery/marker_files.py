"""Marker files that a run requires, as a guard against a disk that is not mounted.

Comparable guards: the folder marker of Syncthing and ``--check-access`` of rclone bisync.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from batch.errors import BatchLabelError, UsageError
from batch.location import parse_location
from batch.os_errors import describe_os_error
from batch.path_text import path_text, printable_text

OPTION = "--require-file"


def check_marker_files(names: Sequence[str], inputs: Sequence[str]) -> None:
    """Check before any work that all marker files exist.

    Args:
        names: absolute paths, and paths relative to each input.
        inputs: PHOTOS as given; with a relative name, all must be folders of this machine.

    Raises:
        UsageError: a name has only dots and slashes, or a relative name is given and an input is
            not a folder.
        BatchLabelError: a file does not exist or can't be accessed.
    """
    for name in names:
        if not name.strip("./"):
            raise UsageError(f"{OPTION} '{printable_text(name)}' names no file", "give a name")
        for path in _list_paths(name, inputs):
            try:
                path.stat()
            except (OSError, ValueError) as error:
                cause = "not found"
                if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                    cause = describe_os_error(error, path)
                raise BatchLabelError(
                    f"{path_text(path)}, which {OPTION} requires: {cause}; no photo is labelled, "
                    "and an earlier report stays",
                    "check that its disk is mounted; if this is the right folder, create the file",
                ) from error


def _list_paths(name: str, inputs: Sequence[str]) -> Iterator[Path]:
    if os.path.isabs(name):  # noqa: PTH117 - text
        yield Path(name)
        return
    for text in inputs:
        folder = parse_location(text)
        # A folder that does not exist may be on the disk that is missing.
        if not isinstance(folder, Path) or text == "-" or (folder.exists() and not folder.is_dir()):
            raise UsageError(
                f"{OPTION} {printable_text(name)} is looked for in folders, and the input "
                f"{printable_text(text)} is none",
                "give the file's absolute path",
            )
        yield folder / name
