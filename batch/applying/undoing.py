"""Undoing of the last run that applied a report."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from batch.applying.folder_action import parse_action_root
from batch.applying.job import ApplyJob
from batch.applying.operations import Kind, Operation, Operations, State, find_operations_path
from batch.applying.repair import APPLIED_NOTE, open_operations
from batch.applying.steps import (
    FOREIGN,
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
    GONE,
    Refusal,
    move,
    refuse_target,
    remove,
    remove_empty_folders,
)
from batch.errors import SidecarError, UsageError
from batch.files.lock import OnWait
from batch.files.publish import sync_folder
from batch.path_text import path_text
from batch.stopping import Stop
from batch.xmp import remove_content

_NOTHING_REMEDY = "undo only what batch-label apply --yes has done with this report"
# What operations did, in the count of those that are undone.
UNDONE_NOUNS = {
    Kind.MAKE: "copies and links",
    Kind.RENAME: "renames",
    Kind.REMOVE: "removals",
    Kind.MOVE: "moves",
    Kind.WRITE: "sidecars",
}


def undo_last(job: ApplyJob, stop: Stop, on_wait: OnWait | None = None) -> Summary:
    """Undo the last run that applied a report and is not undone.

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
        run = operations.find_last_run()
        if run is None:
            raise UsageError("there is nothing to undo: all runs are undone", _NOTHING_REMEDY)
        summary.run = run
        folders: set[Path] = set()
        for operation in operations.list_run(run):
            if stop.requested:
                raise stop.make_error("run it again to continue")
            photo = to_path(operation.source)
            try:
                if job.execute:
                    _undo_one(operations, operation, folders)
            except Refusal as refusal:
                operations.set_state(operation, State.DONE)
                summary.add_failed(path_text(photo), refusal)
            else:
                summary.add_done("undo", UNDONE_NOUNS[operation.kind], photo, None)
        if job.execute:
            for folder in folders:
                sync_folder(folder)
            operations.mark_undone(run)
            operations.write_note(APPLIED_NOTE, "")
    return summary


def _undo_one(operations: Operations, operation: Operation, folders: set[Path]) -> None:
    draft = make_undo_draft(operation)
    if draft is not None:
        operations.set_state(operation, State.UNDOING, draft)
        operations.commit()
    root = parse_action_root(operation.action) or to_path(operation.target).parent
    undo(operation, draft, root)
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
        if os.path.lexists(source):
            return
        raise Refusal(GONE)
    if not is_intact(operation):
        raise Refusal(FOREIGN)
    _make_folder(source)
    move(target, to_path(draft), source, find_digest(operation, target))
    remove_empty_folders(target.parent, root)


def _make_folder(file: Path) -> None:
    with refuse_target(file):
        file.parent.mkdir(parents=True, exist_ok=True)


def _restore_sidecar(operation: Operation, draft: bytes | None) -> None:
    """Restore the bytes of a sidecar, or take out what was put in if others changed it since."""
    sidecar = to_path(operation.target)
    before = read_before(operation)
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
    write_sidecar(to_path(draft), sidecar, data, now)
