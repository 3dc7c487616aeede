"""Drafts: files and folders in the making, and the removal of those that killed processes left.

A draft is removed only if all of this proves that it is this program's and out of use:

- its name, which has 32 random hexadecimal digits;
- its owner, who is that of the files that this process makes in the same folder;
- its kind: a file, or a folder with a marker that repeats the folder's name; never a link;
- its lock (``flock``), which a process holds for as long as it works on the draft, and which ends
  with the process, however that dies. Numbers of processes prove nothing: two containers that
  share a disk may have the same.
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

# Characters of a file's name that its draft's name begins with. They have 200 bytes at most, so
# that the draft's name, which has 49 more, is within the 255 of file systems.
MAX_STEM_CHARS = 50
TOKEN_BYTES = 16
# The pattern of the rest.
DRAFT_SUFFIX_PATTERN = rf"\.batch-label-[0-9a-f]{{{2 * TOKEN_BYTES}}}\.tmp"
# What proves a folder to be a draft, and what is made in it.
MARKER = "made-by-batch-label"
CONTENT = "content"


def draft_stem(target: Path) -> str:
    """Give what the names of a file's drafts begin with; they are hidden beside the file."""
    return f".{target.name[:MAX_STEM_CHARS]}"


def make_draft_name(stem: str) -> str:
    """Make a name that nobody else would choose."""
    return f"{stem}.batch-label-{secrets.token_hex(TOKEN_BYTES)}.tmp"


def draft_pattern(stem: str) -> re.Pattern[str]:
    """Give the pattern of the names that ``make_draft_name`` makes."""
    return re.compile(re.escape(stem) + DRAFT_SUFFIX_PATTERN)


def open_draft(folder: Path, stem: str) -> tuple[Path, BinaryIO]:
    """Make a file that is locked for as long as its stream is open.

    Raises:
        OSError: the system refuses.
    """
    while True:
        path = folder / make_draft_name(stem)
        # Not by tempfile, which would keep the report from everyone but its owner.
        stream = path.open("xb")
        try:
            _lock(stream.fileno())
            # Before the lock was on it, another process may have taken it for an abandoned one.
            if is_current(path, stream.fileno()):
                return path, stream
        except BaseException:
            with suppress(OSError):
                path.unlink()  # made above
            stream.close()
            raise
        stream.close()


def remove_abandoned(folder: Path, names: re.Pattern[str]) -> None:
    """Remove the draft files with names of a pattern that nobody works on; see the module."""
    with suppress(OSError):  # what can't be removed is in nobody's way
        found = _find_drafts(folder, names)
        owner = _find_owner(folder) if found else -1
        for path in found:
            with suppress(OSError):
                _remove_if_abandoned(path, owner)


class DraftFolder:
    """A folder that only its owner can look into, with a locked marker and a folder ``content``.

    Whether a process works on it is told by the lock on the marker, a file: over NFS folders can't
    be locked. The marker gets its text once it is locked, and a folder without that text is
    nobody's to remove: so no other process takes one in the making for an abandoned one, and a
    process that is killed in that moment leaves an empty folder for good.
    """

    def __init__(self, path: Path, folder: int, marker: int) -> None:
        self.path = path
        self.content = path / CONTENT
        # Descriptors: what is looked at and removed is in the very folder that was locked.
        self._folder = folder
        self._marker = marker
        self._is_open = True

    @classmethod
    def make(cls, parent: Path, stem: str) -> DraftFolder:
        """Make a folder.

        Raises:
            OSError: the system refuses; nothing is left behind.
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
                shutil.rmtree(path, ignore_errors=True)  # made above
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return cls(path, folder, marker)

    @classmethod
    def take_over_abandoned(cls, parent: Path, stem: str) -> Iterator[DraftFolder]:
        """Take over the folders that nobody works on, one by one; see the module."""
        with suppress(OSError):
            found = _find_drafts(parent, draft_pattern(stem))
            owner = _find_owner(parent) if found else -1
            for path in found:
                folder = cls._take_over(path, owner)
                if folder:
                    yield folder

    @classmethod
    def _take_over(cls, path: Path, owner: int) -> DraftFolder | None:
        descriptors: list[int] = []
        with suppress(OSError):  # no folder, or without a marker
            descriptors.append(open_folder(path))
            descriptors.append(open_lockable(MARKER, dir_fd=descriptors[0]))
            folder, marker = descriptors
            status, text = os.fstat(marker), _marker_text(path.name)
            if (
                os.fstat(folder).st_uid == status.st_uid == owner
                and os.read(marker, len(text) + 1) == text
                and try_lock(marker)
                and os.fstat(marker).st_nlink  # else another process has removed it meanwhile
            ):
                return cls(path, folder, marker)
        for descriptor in descriptors:
            os.close(descriptor)
        return None

    def remove(self, clear: Callable[[int], None]) -> None:
        """Have the folder, by its descriptor, cleared; remove it if only the marker is left.

        It may be removed more than once, and what can't be removed stays for the next process.
        """
        if not self._is_open:
            return
        with suppress(OSError):
            clear(self._folder)
            if list_names(self._folder) == [MARKER]:
                os.unlink(MARKER, dir_fd=self._folder)
                self.path.rmdir()  # if the name is another's by now, it stays unless it is empty
        self._is_open = False
        os.close(self._marker)
        os.close(self._folder)


def list_names(folder: int) -> list[str]:
    """Name what is in an open folder."""
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def remove_contents(folder: int) -> None:
    """Clear a ``DraftFolder`` of all that is in it, for its process made all of that."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.name, ignore_errors=True, dir_fd=folder)
            elif entry.name != MARKER:
                os.unlink(entry.name, dir_fd=folder)


# What file systems without locks say of one. A draft there is never known to be abandoned.
_NO_LOCK_ERRNOS = frozenset((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP))


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


def _find_owner(folder: Path) -> int:
    """Give the owner of what this process makes in a folder; not all file systems keep users."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_uid


def _remove_if_abandoned(path: Path, owner: int) -> None:
    # A draft of a read-only report is read-only itself.
    descriptor = open_lockable(path)
    try:
        status = os.fstat(descriptor)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == owner
        if is_ours and try_lock(descriptor) and is_current(path, descriptor):
            path.unlink()
    finally:
        os.close(descriptor)
