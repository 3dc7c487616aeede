"""How folders are walked: what in them is a photo, in an order that is the same everywhere."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import splitext
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from batch.location import Location, is_archive, location_of
from batch.records import Failure, Reason, Stage
from batch.sources.seen import Seen
from batch.sources.signatures import HEAD_BYTES, RAW_SUFFIXES, SUFFIXES, is_image

LeftOut = Callable[[Location, str], None]


@dataclass(frozen=True)
class Search:
    """How folders are searched.

    ``hidden`` takes names with a leading dot too; ``follow_symlinks`` takes what symbolic
    links inside a folder lead to; ``archives`` takes what is in the archives of a folder.
    """

    recursive: bool = True
    hidden: bool = False
    follow_symlinks: bool = False
    archives: bool = False

    def why_not(self, inside: str) -> str | None:
        """Say why a file in a store or archive is left out, by its path in there."""
        parts = inside.split("/")
        if not self.hidden and any(part.startswith(".") for part in parts):
            return "hidden"
        if not self.recursive and len(parts) > 1:
            return "in a subfolder"
        suffix = splitext(parts[-1])[1].lower()
        if suffix in SUFFIXES or (self.archives and is_archive(inside)):
            return None
        if suffix in RAW_SUFFIXES:
            return "camera raw"
        return "archive" if is_archive(inside) else "no image"


class Found(NamedTuple):
    """A file that was found, with its size in bytes and time of change (nanoseconds).

    ``path`` may be a URL's text, and ``etag`` what an object store calls this state of the object.
    Of a file that can't be looked at there is a ``failure`` instead. ``position`` is its number
    among all that were found, from 1 on, where others of them are left to other runs.
    """

    path: str
    size: int | None = None
    mtime_ns: int | None = None
    failure: Failure | None = None
    etag: str | None = None
    position: int | None = None

    @property
    def location(self) -> Location:
        """Where the file lies; a URL knows what the listing said of it."""
        place = location_of(self.path)
        if isinstance(place, Path):
            return place
        return replace(place, size=self.size, mtime_ns=self.mtime_ns, etag=self.etag)


@dataclass(frozen=True)
class Explorer:
    """Walks folders. Paths are text here: `Path` objects would take half of the time."""

    search: Search
    left_out: LeftOut
    seen: Seen | None

    def explore(self, starts: Iterable[str]) -> Iterator[Found]:
        """Give the files that paths stand for, those inside of folders in their names' order."""
        if self.seen is None:
            return self._reach(starts)
        new = self.seen.is_new_file
        return (found for found in self._reach(starts) if new(found.path))

    def _reach(self, starts: Iterable[str]) -> Iterator[Found]:
        for path in (os.fspath(Path(start)) for start in starts):
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                yield _failed(path, error)
                continue
            if S_ISDIR(status.st_mode):
                yield from self._walk(path)
            else:
                yield _found(path, status)

    def _walk(self, top: str) -> Iterator[Found]:
        levels = [iter(self._inside(top))]  # a stack: folders nest deeper than Python calls
        while levels:
            for item in levels[-1]:
                if isinstance(item, str):
                    levels.append(iter(self._inside(item)))
                    break
                yield item
            else:
                levels.pop()

    def _inside(self, folder: str) -> list[Found | str]:
        """List a folder's files, and the paths of the folders in it, in order."""
        inside: list[Found | str] = []
        try:
            if self.seen is not None and not self.seen.is_new_folder(folder):
                return []
            # By its descriptor, which spares the system the way to each file.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(descriptor) as entries:
                    ordered = _in_order(list(entries))
                self._judge(folder, ordered, inside)
            finally:
                os.close(descriptor)
        except OSError as error:
            inside.append(_failed(folder, error))
        return inside

    def _judge(
        self, folder: str, entries: list[os.DirEntry[str]], inside: list[Found | str]
    ) -> None:
        # "." stands for nothing in a path, as `Path` has it.
        before = "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118
        for entry in entries:
            name = entry.name
            path = before + name
            try:
                # Nearly all there is, told apart by few questions, for there may be millions.
                plain = entry.is_file(follow_symlinks=False) and name[0] != "."
                if plain and name[name.rfind(".") :].lower() in SUFFIXES:
                    status = entry.stat()
                    inside.append(Found(path, status.st_size, status.st_mtime_ns))
                    continue
                why = self._why_not(entry, path)
                if why:
                    self.left_out(Path(path), why)
                else:
                    inside.append(path if entry.is_dir() else _found(path, entry.stat()))
            except OSError as error:
                inside.append(_failed(path, error))

    def _why_not(self, entry: os.DirEntry[str], path: str) -> str | None:
        if entry.name.startswith(".") and not self.search.hidden:
            return "hidden"
        if entry.is_symlink():
            if not self.search.follow_symlinks:
                return "symbolic link"
            entry.stat()  # raises where the link leads nowhere, unlike the questions below
        if entry.is_dir():
            return None if self.search.recursive else "in a subfolder"
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix in SUFFIXES:
            return None
        if is_archive(entry.name):
            return None if self.search.archives else "archive"
        if suffix in RAW_SUFFIXES:
            return "camera raw"
        if not entry.is_file():
            return "not a regular file"
        return None if is_image(_head(path)) else "no image"


def look_at(path: str) -> Found:
    """Look at one file: what is there, or why it can't be told."""
    try:
        return _found(path, os.stat(path))  # noqa: PTH116
    except OSError as error:
        return _failed(path, error)


def _in_order(entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Sort by the names' bytes, which is how text is sorted anyway while it is ASCII."""
    name = operator.attrgetter("name")
    if all(map(str.isascii, map(name, entries))):
        return sorted(entries, key=name)
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _found(path: str, status: os.stat_result) -> Found:
    if S_ISREG(status.st_mode):
        return Found(path, status.st_size, status.st_mtime_ns)
    failure = Failure(Path(path), Stage.READ, Reason.NOT_A_FILE, "not a regular file")
    return Found(path, failure=failure)


def _head(path: str) -> bytes:
    # Without O_NONBLOCK a pipe that has just taken the file's place would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def _failed(path: str, error: OSError) -> Found:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    reason = Reason.VANISHED if gone else Reason.UNREADABLE
    detail = error.strerror or type(error).__name__
    return Found(path, failure=Failure(Path(path), Stage.READ, reason, detail))
