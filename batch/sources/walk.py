"""How folders are walked: what in them is a photo, in an order that is the same everywhere."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from posixpath import splitext
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple, TypeGuard, TypeVar

from batch.location import Location, is_archive, location_of
from batch.os_errors import describe
from batch.records import Failure, Reason, Stage
from batch.regular_file import NotRegular, change_of, open_regular
from batch.sources.exclude import Exclusion, exclusion_of
from batch.sources.file_types import HEAD_BYTES, LEFT_OUT, RAW_SUFFIXES, SUFFIXES, why_left_out
from batch.sources.seen import Seen
from batch.stopping import Check, never_stop

Item = TypeVar("Item")
LeftOut = Callable[[Location, str], None]

# The longest path of a file, far beyond what systems (4 KiB) and stores (1 KiB) take. Written with
# escapes it is still a line that the readers of reports take.
MAX_PATH_BYTES = 32 * 1024
_SHORT = MAX_PATH_BYTES // 4  # characters, of which none takes more than four bytes
# What is kept of a longer one, before its digest.
_PATH_START = 1024
MAX_ETAG = 1024  # characters
# The sizes and times that the journal and Parquet can hold: 64 bits with a sign.
_LAST = 2**63 - 1
# Entries of a folder, or files, between two looks at whether the run is to end.
CHECK_EVERY = 64
# Why a folder in a list is left out that does not end in a slash.
LISTED_FOLDER = "folder in a list"
# Why a file is left out that was changed before ``Search.newer_than``.
OLDER = "older"
# Why an entry of a folder is left out that is no file.
SYMBOLIC_LINK = "symbolic link"
NOT_REGULAR = "not a regular file"


@dataclass(frozen=True)
class Search:
    """How folders are searched.

    Attributes:
        recursive: look into sub-folders.
        hidden: take names with a leading dot too.
        follow_symlinks: take what symbolic links inside a folder lead to.
        archives: take what is in the archives of a folder.
        raws: take camera raws.
        exclude: patterns with the syntax of .gitignore, relative to each input; folders and files
            that match are left out, as are the well-known folders without photos.
        newer_than: leave out files that were last changed before this time, local unless it has a
            zone; None for all.

    Raises:
        UsageError: a pattern is wrong.
    """

    recursive: bool = True
    hidden: bool = False
    follow_symlinks: bool = False
    archives: bool = False
    raws: bool = False
    exclude: tuple[str, ...] = ()
    newer_than: datetime | None = None

    def __post_init__(self) -> None:
        patterns = (self.exclude,) if isinstance(self.exclude, str) else tuple(self.exclude)
        object.__setattr__(self, "exclude", patterns)
        exclusion_of(patterns)  # which refuses wrong ones

    @property
    def exclusion(self) -> Exclusion:
        """The patterns, compiled."""
        return exclusion_of(self.exclude)

    def leave_out_older(self, files: Iterable[Found], left_out: LeftOut) -> Iterable[Found]:
        """Leave out files that were last changed before ``newer_than``; of some it is unknown."""
        if self.newer_than is None:
            return files
        return self._newer(files, nanoseconds(self.newer_than) or 0, left_out)

    def _newer(self, files: Iterable[Found], earliest: int, left_out: LeftOut) -> Iterator[Found]:
        for file in files:
            if file.mtime_ns is None or file.mtime_ns >= earliest:
                yield file
            else:
                left_out(file.location, OLDER)

    def why_not(self, inside: str, above: str = "") -> str | None:
        """Say why a file in a store or archive is left out, by its path in there.

        Exclude patterns see its path with ``above`` in front.
        """
        # Archives that were made of "." have it in front of all names.
        parts = [part for part in inside.split("/") if part not in ("", ".", "..")] or [""]
        why = self.exclusion.why_inside(above + "/".join(parts))
        if why:
            return why
        if not self.hidden and any(part.startswith(".") for part in parts):
            return "hidden"
        if not self.recursive and len(parts) > 1:
            return "in a subfolder"
        suffix = splitext(parts[-1])[1].lower()
        if suffix in SUFFIXES or (self.archives and is_archive(inside)):
            return None
        if suffix in RAW_SUFFIXES and self.raws:
            return None
        return "archive" if is_archive(inside) else LEFT_OUT.get(suffix, "no image")


class Found(NamedTuple):
    """A file that was found, with its size in bytes and time of change (nanoseconds).

    ``path`` may be a URL's text, and ``etag`` what an object store calls this state of the object.
    ``ctime_ns`` and ``inode`` are those of a file on a file system: see ``change_of``. Of a file
    that can't be looked at there is a ``failure`` instead. ``position`` is its number among all
    that were found, from 1 on, where others of them are left to other runs.
    """

    path: str
    size: int | None = None
    mtime_ns: int | None = None
    failure: Failure | None = None
    etag: str | None = None
    position: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None

    @property
    def location(self) -> Location:
        """Where the file lies; a URL knows what the listing said of it."""
        place = location_of(self.path)
        if isinstance(place, Path):
            return place
        return replace(place, size=self.size, mtime_ns=self.mtime_ns, etag=self.etag)


def find(path: str, size: object = None, mtime_ns: object = None, etag: object = None) -> Found:
    """Make the record of a file that was found, of whatever its source says about it.

    Archives, servers, inventories and file systems say what they like. What is no size (a whole
    number from 0 to 2**63 - 1) is unknown, and so is an ETag that is no printable text of at most
    ``MAX_ETAG`` characters; a time is brought into 64 bits. A path of more than
    ``MAX_PATH_BYTES`` is a failure, whose path is cut.
    """
    # No character takes more than four bytes.
    if len(path) * 4 > MAX_PATH_BYTES and cut_path(path) != path:
        return fail(path, Reason.UNREADABLE, "")
    if not is_size(size):
        size = None
    mtime_ns = stored_time(mtime_ns if type(mtime_ns) is int else None)
    if not (isinstance(etag, str) and len(etag) <= MAX_ETAG and etag.isprintable()):
        etag = None
    return Found(path, size, mtime_ns, None, etag)


def fail(path: str, reason: Reason, detail: str) -> Found:
    """Make the record of a file that can't be looked at; a path that is too long is cut."""
    cut = cut_path(path)
    if cut != path:
        reason, detail = Reason.UNREADABLE, f"its path has more than {MAX_PATH_BYTES:,} bytes"
    failure = Failure(location_of(cut), Stage.READ, reason, detail)
    return Found(cut, failure=failure)


def cut_path(path: str) -> str:
    """Cut a path of more than ``MAX_PATH_BYTES``; its SHA-256 and suffix stand for the rest.

    So no two paths are cut to the same one, and what is an image by its name still is.
    """
    data = os.fsencode(path)
    if len(data) <= MAX_PATH_BYTES:
        return path
    suffix = splitext(path)[1]
    known = suffix if suffix.lower() in SUFFIXES else ""
    return os.fsdecode(data[:_PATH_START]) + f"...{sha256(data).hexdigest()}{known}"


def stored_time(mtime_ns: int | None) -> int | None:
    """Bring a time into 64 bits of nanoseconds, which end in 2262: file systems go further."""
    return None if mtime_ns is None else max(-_LAST - 1, min(mtime_ns, _LAST))


def is_size(size: object) -> TypeGuard[int]:
    """Tell whether something is a file's size: a whole number that fits into 63 bits."""
    return type(size) is int and 0 <= size <= _LAST


def nanoseconds(time: object) -> int | None:
    """Turn seconds since 1970, or a datetime, into nanoseconds; None where it is no time."""
    try:
        seconds = time.timestamp() if isinstance(time, datetime) else time
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            return int(seconds * 1_000_000_000)
    except (ValueError, OverflowError, OSError):  # no number, infinity, and years without a stamp
        pass
    return None


def every(number: int, check: Check, items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on, and call ``check`` before every so many of them."""
    for count, item in enumerate(items):
        if count % number == 0:
            check()
        yield item


@dataclass(frozen=True)
class Explorer:
    """Walks folders. Paths are text here: `Path` objects would take half of the time.

    Patterns are relative to ``base``, the folder that the paths lie in; None for each path itself.
    """

    search: Search
    left_out: LeftOut
    seen: Seen | None
    check: Check = never_stop
    base: str | None = None

    def explore(self, starts: Iterable[str], enters: bool = True) -> Iterator[Found]:
        """Give the files that paths stand for, those inside of folders in their names' order.

        Folders are left out unless it ``enters`` them.
        """
        if self.seen is None:
            return self._reach(starts, enters)
        new = self.seen.is_new
        return (found for found in self._reach(starts, enters) if new(found.path))

    def _reach(self, starts: Iterable[str], enters: bool) -> Iterator[Found]:
        for path in (os.fspath(Path(start)) for start in starts):
            self.check()
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                yield _failed(path, error)
                continue
            if S_ISDIR(status.st_mode) and not enters:
                self.left_out(Path(path), LISTED_FOLDER)
            elif S_ISDIR(status.st_mode):
                yield from self._walk(path)
            else:
                yield _found(path, status)

    def _walk(self, top: str) -> Iterator[Found]:
        start = len(before_names(top if self.base is None else self.base))
        levels = [iter(self._inside(top, start))]  # a stack: folders nest deeper than Python calls
        while levels:
            self.check()
            for item in levels[-1]:
                if isinstance(item, str):
                    levels.append(iter(self._inside(item, start)))
                    break
                yield item
            else:
                levels.pop()

    def _inside(self, folder: str, start: int) -> list[Found | str]:
        """List a folder's files, and the paths of the folders in it, in order.

        Patterns are relative to what comes before ``start`` in a path.
        """
        inside: list[Found | str] = []
        try:
            if self.seen is not None and not self.seen.is_new_folder(folder):
                return []
            # By its descriptor, which spares the system the way to each file.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with os.scandir(descriptor) as entries:
                    ordered = _in_order(list(every(CHECK_EVERY, self.check, entries)))
                self._judge(folder, start, ordered, inside)
            finally:
                os.close(descriptor)
        except OSError as error:
            inside.append(_failed(folder, error))
        return inside

    def _judge(
        self,
        folder: str,
        start: int,
        entries: list[os.DirEntry[str]],
        inside: list[Found | str],
    ) -> None:
        before, exclusion = before_names(folder), self.search.exclusion
        why_file = exclusion.why_file if exclusion.has_file_rules else None
        for entry in every(CHECK_EVERY, self.check, entries):
            name = entry.name
            path = before + name
            try:
                # Nearly all there is, told apart by few questions, for there may be millions.
                plain = entry.is_file(follow_symlinks=False) and name[0] != "."
                if plain and name[name.rfind(".") :].lower() in SUFFIXES:
                    why = why_file(path[start:]) if why_file else None
                    if why is None:
                        inside.append(_on_disk(path, entry.stat()))
                        continue
                else:
                    why = self._why_not(entry, path, start)
                if why:
                    self.left_out(Path(path), why)
                else:
                    inside.append(path if entry.is_dir() else _found(path, entry.stat()))
            except OSError as error:
                inside.append(_failed(path, error))

    def _why_not(self, entry: os.DirEntry[str], path: str, start: int) -> str | None:
        is_folder = entry.is_dir(follow_symlinks=self.search.follow_symlinks)
        exclusion = self.search.exclusion
        why = (exclusion.why_folder if is_folder else exclusion.why_file)(path[start:])
        if why:
            return why
        if entry.name.startswith(".") and not self.search.hidden:
            return "hidden"
        if entry.is_symlink():
            if not self.search.follow_symlinks:
                return SYMBOLIC_LINK
            entry.stat()  # raises where the link leads nowhere, unlike the questions below
        if entry.is_dir():
            return None if self.search.recursive else "in a subfolder"
        if not entry.is_file():
            return NOT_REGULAR
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix in SUFFIXES:
            return None
        if is_archive(entry.name):
            return None if self.search.archives else "archive"
        if suffix in RAW_SUFFIXES:
            return None if self.search.raws else "camera raw"
        try:
            why = why_left_out(read_head(path))
        except NotRegular:  # by now
            return NOT_REGULAR
        return None if why == "camera raw" and self.search.raws else why


def before_names(folder: str) -> str:
    """Give what stands before the names of a folder's entries; ``.`` is nothing, as in `Path`."""
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


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
        return _on_disk(path, status)
    return fail(path, Reason.NOT_A_FILE, NOT_REGULAR)


def _on_disk(path: str, status: os.stat_result) -> Found:
    size, mtime_ns, ctime_ns = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    # Nearly all are told by a few comparisons, for there may be millions.
    is_short = len(path) < _SHORT and 0 <= size <= _LAST and status.st_ino <= _LAST
    if is_short and 0 <= mtime_ns <= _LAST and 0 <= ctime_ns <= _LAST:
        return Found(path, size, mtime_ns, None, None, None, ctime_ns, status.st_ino)
    found = find(path, size, mtime_ns)
    if found.failure:
        return found
    return Found(path, found.size, found.mtime_ns, None, None, None, *change_of(status))


def read_head(path: str) -> bytes:
    """Read the first bytes of a file, which tell an image.

    Raises:
        OSError: it is no regular file, or the system refuses.
    """
    with open_regular(path) as file:
        return file.read(HEAD_BYTES)


def _failed(path: str, error: OSError) -> Found:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    reason = Reason.VANISHED if gone else Reason.UNREADABLE
    return fail(path, reason, describe(error, path))
