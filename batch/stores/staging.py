"""Temporary files of what is to be uploaded: in a private folder that ends with its process."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import OutputError
from batch.names import path_text
from batch.reports.publish import writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PREFIX = "batch-label-"
ELSEWHERE = "point TMPDIR at another disk"


class Staging:
    """A folder under ``TMPDIR`` that nobody else can look into.

    What a killed process left is removed by the next one: a folder is known to be in use by the
    lock (``flock``) on it, which ends with its process.

    Raises:
        OutputError: the system refuses.
    """

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir())
        with writing(f"temporary folder {path_text(folder)}", ELSEWHERE):
            _remove_stale(folder)
            self._streams: list[BinaryIO] = []
            self.path, self._lock = _locked_folder(folder)

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the folder; the stream raises ``OutputError``."""
        path = self.path / name
        with writing(f"temporary file {path_text(path)}", ELSEWHERE):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = io.BufferedWriter(_Raw(path, "xb"))
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Remove the folder and all that is in it, whole or not."""
        for stream in self._streams:
            with suppress(OSError, OutputError):
                stream.close()
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # closed before
            os.close(self._lock)


class _Raw(io.FileIO):
    """A file that tells a full disk of temporary files from one of reports."""

    def write(self, data: ReadableBuffer, /) -> int:
        with writing(f"temporary file {path_text(Path(str(self.name)))}", ELSEWHERE):
            return super().write(data)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        descriptor = os.open(path, os.O_RDONLY)
        # Another process may have taken it for a stale one before the lock was on it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                return path, descriptor
        os.close(descriptor)


def _remove_stale(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, no folder, or in use
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
