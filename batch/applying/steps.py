"""Steps: operations that actions plan for a photo, and how each is done."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batch.applying.operation_row import Kind, Operation
from batch.applying.selection import ReportedPhoto
from batch.applying.transfer import (
    FOREIGN,
    GONE,
    LAST_COPY,
    How,
    Refusal,
    copy,
    link,
    make_parents,
    make_source_key,
    make_target_key,
    move,
    read_small,
    refuse_target,
    remove,
    remove_empty_folders,
    verify,
    write,
)
from batch.files.drafts import draft_stem, make_draft_name
from batch.files.publish import digest_file, rename_to_free
from batch.os_errors import describe_os_error
from batch.xmp import MAX_SIDECAR_BYTES

# ``Operation.how`` of a sidecar that is moved with its photo. Other programs may change it.
COMPANION = "sidecar"
DAMAGED = "with damage in the record of operations"
SIDECAR_UNUSABLE = "has a sidecar that can't be used"


class Skipped(Exception):
    """A photo for which an action is not meant; ``str()`` says why, as counted.

    Attributes:
        made: what was made for it earlier, to be named; None for nothing.
    """

    def __init__(self, reason: str, made: Path | None = None) -> None:
        super().__init__(reason)
        self.made = made


@dataclass(frozen=True)
class Candidate:
    """A photo that matches.

    Attributes:
        source: its absolute path.
        digest: SHA-256 of the bytes that were labelled.
        reported: what the report says.
        is_trusted: whether the photo is known to have the digest.
    """

    source: Path
    digest: bytes
    reported: ReportedPhoto
    is_trusted: bool = False

    @property
    def label(self) -> str:
        """The label, or status, of its folder."""
        return self.reported.folders[0]


@dataclass(frozen=True)
class Step:
    """An operation to do.

    Attributes:
        operation: the operation.
        verb: what is counted once it is done, such as ``copy``; empty for a part of another step.
        label: the label under which it is counted.
        photo: the photo, for messages.
        root: the folder below which folders are made and removed.
        data: bytes of the sidecar to write; None to remove it.
        is_trusted: whether the photo is known to have its digest.
        follows: whether it is done only if the step before it was, and then in any case.
    """

    operation: Operation
    verb: str
    label: str
    photo: Path
    root: Path
    data: bytes | None = None
    is_trusted: bool = False
    follows: bool = False


class Action(Protocol):
    """Something to do with photos."""

    def plan(self, photo: Candidate) -> list[Step]:
        """Return what is to be done, in order; empty if it is done already.

        Raises:
            Refusal: it can't be done, as the photo is gone or has changed.
            Skipped: the action is not meant for the photo.
        """

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield what was made for photos that do not match any more."""

    def plan_removal(self, made: Operation) -> list[Step]:
        """Return what is to be done to remove it.

        Raises:
            Refusal: it can't be removed, or must not be.
        """


def to_path(name: bytes | None) -> Path:
    """Return the path of an operation, which must have one."""
    assert name is not None
    return Path(os.fsdecode(name))


def make_draft(target: Path) -> bytes:
    """Make the name of a draft beside a target."""
    return os.fsencode(target.with_name(make_draft_name(draft_stem(target))))


def perform(step: Step) -> tuple[str | None, str | None]:
    """Do an operation.

    Returns:
        The states of photo and target afterwards.

    Raises:
        Refusal: it can't be done for this photo; nothing was changed.
        OutputError: no operation can be done, for example because the disk is full.
    """
    operation = step.operation
    source, digest = to_path(operation.source), operation.digest or b""
    match operation.kind:
        case Kind.MAKE:
            target = to_path(operation.target)
            with make_parents(target, step.root):
                make(operation, operation.draft, target)
        case Kind.RENAME:
            target = to_path(operation.target)
            with make_parents(target, step.root):
                rename(to_path(operation.previous), target, step.root)
            # A rename keeps the state on record; another one is of a file that has changed since.
            return operation.source_key, operation.target_key
        case Kind.REMOVE:
            previous = to_path(operation.previous)
            remove(previous)
            remove_empty_folders(previous.parent, step.root)
            return operation.source_key, operation.target_key
        case Kind.MOVE:
            target = to_path(operation.target)
            with make_parents(target, step.root):
                move(source, to_path(operation.draft), target, find_digest(operation, source))
        case Kind.WRITE:
            target = to_path(operation.target)
            key = make_source_key(source)
            # Content is taken out even if the photo has changed or is gone.
            if operation.content and not step.is_trusted:
                verify(source, digest)
            before = read_before(operation)
            write_sidecar(to_path(operation.draft), target, step.data, before)
            return key, make_target_key(target)
    return make_source_key(source), make_target_key(target)


def is_intact(operation: Operation) -> bool:
    """Return whether what an operation made or moved is still there and the same."""
    if operation.target is None:
        return False
    target = to_path(operation.target)
    key = make_target_key(target)
    if key is None:
        return False
    if operation.how == How.SYMBOLIC:
        with suppress(OSError):
            return os.fsencode(target.readlink()) == operation.source
        return False
    if key == operation.target_key:
        return True
    if target.is_symlink():
        return False
    if operation.how == COMPANION:
        return True
    if operation.how == How.HARD:
        # Of the same inode, though the photo may have been edited in place.
        return key.rpartition(":")[2] == (operation.target_key or "").rpartition(":")[2]
    return digest_file(target) == operation.digest


def check_removable(operation: Operation) -> None:
    """Make sure that what was made is intact, and not the last copy of its photo.

    Raises:
        Refusal: it is not.
    """
    if not is_intact(operation):
        raise Refusal(FOREIGN)
    if operation.how != How.SYMBOLIC and not _has_other_copy(operation):
        raise Refusal(LAST_COPY)


def _has_other_copy(operation: Operation) -> bool:
    """Return whether the photo of a copy or hard link still has its bytes; reads it if unsure."""
    source = to_path(operation.source)
    if not source.is_file():
        return False
    if make_source_key(source) == operation.source_key:
        return True
    if operation.how == How.HARD and source.samefile(to_path(operation.target)):
        return True
    return digest_file(source) == operation.digest


def is_stale(operation: Operation, digest: bytes) -> bool:
    """Return whether a photo must be read again to know that it has a digest."""
    key = make_source_key(to_path(operation.source))
    if key is None:
        raise Refusal(GONE)
    return operation.digest != digest or operation.source_key != key


def make(operation: Operation, draft: bytes | None, target: Path) -> None:
    """Make the copy or link of an operation at a path."""
    source, digest, how = to_path(operation.source), operation.digest or b"", How(operation.how)
    if how in (How.COPY, How.REFLINK):
        copy(source, to_path(draft), target, digest, how)
    else:
        link(source, target, how, digest)


def find_digest(operation: Operation, file: Path) -> bytes:
    """Return the digest that a file must have to be moved; a sidecar may have any."""
    if operation.how == COMPANION:
        return digest_file(file) or b""
    return operation.digest or b""


def rename(previous: Path, target: Path, root: Path) -> None:
    """Rename a file to a free name, and remove the folders below ``root`` that it leaves empty."""
    with refuse_target(target):
        rename_to_free(previous, target)
    remove_empty_folders(previous.parent, root)


def read_before(operation: Operation) -> bytes | None:
    """Return the bytes of a sidecar before an operation; None if it did not exist.

    Raises:
        Refusal: the record of operations is damaged there.
    """
    try:
        return None if operation.before is None else zlib.decompress(operation.before)
    except zlib.error as error:
        raise Refusal(DAMAGED, "its earlier bytes can't be restored") from error


def read_sidecar(sidecar: Path) -> bytes | None:
    """Read a sidecar; None if it does not exist.

    Raises:
        Refusal: it is a link, no regular file, too large or unreadable.
    """
    try:
        if sidecar.is_symlink():
            raise Refusal(SIDECAR_UNUSABLE, "a symbolic link")
        if os.path.lexists(sidecar) and sidecar.lstat().st_size > MAX_SIDECAR_BYTES:
            raise Refusal(SIDECAR_UNUSABLE, f"more than {MAX_SIDECAR_BYTES:,} bytes")
        return read_small(sidecar)
    except OSError as error:
        raise Refusal(SIDECAR_UNUSABLE, describe_os_error(error, sidecar)) from error


def write_sidecar(draft: Path, sidecar: Path, data: bytes | None, expected: bytes | None) -> None:
    """Write a sidecar, or remove it if ``data`` is None; if it is as expected, only compare it.

    Raises:
        Refusal: it does not have the expected bytes any more, or can't be written.
    """
    if data is not None and data != expected:
        write(draft, sidecar, data, expected)
    elif read_sidecar(sidecar) != expected:
        raise Refusal(f"{FOREIGN} meanwhile")
    elif data is None:
        remove(sidecar)


def list_folders(operation: Operation) -> list[Path]:
    """List the folders whose entries an operation changes, which are to be synced."""
    names = [operation.target, operation.previous]
    if operation.kind is Kind.MOVE:
        names.append(operation.source)
    return [to_path(name).parent for name in names if name is not None]
