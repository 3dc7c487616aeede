"""Opening of the record of operations, and its repair after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from batch.applying.folder_action import parse_action_root
from batch.applying.job import ApplyJob
from batch.applying.operation_row import Kind, Operation, State
from batch.applying.operations import Operations, find_operations_path
from batch.applying.roots import is_root_gone
from batch.applying.steps import COMPANION, is_intact, read_before, read_sidecar, to_path
from batch.applying.summary import Summary
from batch.applying.transfer import (
    How,
    Refusal,
    is_copy,
    make_source_key,
    make_target_key,
    remove_source,
)
from batch.files.lock import OnWait, hold_lock
from batch.files.publish import digest_file

# Note of the report that was applied completely.
APPLIED_NOTE = "applied"


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
    """Finish or forget what a killed process intended.

    What can't be told, as a disk is not mounted, stays as it is for the next repair.
    """
    for operation in operations.list_unfinished():
        if _is_away(operation, operations):
            continue
        if operation.draft is not None:
            with suppress(OSError):
                to_path(operation.draft).unlink()
        if operation.state is State.UNDOING:
            operations.set_state(operation, State.DONE)
            continue
        keys = _finish(operation)
        if keys is None:
            operations.drop(operation)
        else:
            operations.complete(operation, *keys)
            summary.repaired += 1
    operations.commit()


def _is_away(operation: Operation, operations: Operations) -> bool:
    """Return whether it can't be told if an operation was done, as its files are not there.

    Their disk may not be mounted.
    """
    root = parse_action_root(operation.action)
    if root is not None and is_root_gone(root, operations):
        return True
    if operation.kind in (Kind.MAKE, Kind.REMOVE):
        return False
    before = operation.previous if operation.kind is Kind.RENAME else operation.source
    return not any(os.path.lexists(to_path(name)) for name in (before, operation.target))


def _finish(operation: Operation) -> tuple[str | None, str | None] | None:
    """Return the states of photo and target if an intended operation was done; else None.

    A photo that was copied to another disk is removed, which completes its move. If a file may have
    changed since, its state is not the one on record, and the next run reads it.
    """
    source = to_path(operation.source)
    target = None if operation.target is None else to_path(operation.target)
    done = False
    match operation.kind:
        case Kind.REMOVE:
            done = not os.path.lexists(to_path(operation.previous))
        case Kind.RENAME:
            assert target is not None
            if not os.path.lexists(target) or os.path.lexists(to_path(operation.previous)):
                return None
            return operation.source_key, operation.target_key
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
            if operation.kind is Kind.MOVE and not os.path.lexists(source):
                return None, make_target_key(target) if done else None
            if done and operation.kind is Kind.MOVE:
                if found is None or not is_copy(source, target, found):
                    return None  # a new file has its name
                with suppress(Refusal):
                    remove_source(source, target)
                done = os.path.lexists(target)
        case Kind.WRITE:
            assert target is not None
            done = digest_file(target) == operation.written
            # Labels in a sidecar that others changed can be taken out only if that is on record.
            if not done and operation.content is not None and not _is_as_before(operation):
                return None, None
    if not done:
        return None
    return make_source_key(source), None if target is None else make_target_key(target)


def _is_as_before(operation: Operation) -> bool:
    """Return whether a sidecar has the bytes that it had before an operation."""
    try:
        return read_sidecar(to_path(operation.target)) == read_before(operation)
    except Refusal:
        return False
