"""Undoing of the last run that applied a report, and repair after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from batch.applying.folder_action import make_folder_place
from batch.applying.job import ApplyJob
from batch.applying.operations import Kind, Operation, Operations, State, find_operations_path
from batch.applying.steps import make_undo_draft, repair, to_path, undo
from batch.applying.summary import Summary
from batch.applying.transfer import How, Refusal
from batch.errors import UsageError
from batch.files.lock import OnWait, hold_lock
from batch.files.publish import sync_folder
from batch.path_text import path_text
from batch.stopping import Stop

# Note of the report that was applied completely, in its record of operations.
APPLIED_NOTE = "applied"
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
        raise UsageError(f"there is nothing to undo: {path_text(path)} does not exist", _NOTHING)
    with open_operations(job, on_wait, summary) as operations:
        run = operations.find_last_run()
        if run is None:
            raise UsageError("there is nothing to undo: all runs are undone", _NOTHING)
        summary.run = run
        folders: set[Path] = set()
        for operation in operations.of_run(run):
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
            sync_folders(folders)
            operations.mark_undone(run)
            operations.write_note(APPLIED_NOTE, "")
    return summary


_NOTHING = "undo only what batch-label apply --yes has done with this report"


@contextmanager
def open_operations(
    job: ApplyJob, on_wait: OnWait | None, summary: Summary
) -> Iterator[Operations]:
    """Open the record of operations; if they will be done, lock and repair it first."""
    path = find_operations_path(job.location, job.state_folder)
    with ExitStack() as stack:
        if job.execute:
            remedy = "copy the report to a folder that can be written"
            stack.enter_context(hold_lock(str(path), on_wait, None, "record of operations", remedy))
        operations = stack.enter_context(Operations(path, dry_run=not job.execute))
        if job.execute:
            _repair(operations, summary)
        yield operations


def _repair(operations: Operations, summary: Summary) -> None:
    """Finish or forget what a killed process intended."""
    for operation in operations.unfinished():
        if operation.state is State.UNDOING:
            if operation.draft is not None:
                with suppress(OSError):
                    to_path(operation.draft).unlink()
            operations.set_state(operation, State.DONE)
            continue
        keys = repair(operation)
        if keys is None:
            operations.drop(operation)
        else:
            operations.complete(operation, *keys)
            summary.repaired += 1
    operations.commit()


def _undo_one(operations: Operations, operation: Operation, folders: set[Path]) -> None:
    draft = make_undo_draft(operation)
    if draft is not None:
        operations.set_state(operation, State.UNDOING, draft)
        operations.commit()
    undo(operation, draft, _find_root(operation))
    folders.update(list_folders(operation))
    operations.set_state(operation, State.UNDONE)


def _find_root(operation: Operation) -> Path:
    """Return the folder of an operation's place."""
    for how in (None, How.COPY):
        start = make_folder_place(Path(), how)[:-1]
        if operation.place.startswith(start):
            return to_path(operation.place[len(start) :])
    return to_path(operation.target).parent


def list_folders(operation: Operation) -> list[Path]:
    names = [operation.target, operation.previous]
    if operation.kind is Kind.MOVE:
        names.append(operation.source)
    return [to_path(name).parent for name in names if name is not None]


def sync_folders(folders: set[Path]) -> None:
    for folder in folders:
        sync_folder(folder)
