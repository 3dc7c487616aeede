"""Temporary files of uploads and workbooks, in a private folder that ends with its process."""

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

# What the names of these folders begin with, before a random part.
STAGED_STEM = "upload"
TMPDIR_REMEDY = "point TMPDIR at another disk"


class StagingFolder:
    """A folder under ``TMPDIR`` that nobody else can look into.

    What a killed process left is removed by the next one, if its name, its owner, its marker and
    its lock prove that it is such a folder: see ``drafts``.

    Raises:
        OutputError: the system refuses.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        with translate_write_errors(f"temporary folder {path_text(parent)}", TMPDIR_REMEDY):
            for left in DraftFolder.take_over_abandoned(parent, STAGED_STEM):
                left.remove(remove_contents)
            self._streams: list[BinaryIO] = []
            self._folder = DraftFolder.make(parent, STAGED_STEM)
            self.path = self._folder.content

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the folder; the stream raises ``OutputError``."""
        path = self.path / name
        with translate_write_errors(f"temporary file {path_text(path)}", TMPDIR_REMEDY):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = io.BufferedWriter(_StagedFile(path, "xb"))
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """Remove the folder and all that is in it, whole or not."""
        for stream in self._streams:
            with suppress(OSError, OutputError):
                stream.close()
        self._folder.remove(remove_contents)


class _StagedFile(io.FileIO):
    """A file that tells a full disk of temporary files from one of reports."""

    def write(self, data: ReadableBuffer, /) -> int:
        with translate_write_errors(
            f"temporary file {path_text(Path(str(self.name)))}", TMPDIR_REMEDY
        ):
            return super().write(data)
