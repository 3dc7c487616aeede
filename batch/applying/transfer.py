"""Copying, linking, moving and removing of single files, without replacing any other.

A photo is compared with its digest while it is copied, and just before anything else is done to
it. Copies are written under a draft's name, synced and then renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from io import BufferedReader
from pathlib import Path

from batch.errors import OutputError
from batch.files.publish import digest_file, rename_to_free, sync_folder
from batch.files.regular_file import NotRegularFile, open_regular
from batch.os_errors import describe_os_error, translate_write_errors
from batch.path_text import path_text

CHUNK_BYTES = 1024**2
TARGET_REMEDY = "choose another folder"
CHANGED = "changed since it was labelled"
GONE = "gone"
FOLDER_GONE = "in a folder that is gone"
FOREIGN = "changed by another program"
LAST_COPY = "kept, as the photo it was made from is gone or has changed"
UNREADABLE = "unreadable"
UNWRITABLE = "can't be written"

# Source: ioctl_ficlonerange(2), <linux/fs.h>.
_FICLONE = 0x40049409
# Errors of file systems that can't make a kind of link at all, so that no photo would succeed.
_UNSUPPORTED_ERRNOS = frozenset(
    (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOTTY)
)
_FULL_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT))


class How(StrEnum):
    """How a photo gets into a folder."""

    COPY = "copy"
    HARD = "hard"
    SYMBOLIC = "symbolic"
    REFLINK = "reflink"


class Refusal(Exception):
    """An action that can't be done for one photo.

    Attributes:
        reason: why, as counted.
        detail: more about it; empty if the reason says all.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


def show_path(path: Path) -> str:
    """Write a path for a message, relative to the current folder if it is below it."""
    with suppress(ValueError, OSError):  # elsewhere, or the current folder is gone
        return path_text(path.relative_to(Path.cwd()))
    return path_text(path)


def make_source_key(path: Path) -> str | None:
    """Return what tells whether a photo's bytes may have changed; None if it is gone.

    Size, mtime, ctime and inode number, as in the journal of a run.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def make_target_key(path: Path) -> str | None:
    """Return what tells whether a file is still the one that was made; None if it is gone.

    Size, mtime and inode number of the file itself, not of what a link leads to.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def verify(source: Path, digest: bytes) -> None:
    """Make sure that a photo has the bytes that were labelled.

    Raises:
        Refusal: it is gone, unreadable or has changed.
    """
    with _open_source(source) as file, _refuse_source(source):
        if hashlib.file_digest(file, "sha256").digest() != digest:
            raise Refusal(CHANGED)


@contextmanager
def make_parents(target: Path, root: Path) -> Iterator[None]:
    """Make the folders between ``root`` and a target, and remove them if the block fails."""
    present = target.parent
    while present != root and not present.is_dir():
        present = present.parent
    if not present.is_dir():
        raise OutputError(f"folder {path_text(root)} is gone", "make it, then run again")
    try:
        with refuse_target(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        remove_empty_folders(target.parent, present)
        raise


def copy(source: Path, draft: Path, target: Path, digest: bytes, how: How = How.COPY) -> None:
    """Copy a photo with its mode and mtime, or clone it with ``How.REFLINK``.

    Raises:
        Refusal: the photo does not have the digest, or the target exists or can't be written.
        OutputError: the disk is full or can't clone.
    """
    with _open_source(source) as file:
        status = os.fstat(file.fileno())
        try:
            with refuse_target(target), draft.open("xb") as stream:
                if how is How.REFLINK:
                    with translate_unsupported(how, target.parent):
                        fcntl.ioctl(stream.fileno(), _FICLONE, file.fileno())
                    with draft.open("rb") as cloned:
                        found = hashlib.file_digest(cloned, "sha256")
                else:
                    found = hashlib.sha256()
                    while chunk := _read_chunk(file, source):
                        found.update(chunk)
                        stream.write(chunk)
                    stream.flush()
                if found.digest() != digest:
                    raise Refusal(CHANGED)
                os.fchmod(stream.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
                os.utime(stream.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(stream.fileno())
            with refuse_target(target):
                rename_to_free(draft, target)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise


def link(source: Path, target: Path, how: How, digest: bytes) -> None:
    """Make a hard or symbolic link to a photo.

    Raises:
        Refusal: the photo does not have the digest, or the target exists or can't be written.
        OutputError: the file system has no such links.
    """
    verify(source, digest)
    with refuse_target(target), translate_unsupported(how, target.parent):
        if how is How.SYMBOLIC:
            target.symlink_to(source)
        else:
            os.link(source, target)


def move(source: Path, draft: Path, target: Path, digest: bytes) -> None:
    """Move a photo: rename it, or copy it to another file system, compare the copy and remove it.

    Raises:
        Refusal: the photo does not have the digest, or the target exists or can't be written.
        OutputError: the disk is full.
    """
    verify(source, digest)
    key = make_source_key(source)
    with refuse_target(target):
        try:
            rename_to_free(source, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    copy(source, draft, target, digest)
    sync_folder(target.parent)
    if digest_file(target) != digest or make_source_key(source) != key:
        with suppress(OSError):
            target.unlink()
        raise Refusal(CHANGED)
    remove_source(source, target)


def is_copy(file: Path, other: Path, digest: bytes) -> bool:
    """Return whether a file has a digest and is not another name of the other file."""
    if file.is_symlink() or digest_file(file) != digest:
        return False
    return not os.path.samefile(file, other)  # noqa: PTH121


def remove_source(source: Path, target: Path) -> None:
    """Remove a photo that has been copied to ``target``; if that fails, remove the copy.

    Raises:
        Refusal: it can't be removed.
    """
    try:
        source.unlink()
    except OSError as error:
        with suppress(OSError):
            target.unlink()
        raise Refusal(UNWRITABLE, describe_os_error(error, source)) from error


def write(draft: Path, target: Path, data: bytes, expected: bytes | None) -> None:
    """Write a small file, if the target still has the expected bytes; None: does not exist.

    Raises:
        Refusal: it has other bytes, or can't be written.
        OutputError: the disk is full.
    """
    try:
        with refuse_target(target):
            with draft.open("xb") as stream:
                stream.write(data)
                with suppress(OSError):  # there may be no earlier file
                    os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
                stream.flush()
                os.fsync(stream.fileno())
            if read_small(target) != expected:
                raise Refusal(f"{FOREIGN} meanwhile")
            if expected is None:
                rename_to_free(draft, target)
            else:
                draft.replace(target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def remove(target: Path) -> None:
    """Remove a file.

    Raises:
        Refusal: it can't be removed.
    """
    with refuse_target(target):
        target.unlink(missing_ok=True)


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove a folder and those above it, up to ``root``, as long as they are empty."""
    with suppress(OSError):
        while folder != root and root in folder.parents:
            folder.rmdir()
            folder = folder.parent


def read_small(path: Path) -> bytes | None:
    """Read a whole small file that is not a link; None if it is missing.

    Raises:
        OSError: it can't be read, or is a link or not a regular file.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFile
    with open_regular(path) as file:
        return file.read()


@contextmanager
def refuse_target(target: Path) -> Iterator[None]:
    """Turn an ``OSError`` of a target into a ``Refusal``, or an ``OutputError`` if a disk is full.

    Raises:
        Refusal: the block raised an ``OSError``.
        OutputError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_ERRNOS:
            with translate_write_errors(f"file {path_text(target)}", TARGET_REMEDY, target):
                raise
        raise Refusal(
            UNWRITABLE, f"{show_path(target)}: {describe_os_error(error, target)}"
        ) from error


@contextmanager
def translate_unsupported(how: How, folder: Path) -> Iterator[None]:
    """Turn the error of a file system that has no such links into an ``OutputError``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED_ERRNOS:
            raise
        noun = "reflinks" if how is How.REFLINK else f"{how} links"
        raise OutputError(
            f"folder {path_text(folder)} can't have {noun} to the photos "
            f"({describe_os_error(error)})",
            "choose a folder on their file system, another --link, or --copy-to",
        ) from error


@contextmanager
def _refuse_source(source: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refusal(GONE) from error
    except OSError as error:
        raise Refusal(UNREADABLE, describe_os_error(error, source)) from error


def _open_source(source: Path) -> BufferedReader:
    with _refuse_source(source):
        return open_regular(source)


def _read_chunk(file: BufferedReader, source: Path) -> bytes:
    with _refuse_source(source):
        return file.read(CHUNK_BYTES)
