"""Undoing of the last run that applied a report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from batch.applying.folder_action import name_folder_action, parse_action_root
from batch.applying.job import ApplyJob
from batch.applying.operation_row import Kind, Operation, State
from batch.applying.operations import Operations, find_operations_path
from batch.applying.repair import APPLIED_NOTE, open_operations
from batch.applying.roots import check_root, is_root_gone, remove_root
from batch.applying.steps import (
    COMPANION,
    SIDECAR_UNUSABLE,
    check_removable,
    find_digest,
    is_intact,
    list_folders,
    make,
    make_draft,
    read_before,
    read_sidecar,
    rename,
    to_path,
    write_sidecar,
)
from batch.applying.summary import Summary
from batch.applying.transfer import (
    FOLDER_GONE,
    FOREIGN,
    GONE,
    Refusal,
    is_copy,
    move,
    refuse_target,
    remove,
    remove_empty_folders,
    show_path,
    verify,
)
from batch.errors import SidecarError, UsageError
from batch.file_types import SIDECAR_SUFFIX
from batch.files.lock import OnWait
from batch.files.publish import digest_file, sync_folder
from batch.path_text import path_text
from batch.stopping import Stop
from batch.xmp import remove_content

# Why a copy or link is not undone.
REPLACED = "kept, as the photo has changed and the earlier copy or link can't be made again"
NEWER = "kept, as a later run replaced it and could not be undone"
_NOTHING_REMEDY = "undo only what batch-label apply --yes has done with this report"
# What operations did, in the count of those that are undone.
UNDONE_NOUNS = {
    Kind.MAKE: "copies and links",
    Kind.RENAME: "renames",
    Kind.REMOVE: "removals and replacements",
    Kind.MOVE: "moves",
    Kind.WRITE: "sidecars",
}


def undo_last(job: ApplyJob, stop: Stop, on_wait: OnWait | None = None) -> Summary:
    """Undo the last run that applied a report and is not undone.

    What could not be undone before is tried again first. Only if that changes nothing, the run
    before is undone.

    Raises:
        OutputError: a file can't be written.
        LockedError: another process applies the report.
        Interrupted: a signal stopped the work.
        UsageError: nothing is left to undo.
    """
    summary = Summary(dry_run=not job.execute)
    path = find_operations_path(job.location, job.state_folder)
    if not os.path.lexists(path):
        raise UsageError(
            f"there is nothing to undo: {path_text(path)} does not exist", _NOTHING_REMEDY
        )
    with open_operations(job, on_wait, summary) as operations:
        found = operations.find_last_run()
        if found is None:
            raise UsageError("there is nothing to undo: all runs are undone", _NOTHING_REMEDY)
        while found is not None:
            run, was_tried = found
            before = summary.done.total()
            described = _describe_run(operations, run)
            summary.undone_run += f", then {described}" if summary.undone_run else described
            _undo_run(operations, run, stop, summary)
            is_changed = summary.done.total() > before
            found = operations.find_last_run(run) if was_tried and not is_changed else None
    return summary


def _undo_run(operations: Operations, run: int, stop: Stop, summary: Summary) -> None:
    actions = operations.list_actions(run)  # before they are undone
    folders: set[Path] = set()
    for group in group_operations(operations.list_run(run)):
        if stop.requested:
            raise stop.make_error("run it again to continue")
        _undo_group(operations, group, folders, summary)
    if not summary.dry_run:
        for folder in folders:
            sync_folder(folder)
        operations.mark_undone(run)
        operations.write_note(APPLIED_NOTE, "")
        operations.commit()
        for name in actions:
            if (root := parse_action_root(name)) is not None:
                remove_root(root, operations)


def _describe_run(operations: Operations, run: int) -> str:
    """Say when a run began and what it did where."""
    begun = datetime.fromtimestamp(operations.find_time(run)).astimezone()
    actions = []
    for name in operations.list_actions(run):
        root = parse_action_root(name)
        if root is None:
            actions.append("sidecars")
        elif name == name_folder_action(root, None):
            actions.append(f"moves to {show_path(root)}")
        else:
            actions.append(f"copies and links in {show_path(root)}")
    return f"the run of {begun:%Y-%m-%d %H:%M:%S} ({', '.join(dict.fromkeys(actions))})"


def group_operations(operations: Iterable[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Group operations of a run, the last first, in the order in which they are undone.

    A copy or link is followed by the removal of what it replaced, and a photo by its sidecar:
    what follows is undone only if what is before it was.
    """
    later: Operation | None = None
    for operation in operations:
        if later is not None:
            if _is_replacement(operation, later):
                yield later, operation
                later = None
                continue
            if _is_companion(operation, later):
                yield operation, later
                later = None
                continue
            yield (later,)
        later = operation
    if later is not None:
        yield (later,)


def _is_replacement(operation: Operation, later: Operation) -> bool:
    return (
        (operation.kind, later.kind, operation.id) == (Kind.REMOVE, Kind.MAKE, later.id - 1)
        and operation.action == later.action
        and operation.source == later.source
    )


def _is_companion(operation: Operation, later: Operation) -> bool:
    return (
        (later.how, operation.id, operation.action) == (COMPANION, later.id - 1, later.action)
        and operation.target is not None
        and later.target == operation.target + os.fsencode(SIDECAR_SUFFIX)
    )


def _undo_group(
    operations: Operations, group: tuple[Operation, ...], folders: set[Path], summary: Summary
) -> None:
    """Undo operations in their order, until one can't be undone."""
    is_replacement = group[0].kind is Kind.MAKE and len(group) > 1
    removal = group[-1] if is_replacement else None
    for operation in group:
        photo = to_path(operation.source)
        try:
            _check_undoable(operations, operation, removal, not summary.dry_run)
            if not summary.dry_run:
                _undo_one(operations, operation, folders)
        except Refusal as refusal:
            summary.add_failed(photo, refusal)
            return
        if operation is group[-1] or not is_replacement:
            file = to_path((group[0] if is_replacement else operation).target or operation.previous)
            summary.add_done("undo", UNDONE_NOUNS[operation.kind], file, None)


def _check_undoable(
    operations: Operations, operation: Operation, removal: Operation | None, reads: bool
) -> None:
    """Make sure that nothing is undone that must stay.

    What is missing in a folder that is gone may be on a disk that is not mounted. And a copy or
    link is only removed if what it replaced can be made again.

    Args:
        operations: what was done.
        operation: what is to be undone.
        removal: the removal before it, if it replaced something.
        reads: whether to read the photo; otherwise digests on record are compared.

    Raises:
        Refusal: it must stay.
    """
    root = parse_action_root(operation.action)
    if root is not None and is_root_gone(root, operations):
        raise Refusal(FOLDER_GONE, f"mount its disk, or make {show_path(root)} again")
    if operation.kind is not Kind.MAKE or not os.path.lexists(to_path(operation.target)):
        return
    newest = operations.find_current(operation.action, operation.source)
    if newest is not None and newest.run > operation.run:
        raise Refusal(NEWER)
    if removal is None:
        return
    if removal.digest != operation.digest:
        raise Refusal(REPLACED)
    if reads:
        verify(to_path(removal.source), removal.digest or b"")


def _undo_one(operations: Operations, operation: Operation, folders: set[Path]) -> None:
    draft = make_undo_draft(operation)
    if draft is not None:
        operations.set_state(operation, State.UNDOING, draft)
        operations.commit()
    root = parse_action_root(operation.action) or to_path(operation.target).parent
    if operation.kind is Kind.REMOVE and not root.is_dir():
        check_root(root, operations)
    try:
        undo(operation, draft, root)
    except Refusal:
        operations.set_state(operation, State.DONE)
        raise
    folders.update(list_folders(operation))
    operations.set_state(operation, State.UNDONE)


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
            _make_folder(previous)
            rename(target, previous, root)
        case Kind.REMOVE:
            previous = to_path(operation.previous)
            if is_intact(replace(operation, target=operation.previous)):
                return
            _make_folder(previous)
            make(operation, draft, previous)
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
        # Another photo may have the old name. A sidecar may have changed.
        if digest_file(source) == operation.digest or (
            operation.how == COMPANION and os.path.lexists(source)
        ):
            return
        raise Refusal(GONE)
    if not is_intact(operation):
        raise Refusal(FOREIGN)
    digest = find_digest(operation, target)
    if is_copy(source, target, digest):
        # It was copied back from another file system before a kill.
        sync_folder(source.parent)
        remove(target)
    else:
        _make_folder(source)
        move(target, to_path(draft), source, digest)
    remove_empty_folders(target.parent, root)


def _make_folder(file: Path) -> None:
    with refuse_target(file):
        file.parent.mkdir(parents=True, exist_ok=True)


def _restore_sidecar(operation: Operation, draft: bytes | None) -> None:
    """Restore the bytes of a sidecar, or take out what was put in if others changed it since."""
    sidecar = to_path(operation.target)
    before = read_before(operation)
    if not sidecar.parent.is_dir():
        folder = show_path(sidecar.parent)
        raise Refusal(FOLDER_GONE, f"mount its disk, or make {folder} again")
    now = read_sidecar(sidecar)
    is_unchanged = before is not None and hashlib.sha256(before).digest() == operation.written
    if is_unchanged or now == before:
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
    write_sidecar(to_path(draft), sidecar, data, now)
