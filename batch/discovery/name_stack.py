"""The names in the folders that a walk is in, sorted, in bounded memory."""

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

# Names in memory: of all folders that a walk is in, and as many of the one that it lists.
MAX_NAMES_IN_MEMORY = 16_384
# Runs that are merged at once; more are merged into one run first.
MAX_RUNS = 64
# Bytes of a run that are read at a time.
_BLOCK = 4096
# What ends a name in a run: no name of a system has it.
_END = b"/"


class _Run(NamedTuple):
    """Where sorted names lie in the temporary file; ``level`` counts how often they were merged."""

    start: int
    end: int
    level: int = 0


class _Folder:
    """The names of a folder that are left, in memory or in sorted runs on disk."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at = 0
        self.runs: list[_Run] = []
        self.merged: Iterator[bytes] | None = None


class NameStack:
    """Sorts the names of folders by their bytes, for a walk that is in several folders at once.

    At most ``MAX_NAMES_IN_MEMORY`` names of all folders are in memory. The others are in a temporary file,
    in sorted runs: the names of a folder that has more, and those of the outermost folders. Names
    are the file system's, and may have anything behind a NUL.

    All methods raise ``OutputError`` if the file can't be used.
    """

    def __init__(self) -> None:
        self._folders: list[_Folder] = []
        self._held = 0
        self._file: BinaryIO | None = None

    def push_folder(self, parts: Iterable[list[str]]) -> None:
        """Enter a folder, and take its names in any order."""
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
        """Give the next names of the innermost folder; fewer than ``number`` at its end."""
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
        """Write sorted names as a run; of many runs of a level one of the next becomes."""
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
                raise OSError("it was cut off")
            at += len(block)
            *names, rest = (rest + block).split(_END)
            yield from names


def _sort_by_bytes(names: list[str]) -> list[str]:
    """Sort by the names' bytes, which is how text is sorted anyway while it is ASCII."""
    return sorted(names, key=None if all(map(str.isascii, names)) else os.fsencode)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the temporary file for the names in a folder can't be used ({describe_os_error(error, '')})",
            "free some space in the folder for temporary files, or name another in TMPDIR",
        ) from error
