"""How folders are walked: what in them is a photo, in an order that is the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import islice
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
from batch.sources.name_stack import NameStack
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
# What an entry of a folder is, behind its name and a NUL; nothing for a regular file.
_FOLDER, _LINK, _OTHER = "folder", "link", "other"


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
    if _is_too_long(path):
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


def _is_too_long(path: str) -> bool:
    # No character takes more than four bytes.
    return len(path) * 4 > MAX_PATH_BYTES and cut_path(path) != path


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
        with closing(NameStack()) as names:
            levels = [self._inside(top, start, names)]  # folders nest deeper than Python calls
            while levels:
                self.check()
                for item in levels[-1]:
                    if isinstance(item, str):
                        levels.append(self._inside(item, start, names))
                        break
                    yield item
                else:
                    levels.pop()

    def _inside(self, folder: str, start: int, names: NameStack) -> Iterator[Found | str]:
        """Give a folder's files, and the paths of the folders in it, in order.

        Patterns are relative to what comes before ``start`` in a path. A folder is open only while
        some of its ``names`` are looked at, so that few descriptors do for any depth.
        """
        before = before_names(folder)
        rest: list[str] = []  # the last one comes first
        is_listed = is_last = False
        while rest or not is_last:
            folders: list[str] = []
            try:
                if not is_listed and self.seen is not None and not self.seen.is_new_folder(folder):
                    return
                # By its descriptor, which spares the system the way to each file.
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if not is_listed:
                        names.push(self._list(descriptor))
                        is_listed = True
                    if not rest:
                        rest = names.take(CHECK_EVERY)[::-1]
                        is_last = len(rest) < CHECK_EVERY
                    files, folders = self._judge(before, start, rest, descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                files, rest, is_last = [_failed(folder, error)], [], True
            yield from files
            files.clear()  # as a folder may be deep, and so are those around it
            for name in folders:
                yield before + name
        if is_listed:
            names.pop()

    def _list(self, descriptor: int) -> Iterator[list[str]]:
        """Give the names in a folder, some at a time, each with its kind: see ``_name``."""
        with os.scandir(descriptor) as entries:
            while some := list(islice(entries, CHECK_EVERY)):
                self.check()
                yield list(map(_name, some))

    def _judge(
        self, before: str, start: int, rest: list[str], descriptor: int
    ) -> tuple[list[Found], list[str]]:
        """Take entries of an open folder from the ``rest``, up to a file that follows a folder.

        Gives the files and the names of the folders; ``before`` is what precedes them in a path.
        """
        self.check()
        files: list[Found] = []
        folders: list[str] = []
        exclusion = self.search.exclusion
        why_file = exclusion.why_file if exclusion.has_file_rules else None
        while rest:
            name, _, kind = rest[-1].partition("\0")
            if folders and kind != _FOLDER:
                break
            rest.pop()
            path = before + name
            try:
                # Nearly all there is, told apart by few questions, for there may be millions.
                plain = not kind and name[0] != "."
                if plain and name[name.rfind(".") :].lower() in SUFFIXES:
                    why = why_file(path[start:]) if why_file else None
                else:
                    why = self._why_not(name, kind, path, start, descriptor)
                if why:
                    self.left_out(Path(path), why)
                elif kind == _FOLDER:
                    folders.append(name)
                else:
                    is_link = kind == _LINK
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=is_link)
                    if is_link and S_ISDIR(status.st_mode):
                        folders.append(name)
                    else:
                        files.append(_found(path, status))
            except OSError as error:
                files.append(_failed(path, error))
        return files, folders

    def _why_not(self, name: str, kind: str, path: str, start: int, descriptor: int) -> str | None:
        follows = kind == _LINK and self.search.follow_symlinks
        is_folder = kind == _FOLDER or (follows and _is_folder(name, descriptor))
        exclusion = self.search.exclusion
        why = (exclusion.why_folder if is_folder else exclusion.why_file)(path[start:])
        if why:
            return why
        if name.startswith(".") and not self.search.hidden:
            return "hidden"
        if kind == _LINK and not follows:
            return SYMBOLIC_LINK
        if is_folder:
            return None if self.search.recursive else "in a subfolder"
        # Which raises where a link leads nowhere.
        if kind == _OTHER or (follows and not S_ISREG(os.stat(name, dir_fd=descriptor).st_mode)):
            return NOT_REGULAR
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if suffix in SUFFIXES:
            return None
        if is_archive(name):
            return None if self.search.archives else "archive"
        if suffix in RAW_SUFFIXES:
            return None if self.search.raws else "camera raw"
        try:
            why = why_left_out(read_head(path))
        except NotRegular:  # by now
            return NOT_REGULAR
        return None if why == "camera raw" and self.search.raws else why


def _name(entry: os.DirEntry[str]) -> str:
    """Give an entry's name and, unless it is a regular file, NUL and its kind behind it."""
    try:
        if entry.is_file(follow_symlinks=False):
            return entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        kind = _FOLDER if is_folder else _LINK if entry.is_symlink() else _OTHER
    except OSError:  # which comes again where it is looked at
        return entry.name
    return f"{entry.name}\0{kind}"


def _is_folder(name: str, descriptor: int) -> bool:
    try:
        return S_ISDIR(os.stat(name, dir_fd=descriptor).st_mode)
    except FileNotFoundError:
        return False


def before_names(folder: str) -> str:
    """Give what stands before the names of a folder's entries; ``.`` is nothing, as in `Path`."""
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


def look_at(path: str) -> Found:
    """Look at one file: what is there, or why it can't be told."""
    try:
        return _found(path, os.stat(path))  # noqa: PTH116
    except OSError as error:
        return _failed(path, error)


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
    if _is_too_long(path):
        return fail(path, Reason.UNREADABLE, "")
    return Found(path, size, stored_time(mtime_ns), None, None, None, *change_of(status))


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
