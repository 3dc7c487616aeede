"""Publishing of files: written under a draft's name, then renamed when complete."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from batch.errors import OutputError
from batch.file_types import is_image
from batch.files.drafts import draft_pattern, draft_stem, open_draft, remove_abandoned
from batch.files.regular_file import open_regular, read_start
from batch.location import parse_location
from batch.os_errors import OUTPUT_REMEDY, translate_write_errors
from batch.path_text import path_text

STDOUT = "-"
# /dev/stdout is not opened: that would truncate the file to which the shell redirects.
_STDOUT_NAMES = (STDOUT, "/dev/stdout")

# Text chunk in the PNG files that this program draws
# (https://www.w3.org/TR/png-3/#11textinfo), and its bytes near the start of the file.
DRAWN_BY = ("Software", "batch-label explain")
DRAWN_MARK = b"tEXt" + b"\0".join(text.encode() for text in DRAWN_BY)
HEAD_BYTES = 512

# Source: renameat2(2), <linux/fs.h> and <fcntl.h>.
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UNSUPPORTED_ERRNOS = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP))


class Draft:
    """A hidden file beside an output, which replaces the output when it is published.

    A reader sees the earlier file or the complete new one, even after a crash or a power failure.
    Symbolic links are followed, so that the file they lead to is replaced. The owner, group and
    mode are those of the earlier file, as far as the system allows, else those of ``like``, else
    the usual ones. Abandoned drafts of the same output are removed.

    Args:
        output: the file to replace; pictures are refused, see ``check_replaceable``.
        noun: what messages call it.
        remedy: how to choose another path.
        like: the file or folder that the output belongs to.

    Attributes:
        stream: the open draft.
    """

    def __init__(
        self,
        output: Path,
        noun: str = "report",
        remedy: str = OUTPUT_REMEDY,
        like: Path | None = None,
    ) -> None:
        self._name = f"{noun} {path_text(output)}"
        self._remedy = remedy
        self._target = resolve_path(output)
        folder, stem = self._target.parent, draft_stem(self._target)
        remove_abandoned(folder, draft_pattern(stem))
        self._path, self.stream = open_draft(folder, stem)
        for model in (self._target, like):
            with suppress(OSError):  # there may be no earlier file
                if model is not None:
                    status = model.stat()
                    copy_owner(status, self.stream.fileno())
                    is_folder = stat.S_ISDIR(status.st_mode)
                    os.fchmod(
                        self.stream.fileno(),
                        stat.S_IMODE(status.st_mode) & (0o666 if is_folder else 0o7777),
                    )
                    break

    @property
    def path(self) -> Path:
        """Path of the draft."""
        return self._path

    def digest(self) -> bytes:
        """Return the SHA-256 of what is written.

        Raises:
            OutputError: the draft can't be written or read.
        """
        with translate_write_errors(self._name, self._remedy, self._target):
            self.stream.flush()
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()

    def publish(self) -> None:
        """Replace the output with the draft, and sync both to the disk.

        Raises:
            OutputError: the draft can't be written, or the output has become a picture.
        """
        with translate_write_errors(self._name, self._remedy, self._target):
            self.stream.flush()
            os.fsync(self.stream.fileno())
            check_replaceable(self._target, self._name, self._remedy)
            # Before the stream is closed, which ends the draft's lock.
            self._path.replace(self._target)
            self.stream.close()
        sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove the draft, unless it is published."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            self.stream.close()


def copy_owner(status: os.stat_result, copy: int | Path) -> None:
    """Give a file or folder the owner and group of another, as far as the system allows.

    So what root replaces stays a service's, whose next run has to read and replace it.

    Args:
        status: the status of the other.
        copy: a descriptor or path.
    """
    own = os.fstat(copy) if isinstance(copy, int) else copy.stat()
    if own.st_uid != status.st_uid:
        with suppress(OSError):  # only root may
            os.chown(copy, status.st_uid, -1)
    if own.st_gid != status.st_gid:
        with suppress(OSError):  # only root, or a member of the group, may
            os.chown(copy, -1, status.st_gid)


def check_replaceable(target: Path, name: str, remedy: str) -> None:
    """Check that a mistyped output does not replace a photo.

    Pictures that this program drew have ``DRAWN_MARK`` and may be replaced.

    Raises:
        OutputError: the target is any other picture.
    """
    head = None
    with suppress(OSError):  # there may be no file
        head = read_start(target, HEAD_BYTES)
    if head is not None and is_image(head) and DRAWN_MARK not in head:
        raise OutputError(f"{name} is a picture, and pictures are never replaced", remedy)


def digest_file(path: Path) -> bytes | None:
    """Return the SHA-256 of a published file; None if it is missing or can't be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def resolve_path(output: Path) -> Path:
    """Follow symbolic links to the file to replace, which need not exist yet."""
    # Path.resolve raises RuntimeError for a link to itself.
    try:
        return Path(os.path.realpath(output))
    except OSError:  # such as a removed current folder; opening the file will report it
        return output


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk, if its file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step; False if that is not supported.

    Linux supports it on its own file systems (ext4, XFS, Btrfs, tmpfs, ...), but not over NFS.

    Raises:
        OSError: the exchange failed.
    """
    return _rename(one, other, _RENAME_EXCHANGE)


def rename_to_free(one: Path, other: Path) -> None:
    """Rename a file to a name that is free.

    If the system can't rename without replacing, the name is checked just before.

    Raises:
        FileExistsError: the name is not free.
        OSError: the file can't be renamed.
    """
    if not _rename(one, other, _RENAME_NOREPLACE):
        if os.path.lexists(other):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(other))
        one.rename(other)


def _rename(one: Path, other: Path, flags: int) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # not Linux, or a C library without it
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED_ERRNOS:
        return False
    raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))


def is_stdout(output: str) -> bool:
    """Return whether an output is standard output."""
    return output in _STDOUT_NAMES


def is_streamed(output: str) -> bool:
    """Return whether an output is written in place: standard output, a pipe or a device."""
    path = parse_location(output)
    return is_stdout(output) or (isinstance(path, Path) and is_device(path))


def is_device(path: Path) -> bool:
    """Return whether a path is a pipe or a character device."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
