"""Steps: operations to do, how each is done, and how it is undone or repaired after a kill."""

from __future__ import annotations

import hashlib
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from batch.applying.operations import Kind, Operation
from batch.applying.transfer import (
    GONE,
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
    remove_source,
    verify,
    write,
)
from batch.errors import SidecarError
from batch.files.drafts import draft_stem, make_draft_name
from batch.files.publish import digest_file, rename_to_free
from batch.os_errors import describe_os_error

# ``Operation.how`` of a sidecar that is moved with its photo. Other programs may change it.
COMPANION = "sidecar"
FOREIGN = "changed by another program"
LAST_COPY = "kept, as the photo it was made from is gone"
SIDECAR_UNUSABLE = "has a sidecar that can't be used"


class Skipped(Exception):
    """A photo for which an action is not meant; ``str()`` says why, as counted."""


@dataclass(frozen=True)
class Step:
    """An operation to do.

    Attributes:
        operation: the operation.
        verb: what is counted once it is done, such as ``copied``.
        label: the label under which it is counted.
        photo: the photo, for messages.
        root: the folder below which folders are made and removed.
        data: bytes of the sidecar to write; None to remove it.
        is_trusted: whether the photo is known to have its digest.
    """

    operation: Operation
    verb: str
    label: str
    photo: Path
    root: Path
    data: bytes | None = None
    is_trusted: bool = False


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
            make_parents(target, step.root)
            if operation.how in (How.COPY, How.REFLINK):
                copy(source, to_path(operation.draft), target, digest, How(operation.how))
            else:
                link(source, target, How(operation.how), digest)
        case Kind.RENAME:
            target = to_path(operation.target)
            make_parents(target, step.root)
            _rename(to_path(operation.previous), target, step.root)
        case Kind.REMOVE:
            previous = to_path(operation.previous)
            remove(previous)
            remove_empty_folders(previous.parent, step.root)
            return operation.source_key, operation.target_key
        case Kind.MOVE:
            target = to_path(operation.target)
            make_parents(target, step.root)
            move(source, to_path(operation.draft), target, _find_digest(operation, source))
        case Kind.WRITE:
            target = to_path(operation.target)
            key = make_source_key(source)
            # Content is taken out even if the photo has changed or is gone.
            if operation.content and not step.is_trusted:
                verify(source, digest)
            _write_sidecar(to_path(operation.draft), target, step.data, operation.before)
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
    if operation.how != How.SYMBOLIC and not to_path(operation.source).is_file():
        raise Refusal(LAST_COPY)


def repair(operation: Operation) -> tuple[str | None, str | None] | None:
    """Finish or clean up an operation that a killed process intended.

    Returns:
        The states of photo and target if it was done; None if it was not.
    """
    if operation.draft is not None:
        with suppress(OSError):
            to_path(operation.draft).unlink()
    source = to_path(operation.source)
    target = None if operation.target is None else to_path(operation.target)
    done = False
    match operation.kind:
        case Kind.REMOVE:
            done = not os.path.lexists(to_path(operation.previous))
        case Kind.RENAME:
            assert target is not None
            done = os.path.lexists(target) and not os.path.lexists(to_path(operation.previous))
        case Kind.MAKE if operation.how == How.SYMBOLIC:
            done = is_intact(operation)
        case Kind.MAKE if operation.how == How.HARD:
            with suppress(OSError):
                assert target is not None
                done = os.path.samestat(source.stat(), target.lstat())
        case Kind.MAKE | Kind.MOVE:
            assert target is not None
            found = None if target.is_symlink() else digest_file(target)
            done = found is not None and (operation.how == COMPANION or found == operation.digest)
            if done and operation.kind is Kind.MOVE and os.path.lexists(source):
                if digest_file(source) != found:
                    return None  # a new file has its name
                with suppress(Refusal):
                    remove_source(source, target)
                done = os.path.lexists(target)
        case Kind.WRITE:
            assert target is not None
            done = digest_file(target) == operation.written
    if not done:
        return None
    return make_source_key(source), None if target is None else make_target_key(target)


def undo(operation: Operation, draft: bytes | None, root: Path) -> None:
    """Undo an operation; does nothing if it is undone already.

    Args:
        operation: what was done.
        draft: a temporary name, from ``make_undo_draft``.
        root: the folder below which empty folders are removed.

    Raises:
        Refusal: it can't be undone.
        OutputError: no operation can be undone, for example because the disk is full.
    """
    source = to_path(operation.source)
    match operation.kind:
        case Kind.MAKE:
            target = to_path(operation.target)
            if os.path.lexists(target):
                check_removable(operation)
                remove(target)
                remove_empty_folders(target.parent, root)
        case Kind.RENAME:
            target, previous = to_path(operation.target), to_path(operation.previous)
            if os.path.lexists(previous) and not os.path.lexists(target):
                return
            if not is_intact(operation):
                raise Refusal(FOREIGN)
            with refuse_target(previous):
                previous.parent.mkdir(parents=True, exist_ok=True)
            _rename(target, previous, root)
        case Kind.REMOVE:
            previous, digest = to_path(operation.previous), operation.digest or b""
            if is_intact(replace(operation, target=operation.previous)):
                return
            with refuse_target(previous):
                previous.parent.mkdir(parents=True, exist_ok=True)
            if operation.how in (How.COPY, How.REFLINK):
                copy(source, to_path(draft), previous, digest, How(operation.how))
            else:
                link(source, previous, How(operation.how), digest)
        case Kind.MOVE:
            _move_back(operation, draft, root)
        case Kind.WRITE:
            _restore_sidecar(operation, draft)


def make_undo_draft(operation: Operation) -> bytes | None:
    """Make the name of the draft that undoing an operation needs; None if it needs none."""
    match operation.kind:
        case Kind.MOVE:
            return make_draft(to_path(operation.source))
        case Kind.REMOVE:
            return make_draft(to_path(operation.previous))
        case Kind.WRITE:
            return make_draft(to_path(operation.target))
    return None


def _move_back(operation: Operation, draft: bytes | None, root: Path) -> None:
    source, target = to_path(operation.source), to_path(operation.target)
    if not os.path.lexists(target):
        if os.path.lexists(source):
            return
        raise Refusal(GONE)
    if not is_intact(operation):
        raise Refusal(FOREIGN)
    with refuse_target(source):
        source.parent.mkdir(parents=True, exist_ok=True)
    move(target, to_path(draft), source, _find_digest(operation, target))
    remove_empty_folders(target.parent, root)


def _find_digest(operation: Operation, file: Path) -> bytes:
    if operation.how == COMPANION:
        return digest_file(file) or b""
    return operation.digest or b""


def _rename(previous: Path, target: Path, root: Path) -> None:
    with refuse_target(target):
        rename_to_free(previous, target)
    remove_empty_folders(previous.parent, root)


def read_sidecar(sidecar: Path) -> bytes | None:
    """Read a sidecar; None if there is none.

    Raises:
        Refusal: it is a link, no regular file, too large or unreadable.
    """
    from batch.xmp import MAX_SIDECAR_BYTES

    try:
        if sidecar.is_symlink():
            raise Refusal(SIDECAR_UNUSABLE, "a symbolic link")
        if os.path.lexists(sidecar) and sidecar.lstat().st_size > MAX_SIDECAR_BYTES:
            raise Refusal(SIDECAR_UNUSABLE, f"more than {MAX_SIDECAR_BYTES:,} bytes")
        return read_small(sidecar)
    except OSError as error:
        raise Refusal(SIDECAR_UNUSABLE, describe_os_error(error, sidecar)) from error


def _write_sidecar(draft: Path, sidecar: Path, data: bytes | None, before: bytes | None) -> None:
    expected = None if before is None else zlib.decompress(before)
    if data is not None:
        write(draft, sidecar, data, expected)
    elif read_sidecar(sidecar) == expected:
        remove(sidecar)
    else:
        raise Refusal(f"{FOREIGN} meanwhile")


def _restore_sidecar(operation: Operation, draft: bytes | None) -> None:
    """Restore the bytes of a sidecar, or take out what was put in if others changed it since."""
    from batch.xmp import remove_content

    sidecar = to_path(operation.target)
    before = None if operation.before is None else zlib.decompress(operation.before)
    now = read_sidecar(sidecar)
    if now == before:
        return
    found = None if now is None else hashlib.sha256(now).digest()
    data = before
    if found != operation.written:
        if now is None or operation.content is None:
            raise Refusal(FOREIGN)
        try:
            data = remove_content(now, operation.how)
        except SidecarError as error:
            raise Refusal(SIDECAR_UNUSABLE, error.problem) from error
        if data == now:
            return
    compressed = None if now is None else zlib.compress(now)
    _write_sidecar(to_path(draft), sidecar, data, compressed)


def is_stale(operation: Operation, digest: bytes) -> bool:
    """Return whether a photo must be read again to know that it has a digest."""
    key = make_source_key(to_path(operation.source))
    if key is None:
        raise Refusal(GONE)
    return operation.digest != digest or operation.source_key != key
