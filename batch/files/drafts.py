"""Drafts: temporary files and folders, and the removal of those that killed processes left.

A draft is removed only if it is proven to be this program's and abandoned:

- its name has 32 random hexadecimal digits;
- its owner is that of the files which this process creates in the same folder;
- it is a regular file, or a folder with a marker that repeats the folder's name; never a link;
- its lock (``flock``) is free: a process holds it while it uses the draft, and loses it when it
  dies. Process ids prove nothing, as two containers that share a disk may have the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from batch.files.regular_file import is_current, open_folder, open_lockable, try_lock

# Characters of a file's name in the name of its draft: at most 200 bytes. With the suffix of
# 49, the name stays below the 255 bytes that file systems allow.
STEM_CHARS = 50
TOKEN_BYTES = 16
DRAFT_SUFFIX_PATTERN = rf"\.batch-label-[0-9a-f]{{{2 * TOKEN_BYTES}}}\.tmp"
MARKER = "made-by-batch-label"  # file that proves a folder to be a draft
CONTENT = "content"  # folder in the draft folder, with the files of the draft

# Errors of file systems without locks, where no draft can be proven to be abandoned.
_NO_LOCK_ERRNOS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP))


def draft_stem(target: Path) -> str:
    """Return the start of the names of a file's drafts, which are hidden files beside it."""
    return f".{target.name[:STEM_CHARS]}"


def draft_pattern(stem: str) -> re.Pattern[str]:
    """Return the pattern of the names that ``make_draft_name`` makes."""
    return re.compile(re.escape(stem) + DRAFT_SUFFIX_PATTERN)


def make_draft_name(stem: str) -> str:
    """Make a random name for a draft, which can't be guessed."""
    return f"{stem}.batch-label-{secrets.token_hex(TOKEN_BYTES)}.tmp"


def open_draft(folder: Path, stem: str) -> tuple[Path, BinaryIO]:
    """Create a draft file, locked while its stream is open, and return its path and stream.

    Raises:
        OSError: the file can't be created.
    """
    while True:
        path = folder / make_draft_name(stem)
        # Not with tempfile, whose files only their owner may read.
        stream = path.open("xb")
        try:
            _lock(stream.fileno())
            # Before it was locked, another process may have removed it as abandoned.
            if is_current(path, stream.fileno()):
                return path, stream
        except BaseException:
            with suppress(OSError):
                path.unlink()
            stream.close()
            raise
        stream.close()


def remove_abandoned(folder: Path, names: re.Pattern[str]) -> None:
    """Remove the abandoned draft files whose names match; what can't be removed stays."""
    with suppress(OSError):
        found = _find_drafts(folder, names)
        owner = find_owner(folder) if found else -1
        for path in found:
            with suppress(OSError):
                _remove_if_abandoned(path, owner)


class DraftFolder:
    """A private folder with a locked marker and a folder for content.

    The lock is on the marker, a file, as NFS does not lock folders. The marker gets its text after
    it is locked, and a folder without that text is never removed. So no other process takes a new
    folder for an abandoned one. A process killed in between leaves an empty folder, which stays.

    Attributes:
        path: the folder.
        content: the folder in it for the files of the draft.
    """

    def __init__(self, path: Path, folder: int, marker: int) -> None:
        self.path = path
        self.content = path / CONTENT
        # Descriptors, so that the folder that was locked is the one that is cleared.
        self._folder = folder
        self._marker = marker
        self._is_open = True

    @classmethod
    def make(cls, parent: Path, stem: str) -> DraftFolder:
        """Create a folder.

        Raises:
            OSError: it can't be created; nothing is left behind.
        """
        path = parent / make_draft_name(stem)
        path.mkdir(mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptors: list[int] = []
        try:
            descriptors.append(open_folder(path))
            descriptors.append(os.open(MARKER, flags, 0o600, dir_fd=descriptors[0]))
            folder, marker = descriptors
            _lock(marker)
            os.mkdir(CONTENT, dir_fd=folder)
            os.write(marker, _marker_text(path.name))
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(path, ignore_errors=True)
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return cls(path, folder, marker)

    @classmethod
    def take_over_abandoned(cls, parent: Path, stem: str) -> Iterator[DraftFolder]:
        """Lock and yield the abandoned folders, one by one."""
        with suppress(OSError):
            found = _find_drafts(parent, draft_pattern(stem))
            owner = find_owner(parent) if found else -1
            for path in found:
                folder = cls._take_over(path, owner)
                if folder:
                    yield folder

    @classmethod
    def _take_over(cls, path: Path, owner: int) -> DraftFolder | None:
        descriptors: list[int] = []
        with suppress(OSError):  # not a folder, or one without a marker
            descriptors.append(open_folder(path))
            descriptors.append(open_lockable(MARKER, dir_fd=descriptors[0]))
            folder, marker = descriptors
            status, text = os.fstat(marker), _marker_text(path.name)
            if (
                os.fstat(folder).st_uid == status.st_uid == owner
                and os.read(marker, len(text) + 1) == text
                and try_lock(marker)
                and os.fstat(marker).st_nlink  # another process has not removed it meanwhile
            ):
                return cls(path, folder, marker)
        for descriptor in descriptors:
            os.close(descriptor)
        return None

    def remove(self, clear: Callable[[int], None]) -> None:
        """Clear the folder and remove it if only the marker is left; further calls do nothing.

        Args:
            clear: removes the content of the folder, given by its descriptor. What it can't
                remove stays for the next process.
        """
        if not self._is_open:
            return
        with suppress(OSError):
            clear(self._folder)
            if list_names(self._folder) == [MARKER]:
                os.unlink(MARKER, dir_fd=self._folder)
                self.path.rmdir()  # if it was renamed meanwhile, this removes only an empty folder
        self._is_open = False
        os.close(self._marker)
        os.close(self._folder)


def list_names(folder: int) -> list[str]:
    """Return the names in a folder, given by its descriptor."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def remove_contents(folder: int) -> None:
    """Remove everything but the marker from a ``DraftFolder`` with this program's files only."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.name, ignore_errors=True, dir_fd=folder)
            elif entry.name != MARKER:
                os.unlink(entry.name, dir_fd=folder)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCK_ERRNOS:
            raise


def _marker_text(name: str) -> bytes:
    return os.fsencode(f"batch-label made {name} and removes it when no run uses it any more\n")


def _find_drafts(folder: Path, names: re.Pattern[str]) -> list[Path]:
    with os.scandir(folder) as entries:
        return [folder / entry.name for entry in entries if names.fullmatch(entry.name)]


def find_owner(folder: Path) -> int:
    """Return the owner of files that this process creates here; some file systems change it."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_uid


def _remove_if_abandoned(path: Path, owner: int) -> None:
    descriptor = open_lockable(path)  # may be read-only: it has the report's mode
    try:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == owner
        if is_ours and try_lock(descriptor) and is_current(path, descriptor):
            path.unlink()
    finally:
        os.close(descriptor)
