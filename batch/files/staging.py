"""Temporary files of uploads and workbooks."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import OutputError
from batch.files.drafts import DraftFolder, remove_contents
from batch.os_errors import translate_write_errors
from batch.path_text import path_text

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STAGED_STEM = "upload"  # prefix of the folders' names
TMPDIR_REMEDY = "point TMPDIR at another disk"


class StagingFolder:
    """A private folder under ``TMPDIR``; folders that killed processes left are removed first.

    Attributes:
        path: the folder.

    Raises:
        OutputError: the folder can't be created.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        with translate_write_errors(f"temporary folder {path_text(parent)}", TMPDIR_REMEDY):
            for abandoned in DraftFolder.take_over_abandoned(parent, STAGED_STEM):
                abandoned.remove(remove_contents)
            self._streams: list[BinaryIO] = []
            self._folder = DraftFolder.make(parent, STAGED_STEM)
            self.path = self._folder.content

    def open(self, name: str) -> BinaryIO:
        """Create a file in the folder; its stream raises ``OutputError`` for any ``OSError``."""
        path = self.path / name
        with translate_write_errors(f"temporary file {path_text(path)}", TMPDIR_REMEDY):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = io.BufferedWriter(_StagedFile(path, "xb"))
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Remove the folder with all its files."""
        for stream in self._streams:
            with suppress(OSError, OutputError):
                stream.close()
        self._folder.remove(remove_contents)


class _StagedFile(io.FileIO):
    """A file whose write errors advise another ``TMPDIR``, not another output."""

    def write(self, data: ReadableBuffer, /) -> int:
        with translate_write_errors(
            f"temporary file {path_text(Path(str(self.name)))}", TMPDIR_REMEDY
        ):
            return super().write(data)
