"""Walk of folders: the photos in them, in the same order on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TypeVar

from batch.discovery.name_stack import NameStack
from batch.file_types import (
    HEAD_BYTES,
    RAW_SUFFIXES,
    SIDECAR,
    SIDECAR_SUFFIX,
    SUFFIXES,
    sniff_skip_reason,
)
from batch.files.regular_file import NotRegularFile, open_regular
from batch.found import FoundFile, make_failed, make_regular
from batch.location import is_archive, is_url, parse_location, split_member
from batch.options import OnSkip, Search
from batch.os_errors import classify_read_error, describe_os_error
from batch.records import Reason
from batch.stopping import StopCheck, never_stop

Item = TypeVar("Item")

CHECK_EVERY = 64  # entries or files between two calls of `check`
# Reasons to skip an entry.
FOLDER_IN_LIST = "folder in a list"  # unless it ends in a slash
SYMBOLIC_LINK = "symbolic link"
NOT_REGULAR = "not a regular file"
# Kinds of entries, stored after a name and a NUL. Regular files have none.
_FOLDER, _LINK, _OTHER = "folder", "link", "other"


def check_every(number: int, check: StopCheck, items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on, and call ``check`` before every ``number`` of them."""
    for count, item in enumerate(items):
        if count % number == 0:
            check()
        yield item


@dataclass(frozen=True)
class FolderWalker:
    """Walks folders. Paths are text here, as `Path` objects would double the time.

    Attributes:
        search: how folders are searched.
        on_skip: called with every entry that is skipped and the reason.
        seen: files and folders reached before; None if none can be reached twice.
        check: called every ``CHECK_EVERY`` entries; raises an exception to end the walk.
        base: the folder that exclude patterns are relative to; None for each path itself.
    """

    search: Search
    on_skip: OnSkip
    seen: VisitedPaths | None
    check: StopCheck = never_stop
    base: str | None = None

    def walk(self, starts: Iterable[str], enters: bool = True) -> Iterator[FoundFile]:
        """Yield the files that paths name, and the photos in folders, ordered by names' bytes.

        Args:
            starts: files and folders.
            enters: walk the folders; otherwise they are skipped.
        """
        if self.seen is None:
            return self._walk_starts(starts, enters)
        new = self.seen.is_new
        return (found for found in self._walk_starts(starts, enters) if new(found.path))

    def _walk_starts(self, starts: Iterable[str], enters: bool) -> Iterator[FoundFile]:
        for path in (os.fspath(Path(start)) for start in starts):
            self.check()
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                yield _to_failed(path, error)
                continue
            if S_ISDIR(status.st_mode) and not enters:
                self.on_skip(Path(path), FOLDER_IN_LIST)
            elif S_ISDIR(status.st_mode):
                yield from self._walk_folder(path)
            else:
                yield _to_found(path, status)

    def _walk_folder(self, top: str) -> Iterator[FoundFile]:
        start = len(folder_prefix(top if self.base is None else self.base))
        with closing(NameStack()) as names:
            levels = [self._list_folder(top, start, names)]  # not recursive: folders may be deep
            while levels:
                self.check()
                for item in levels[-1]:
                    if isinstance(item, str):
                        levels.append(self._list_folder(item, start, names))
                        break
                    yield item
                else:
                    levels.pop()

    def _list_folder(self, folder: str, start: int, names: NameStack) -> Iterator[FoundFile | str]:
        """Yield the files of a folder, and the paths of the folders in it, in order.

        The folder is open only while a batch of its names is looked at, so that a walk of any depth
        needs few descriptors.

        Args:
            folder: its path.
            start: the offset in a path from which exclude patterns see it.
            names: where the names are sorted.
        """
        before = folder_prefix(folder)
        rest: list[str] = []  # a batch of names, the next one last
        is_listed = is_last = False
        while rest or not is_last:
            folders: list[str] = []
            try:
                if not is_listed and self.seen is not None and not self.seen.is_new_folder(folder):
                    return
                # Relative to a descriptor, so that the system does not resolve each path.
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if not is_listed:
                        names.push_folder(self._read_names(descriptor))
                        is_listed = True
                    if not rest:
                        rest = names.take(CHECK_EVERY)[::-1]
                        is_last = len(rest) < CHECK_EVERY
                    files, folders = self._take_entries(before, start, rest, descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                files, rest, is_last = [_to_failed(folder, error)], [], True
            yield from files
            files.clear()  # frees memory in every folder above the current one
            for name in folders:
                yield before + name
        if is_listed:
            names.pop()

    def _read_names(self, descriptor: int) -> Iterator[list[str]]:
        """Yield the names in a folder in batches, each with its kind: see ``_encode_entry``."""
        with os.scandir(descriptor) as entries:
            while batch := list(islice(entries, CHECK_EVERY)):
                self.check()
                yield list(map(_encode_entry, batch))

    def _take_entries(
        self, before: str, start: int, rest: list[str], descriptor: int
    ) -> tuple[list[FoundFile], list[str]]:
        """Take entries from the end of ``rest``, up to a file that follows a folder.

        Returns:
            The files that were found, and the names of the folders.
        """
        self.check()
        files: list[FoundFile] = []
        folders: list[str] = []
        exclusion = self.search.exclusion
        match_file = exclusion.match_file if exclusion.has_file_rules else None
        while rest:
            name, _, kind = rest[-1].partition("\0")
            if folders and kind != _FOLDER:
                break
            rest.pop()
            path = before + name
            try:
                # The fast path for nearly all of possibly millions of entries.
                plain = not kind and name[0] != "."
                if plain and name[name.rfind(".") :].lower() in SUFFIXES:
                    reason = match_file(path[start:]) if match_file else None
                else:
                    reason = self._find_skip_reason(name, kind, path, start, descriptor)
                if reason:
                    self.on_skip(Path(path), reason)
                elif kind == _FOLDER:
                    folders.append(name)
                else:
                    is_link = kind == _LINK
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=is_link)
                    if is_link and S_ISDIR(status.st_mode):
                        folders.append(name)
                    else:
                        files.append(_to_found(path, status))
            except OSError as error:
                files.append(_to_failed(path, error))
        return files, folders

    def _find_skip_reason(
        self, name: str, kind: str, path: str, start: int, descriptor: int
    ) -> str | None:
        follows = kind == _LINK and self.search.follow_symlinks
        is_folder = kind == _FOLDER or (follows and _is_folder(name, descriptor))
        exclusion = self.search.exclusion
        reason = (exclusion.match_folder if is_folder else exclusion.match_file)(path[start:])
        if reason:
            return reason
        if name.startswith(".") and not self.search.hidden:
            return "hidden"
        if kind == _LINK and not follows:
            return SYMBOLIC_LINK
        if is_folder:
            return None if self.search.recursive else "in a subfolder"
        # `stat` raises for a dangling link.
        if kind == _OTHER or (follows and not S_ISREG(os.stat(name, dir_fd=descriptor).st_mode)):
            return NOT_REGULAR
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if suffix in SUFFIXES:
            return None
        if is_archive(name):
            return None if self.search.archives else "archive"
        if suffix in RAW_SUFFIXES:
            return None if self.search.raws else "camera raw"
        if suffix == SIDECAR_SUFFIX:
            return SIDECAR
        try:
            reason = sniff_skip_reason(read_head(path))
        except NotRegularFile:  # replaced since it was listed
            return NOT_REGULAR
        return None if reason == "camera raw" and self.search.raws else reason


def _encode_entry(entry: os.DirEntry[str]) -> str:
    """Return an entry's name, followed by NUL and its kind unless it is a regular file."""
    try:
        if entry.is_file(follow_symlinks=False):
            return entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        kind = _FOLDER if is_folder else _LINK if entry.is_symlink() else _OTHER
    except OSError:  # raised again when the entry is looked at
        return entry.name
    return f"{entry.name}\0{kind}"


def _is_folder(name: str, descriptor: int) -> bool:
    try:
        return S_ISDIR(os.stat(name, dir_fd=descriptor).st_mode)
    except FileNotFoundError:
        return False


def folder_prefix(folder: str) -> str:
    """Return the prefix of a folder's entries in paths, empty for ``.`` as with `Path`."""
    return "" if folder == "." else os.path.join(folder, "")  # noqa: PTH118


def stat_file(path: str) -> FoundFile:
    """Look up one file: its size and times, or a failure."""
    try:
        return _to_found(path, os.stat(path))  # noqa: PTH116
    except OSError as error:
        return _to_failed(path, error)


def _to_found(path: str, status: os.stat_result) -> FoundFile:
    if S_ISREG(status.st_mode):
        return make_regular(path, status)
    return make_failed(path, Reason.NOT_A_FILE, NOT_REGULAR)


def read_head(path: str) -> bytes:
    """Read the first bytes of a file, which identify its type.

    Raises:
        OSError: it is not a regular file, or the system refuses.
    """
    with open_regular(path) as file:
        return file.read(HEAD_BYTES)


def _to_failed(path: str, error: OSError) -> FoundFile:
    return make_failed(path, classify_read_error(error), describe_os_error(error, path))


@dataclass
class VisitedPaths:
    """Files and folders reached so far, so that overlapping inputs and links yield each file once.

    Attributes:
        files: resolved paths and URLs of files.
        folders: device and inode of folders.
        parent: the last parent folder and its resolved path.
    """

    files: set[str] = field(default_factory=set)
    folders: set[tuple[int, int]] = field(default_factory=set)
    parent: tuple[str, str] | None = None

    def is_new(self, path: str) -> bool:
        """Record a file, and return whether this is the first path or URL that leads to it."""
        known = len(self.files)
        self.files.add(self._resolve_path(path))
        return len(self.files) > known

    def forget(self, path: str) -> None:
        """Forget a file, so that it counts as new again."""
        self.files.discard(self._resolve_path(path))

    def _resolve_path(self, path: str) -> str:
        member = split_member(path)
        if member:
            # No path contains NUL.
            return f"{self._resolve_path(os.fspath(parse_location(member[0])))}\0{member[1]}"
        if is_url(path):
            return path
        # `realpath` makes a system call per part of a path, so a parent is resolved once.
        parent, name = os.path.split(path)
        if self.parent is None or self.parent[0] != parent:
            self.parent = parent, _resolve_links(parent)
        return _resolve_links(path) if os.path.islink(path) else f"{self.parent[1]}/{name}"  # noqa: PTH114

    def is_new_folder(self, path: str) -> bool:
        """Record a folder, and return whether this is the first path that leads to it."""
        status = os.stat(path)  # noqa: PTH116
        known = len(self.folders)
        self.folders.add((status.st_dev, status.st_ino))
        return len(self.folders) > known


def _resolve_links(path: str) -> str:
    """Resolve all links of a path; return it unchanged if the system refuses."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
