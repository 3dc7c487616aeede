"""Sorted names of the folders that a walk is in, in bounded memory: an external merge sort."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, NamedTuple

from batch.errors import OutputError
from batch.os_errors import describe_os_error

# For all folders together; the folder that is being listed may have as many again.
MAX_NAMES_IN_MEMORY = 16_384
MAX_RUNS = 64  # merged at once; more are merged into one run first
_BLOCK = 4096  # bytes read from a run at a time
_END = b"/"  # ends a name in a run, as no name contains it


class _Run(NamedTuple):
    """Sorted names in the temporary file.

    Attributes:
        start: the offset of the first name.
        end: the offset after the last name.
        level: how often the names were merged.
    """

    start: int
    end: int
    level: int = 0


class _Folder:
    """The remaining names of a folder: in memory from ``at`` on, or in sorted runs on disk."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at = 0
        self.runs: list[_Run] = []
        self.merged: Iterator[bytes] | None = None


class NameStack:
    """A stack of folders with their names, sorted by bytes.

    At most ``MAX_NAMES_IN_MEMORY`` names are in memory. A temporary file holds the others in sorted
    runs: those of a folder that has more, and those of the outermost folders. A name may be
    followed by NUL and any text.

    All methods raise ``OutputError`` if the temporary file can't be used.
    """

    def __init__(self) -> None:
        self._folders: list[_Folder] = []
        self._held = 0
        self._file: BinaryIO | None = None

    def push_folder(self, parts: Iterable[list[str]]) -> None:
        """Enter a folder, whose names come in batches and in any order."""
        folder, names = _Folder(), list[str]()
        for part in parts:
            names += part
            if len(names) > MAX_NAMES_IN_MEMORY:
                self._spill(folder, _sort_by_bytes(names))
                names = []
        if folder.runs:
            self._spill(folder, _sort_by_bytes(names))
        else:
            folder.names = _sort_by_bytes(names)
            self._held += len(names)
        self._folders.append(folder)
        for outer in self._folders:
            if self._held <= MAX_NAMES_IN_MEMORY:
                break
            self._held -= len(outer.names)
            self._spill(outer, outer.names[outer.at :])
            outer.names = []

    def take(self, number: int) -> list[str]:
        """Return the next names of the innermost folder; fewer than ``number`` at its end."""
        folder = self._folders[-1]
        if not folder.runs:
            names = folder.names[folder.at : folder.at + number]
            folder.at += len(names)
            return names
        with _translate_errors():
            if folder.merged is None:
                folder.merged = self._merge(folder.runs)
            return [os.fsdecode(name) for name in islice(folder.merged, number)]

    def pop(self) -> None:
        """Leave the innermost folder."""
        folder = self._folders.pop()
        self._held -= len(folder.names)
        if folder.runs and self._file is not None:
            with _translate_errors():
                self._file.truncate(self._end)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            self._file.close()

    @property
    def _end(self) -> int:
        return max((run.end for folder in self._folders for run in folder.runs), default=0)

    def _spill(self, folder: _Folder, names: list[str]) -> None:
        """Write sorted names as a run; merge ``MAX_RUNS`` runs of a level into one of the next."""
        if not names:
            return
        with _translate_errors():
            end = max(self._end, *(run.end for run in folder.runs), 0)
            data = os.fsencode(_END.decode().join(names)) + _END
            folder.runs.append(_Run(end, self._write(data, end)))
            while len(folder.runs) >= MAX_RUNS:
                alike = folder.runs[-MAX_RUNS:]
                if len({run.level for run in alike}) > 1:
                    break
                start = at = folder.runs[-1].end
                merged = self._merge(alike)
                while some := list(islice(merged, MAX_NAMES_IN_MEMORY)):
                    at = self._write(_END.join(some) + _END, at)
                folder.runs[-MAX_RUNS:] = [_Run(start, at, alike[0].level + 1)]

    def _write(self, data: bytes, at: int) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see `close`
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            rest, at = rest[written:], at + written
        return at

    def _merge(self, runs: Iterable[_Run]) -> Iterator[bytes]:
        return heapq.merge(*map(self._read, runs))

    def _read(self, run: _Run) -> Iterator[bytes]:
        at, rest = run.start, b""
        while at < run.end and self._file is not None:
            block = os.pread(self._file.fileno(), min(_BLOCK, run.end - at), at)
            if not block:
                raise OSError("it was truncated")
            at += len(block)
            *names, rest = (rest + block).split(_END)
            yield from names


def _sort_by_bytes(names: list[str]) -> list[str]:
    """Sort names by their bytes; for ASCII this is the order of text."""
    return sorted(names, key=None if all(map(str.isascii, names)) else os.fsencode)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = describe_os_error(error, "")
        raise OutputError(
            f"the temporary file for the names in a folder can't be used ({cause})",
            "free space in the folder for temporary files, or name another folder in TMPDIR",
        ) from error
