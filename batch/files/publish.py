"""Publishing: a file that takes its name only when it is whole."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from batch.errors import OutputError
from batch.file_types import is_image
from batch.files.drafts import draft_pattern, draft_stem, open_draft, remove_abandoned
from batch.files.regular_file import open_regular, read_start
from batch.location import parse_location
from batch.os_errors import OUTPUT_REMEDY, translate_write_errors
from batch.path_text import path_text

# What the beginning of a PNG has that this program has drawn (see
# https://www.w3.org/TR/png-3/#11textinfo), and the bytes that are searched for it.
DRAWN_BY = ("Software", "batch-label explain")
DRAWN_MARK = b"tEXt" + b"\0".join(text.encode() for text in DRAWN_BY)
HEAD_BYTES = 512
CHUNK_BYTES = 1 << 20  # bytes of a file that is digested


class Draft:
    """A hidden file beside the report, which takes the report's name once it is whole.

    A reader sees the earlier report or the new one, never a part, even if the process is
    killed or the machine stops. The file gets an earlier report's permissions, else those
    of the umask; a link is followed, so that the file it points to is replaced. What killed
    runs left of the same report is removed. Whatever file has the report's name is replaced, as
    its user said, unless it is a picture: see ``check_replaceable``. Messages call it by ``noun``
    and name, and end in ``elsewhere`` as the remedy.
    """

    def __init__(self, output: Path, noun: str = "report", elsewhere: str = OUTPUT_REMEDY) -> None:
        self._called = f"{noun} {path_text(output)}"
        self._elsewhere = elsewhere
        self._target = resolve_path(output)
        folder, stem = self._target.parent, draft_stem(self._target)
        remove_abandoned(folder, draft_pattern(stem))
        self._path, self.stream = open_draft(folder, stem)
        with suppress(OSError):  # mostly since there is no earlier report
            os.fchmod(self.stream.fileno(), stat.S_IMODE(self._target.stat().st_mode))

    @property
    def path(self) -> Path:
        """Where the file is until it is published."""
        return self._path

    def digest(self) -> bytes:
        """Digest what is written: SHA-256.

        Raises:
            OutputError: the system refuses.
        """
        with translate_write_errors(self._called, self._elsewhere, self._target):
            self.stream.flush()
            with self._path.open("rb") as file:
                return _digest_stream(file)

    def publish(self) -> None:
        """Put the draft in the report's place, safe against a loss of power.

        Raises:
            OutputError: the system refuses, or the place has come to be a picture's.
        """
        with translate_write_errors(self._called, self._elsewhere, self._target):
            self.stream.flush()
            os.fsync(self.stream.fileno())
            check_replaceable(self._target, self._called, self._elsewhere)
            # Before its stream is closed, which would end the lock that says that it is in use.
            self._path.replace(self._target)
            self.stream.close()
        sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove the draft; nothing is done to one that was published."""
        with suppress(OSError):
            self._path.unlink()  # this process made it under a name of its own
        with suppress(OSError):
            self.stream.close()


def check_replaceable(target: Path, display_name: str, elsewhere: str) -> None:
    """Make sure that no photo is lost by a mistaken name: this program replaces no picture.

    Those that it has drawn itself say so: see ``DRAWN_MARK``.

    Raises:
        OutputError: there is a picture.
    """
    head = None
    with suppress(OSError):  # mostly since there is nothing
        head = read_start(target, HEAD_BYTES)
    if head is not None and is_image(head) and DRAWN_MARK not in head:
        raise OutputError(f"{display_name} is a picture, which is not replaced", elsewhere)


def digest_file(path: Path) -> bytes | None:
    """Digest a published file: SHA-256; None if it is not there or can't be read."""
    try:
        with open_regular(path) as file:
            return _digest_stream(file)
    except OSError:
        return None


def _digest_stream(file: BinaryIO) -> bytes:
    digest = sha256()
    while part := file.read(CHUNK_BYTES):
        digest.update(part)
    return digest.digest()


def resolve_path(output: Path) -> Path:
    """Follow links to the file that is to be replaced, which need not exist yet."""
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    try:
        return Path(os.path.realpath(output))
    except OSError:  # such as in a folder that is gone; whoever opens the file learns of it
        return output


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, as far as its file system can do that."""
    # The report stands already, and some file systems can't sync a folder.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


STDOUT = "-"

# The redirection is the shell's: opening this name anew would cut off what lies there.
_STDOUT_NAMES = (STDOUT, "/dev/stdout")


def is_stdout(output: str) -> bool:
    """Tell whether an output's name stands for standard output."""
    return output in _STDOUT_NAMES


def is_streamed(output: str) -> bool:
    """Tell whether rows go out as they come: to standard output, a pipe or a device."""
    path = parse_location(output)
    return is_stdout(output) or (isinstance(path, Path) and is_device(path))


def is_device(path: Path) -> bool:
    """Tell whether a path is a character device or pipe: written through, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


# Source: renameat2(2), <linux/fs.h> and <fcntl.h>.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED_ERRNOS = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP))


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step; False if that is not supported.

    Linux supports it on its own file systems (ext4, XFS, Btrfs, tmpfs, ...), but not over NFS.

    Raises:
        OSError: the exchange failed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:  # not Linux, or a C library without it
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED_ERRNOS:
        return False
    raise OSError(number, os.strerror(number), os.fspath(other))
