"""Opening of the record of operations, and its repair after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from batch.applying.job import ApplyJob
from batch.applying.operation_row import Kind, Operation, State
from batch.applying.operations import Operations, find_operations_path
from batch.applying.steps import COMPANION, is_intact, to_path
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
    """Finish or forget what a killed process intended."""
    for operation in operations.list_unfinished():
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


def _finish(operation: Operation) -> tuple[str | None, str | None] | None:
    """Return the states of photo and target if an intended operation was done; else None.

    A photo that was copied to another disk is removed, which completes its move. A file that is
    gone from its old name counts as moved, even if the new name does not exist: the disk may not be
    mounted, and only what is recorded can be undone.
    """
    source = to_path(operation.source)
    target = None if operation.target is None else to_path(operation.target)
    done = False
    match operation.kind:
        case Kind.REMOVE | Kind.RENAME:
            done = not os.path.lexists(to_path(operation.previous))
        case Kind.MAKE if operation.how == How.SYMBOLIC:
            done = is_intact(operation)
        case Kind.MAKE if operation.how == How.HARD:
            with suppress(OSError):
                assert target is not None
                done = os.path.samestat(source.stat(), target.lstat())
        case Kind.MOVE if not (
            target is None or os.path.lexists(source) or os.path.lexists(target)
        ):
            done = True
        case Kind.MAKE | Kind.MOVE:
            assert target is not None
            found = None if target.is_symlink() else digest_file(target)
            done = found is not None and (operation.how == COMPANION or found == operation.digest)
            if done and operation.kind is Kind.MOVE and os.path.lexists(source):
                if found is None or not is_copy(source, target, found):
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
