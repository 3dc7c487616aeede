"""The journal: an SQLite database with the row and state of every file, beside the report.

A row is committed about a second after its file is labelled. So a killed run resumes from the
journal, and the next run labels only new and changed files. ``plan_run`` compares the files that
were found with the known ones, ``add`` stores rows, and ``rows`` reads the report's rows in order.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from batch.errors import OutputError
from batch.found import FoundFile, clamp_time
from batch.journal.damage import check_note, check_photo, check_schema
from batch.journal.schema import (
    ADD_PHOTO,
    COUNT_CAUSES,
    COUNT_MISSING,
    DELETE_MISSING,
    DELETE_MISSING_UNREADABLE,
    DROP_UNREADABLE,
    FIND_KNOWN,
    FIND_MISSING,
    FIND_MOVED,
    INDEX_FOUND,
    INSERT_ACCEPTED,
    INSERT_ARRIVALS,
    INSERT_PENDING,
    IS_ACCEPTED,
    KEEP_UNREADABLE,
    MARK_KEPT,
    NEXT_MISSING_PATHS,
    NEXT_MISSING_ROWS,
    NEXT_PENDING,
    NEXT_ROWS,
    PHOTO_COLUMNS,
    RUN_TABLES,
    SCHEMA,
    SELECT_FAILED,
    START_OVER,
    compute_checksum,
    compute_failure_key,
    compute_fresh_checksum,
)
from batch.journal.sqlite_errors import JournalDamaged, check_regular, translate_sqlite_errors
from batch.location import Location, Url, parse_location
from batch.records import Failure, FileState, FinishedFile, PendingFile, Row, Status
from batch.row_json import pack_failure, pack_row, unpack_failure, unpack_row
from batch.shard import Shard

# Seconds between commits: a killed run loses at most this much work.
COMMIT_SECONDS = 1.0
CHUNK_ROWS = 1_000  # rows per query
INSERT_CHUNK_ROWS = 200  # found files per insert
ADD_CHUNK_ROWS = 250  # labelled rows per insert
# Name of the note that a run with --fresh sets, and that is emptied once a report is published.
FRESH_NOTE = "fresh"


class PendingCause(StrEnum):
    """Why a file is pending; the first that applies counts.

    Attributes:
        NEW: it is not in the journal.
        FAILED: it failed before.
        BASIS: its row was made by other models or settings.
        CHANGED: its size, mtime or ETag differs.
        VERIFY: ``--verify-hash`` is given. It is read, and labelled only if its bytes differ.
        INODE: its ctime or inode differs. It is read, and labelled only if its bytes differ.
    """

    NEW = "new"
    FAILED = "failed"
    BASIS = "basis"
    CHANGED = "changed"
    VERIFY = "verify"
    INODE = "inode"


@dataclass(frozen=True)
class RunPlan:
    """Counts of the files that a run found, has to label, and misses.

    Attributes:
        found: files that were found.
        pending: found files to label.
        continues_fresh: whether the run resumes an earlier one with ``--fresh``.
        by_cause: pending files by cause.
        known: files that an earlier run found.
        missing: known files that this run did not find.
        order: SHA-256 of the found paths and their positions, in order.
    """

    found: int
    pending: int
    continues_fresh: bool = False
    by_cause: Mapping[PendingCause, int] = field(default_factory=dict, compare=False)
    known: int = field(default=0, compare=False)
    missing: int = field(default=0, compare=False)
    order: bytes = field(default=b"", compare=False)

    def describe(self, change: str) -> str:
        """Describe the pending files by cause; ``change`` says how the basis differs."""
        count = {cause: self.by_cause.get(cause, 0) for cause in PendingCause}
        reread = count[PendingCause.VERIFY] + count[PendingCause.INODE]
        causes = (
            (count[PendingCause.NEW], "new"),
            (count[PendingCause.CHANGED], "changed"),
            (count[PendingCause.FAILED], "failed before"),
            (count[PendingCause.BASIS], f"known, but {change}"),
        )
        causes_text = ", ".join(f"{number:,} {words}" for number, words in causes if number)
        causes_text = (
            f" ({causes_text})" if causes_text and self.pending != count[PendingCause.NEW] else ""
        )
        text = f"{self.pending - reread:,} to be labelled{causes_text}"
        if count[PendingCause.VERIFY]:
            text += f", {count[PendingCause.VERIFY]:,} to be read for --verify-hash"
        if count[PendingCause.INODE]:
            text += (
                f", {count[PendingCause.INODE]:,} to be read again as their ctime or inode changed "
                "(if this happens in every run, use --ignore-inode)"
            )
        return text


class Journal:
    """A run's connection to its journal. Threads may share it.

    Args:
        path: the database.
        basis: digest of models and settings, see ``vision.basis``.
        shard: the run's shard; rows of other shards stay as they are. None without ``--shard``.

    Raises:
        JournalDamaged: the database seems to be damaged; all methods may raise it.
        OutputError: the database can't be read or written; all methods may raise it.
    """

    def __init__(self, path: Path, basis: bytes, shard: Shard | None = None) -> None:
        self.path = path
        self._basis = basis
        self._in_shard = shard.contains if shard else lambda path: True
        self._lock = threading.Lock()
        self._found = 0
        self._added: list[tuple[Any, ...]] = []  # rows to insert
        check_regular(path)
        with translate_sqlite_errors(path):
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise
        self._committed = time.monotonic()

    def _open(self) -> None:
        execute = self._database.execute
        execute("PRAGMA journal_mode = DELETE")
        execute("PRAGMA synchronous = NORMAL")
        if not self.path.stat().st_size:
            self._database.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        check_schema(self._database)
        self._database.create_function("in_shard", 1, self._in_shard)
        self._database.create_function(
            "compute_checksum", len(PHOTO_COLUMNS), compute_fresh_checksum
        )
        self._database.executescript(RUN_TABLES)
        execute("BEGIN IMMEDIATE")
        execute("DELETE FROM notes WHERE 0")  # fails for a read-only file; BEGIN does not

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(OutputError, JournalDamaged):  # the first error counts
            self.close()

    def close(self) -> None:
        """Commit and close the database."""
        try:
            with self._lock_database() as execute:
                if self._database.in_transaction:
                    execute("COMMIT")
        finally:
            self._database.close()

    def plan_run(
        self, found: Iterable[FoundFile], *, fresh: bool, verify: bool, ignore_inode: bool = False
    ) -> RunPlan:
        """Store the found files, and determine which are pending and which are missing.

        Args:
            found: the files, in the order of the report.
            fresh: label all files again. Until a report is published, later calls do not start
                over, so that a killed run resumes.
            verify: read all files, even those with unchanged size and time.
            ignore_inode: do not read files for a changed ctime or inode.
        """
        files = iter(found)
        resumes = fresh and bool(self.read_note(FRESH_NOTE))
        if fresh and not resumes:
            self.write_note(FRESH_NOTE, "begun")
            with self._lock_database() as execute:
                execute(START_OVER)
                execute("DELETE FROM accepted")
                execute("DELETE FROM unreadable")
        order = sha256()
        # Discovery runs outside the lock and outside `translate_sqlite_errors`.
        while chunk := list(islice(files, INSERT_CHUNK_ROWS)):
            with self._lock_database():
                self._insert_found(chunk, order.update)
        with self._lock_database() as execute:
            execute(INDEX_FOUND)
            execute(INSERT_ARRIVALS)
            execute(FIND_MISSING)
            execute(
                INSERT_PENDING, {"all": verify, "basis": self._basis, "ignore_inode": ignore_inode}
            )
            self._found, missing, arrived = (
                execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("found", "missing", "arrivals")
            )
            by_cause = {PendingCause(cause): count for cause, count in execute(COUNT_CAUSES)}
        known = max(0, self._found - arrived) + missing
        pending = sum(by_cause.values())
        return RunPlan(self._found, pending, resumes, by_cause, known, missing, order.digest())

    def _insert_found(self, chunk: list[FoundFile], update: Callable[[bytes], None]) -> None:
        # One statement for many rows takes half the time of a statement per row.
        values: list[object] = []
        for path, size, mtime_ns, _, etag, position, ctime_ns, inode in chunk:
            stamp = clamp_time(mtime_ns) if etag is None else etag
            values += (position, os.fsencode(path), size, stamp, ctime_ns, inode)
        update(repr((values[0::6], values[1::6])).encode())
        rows = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(chunk))
        execute = self._database.execute
        last = execute(
            f"INSERT INTO found (position, path, size, stamp, ctime_ns, inode) VALUES {rows}",
            values,
        ).lastrowid
        for position, item in enumerate(chunk, start=(last or 0) - len(chunk) + 1):
            if item.failure:
                own = position if item.position is None else item.position
                failure = pack_failure(item.failure)
                execute("UPDATE found SET failure = ? WHERE position = ?", (failure, own))

    def pending(self) -> Iterator[Failure | PendingFile]:
        """Yield the pending files, in order.

        ``may_be_known`` is set if the journal has the row of a file of the same size, or if a file
        of that size was yielded shortly before: its row may not be stored yet.
        """
        before: set[int | None] = set()
        sizes: set[int | None] = set()
        for number, values in enumerate(self._query_chunks(NEXT_PENDING, -1, basis=self._basis)):
            if number % CHUNK_ROWS == 0:
                before, sizes = sizes, set()
            _, name, failure, size, stamp, has_known_size = values
            location = _to_found(os.fsdecode(name), size, stamp).location
            if failure:
                yield unpack_failure(location, failure)
                continue
            yield PendingFile(location, bool(has_known_size) or size in sizes or size in before)
            sizes.add(size)

    def find_known(self, path: Location, state: FileState) -> Row | None:
        """Find the row of a file with the same bytes, and return it for ``path``."""
        size = path.size if isinstance(path, Url) else state.size
        values = {"size": size, "digest": state.digest, "basis": self._basis}
        with self._lock_database() as execute:
            found = execute(FIND_KNOWN, values).fetchone()
            return unpack_row(path, check_photo(*found)[1]) if found else None

    def add(self, finished: FinishedFile) -> None:
        """Store a file's row; it is committed about a second later."""
        row, state = finished.row, finished.state or FileState()
        has_failed = row.status is Status.FAILED
        values = (
            *(os.fsencode(row.path), state.size, _change_stamp(state), state.ctime_ns, state.inode),
            *(state.digest, self._basis, int(has_failed), finished.text or pack_row(row)),
        )
        if has_failed and state.digest is None:
            with self._lock_database() as execute:  # inserts all rows before this one
                execute(KEEP_UNREADABLE, values[:1])
        with self._lock:
            self._added.append((*values, compute_checksum(*values)))
            is_full = len(self._added) >= ADD_CHUNK_ROWS
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()
        elif is_full:
            with self._lock_database():  # inserts them
                pass

    def _insert_added(self) -> None:
        added, self._added = self._added, []
        failed_at = PHOTO_COLUMNS.index("failed")
        answered = ((values[0],) for values in added if not values[failed_at])
        self._database.executemany(DROP_UNREADABLE, answered)
        self._database.executemany(ADD_PHOTO, added)

    def commit(self) -> None:
        """Commit all rows and notes."""
        with self._lock_database() as execute:
            if self._database.in_transaction:
                execute("COMMIT")
            execute("BEGIN IMMEDIATE")
            self._committed = time.monotonic()

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all files that were found, in order.

        Raises:
            JournalDamaged: a row is missing.
        """
        given = 0
        for position, size, stamp, *values in self._query_chunks(NEXT_ROWS, -1):
            row = self._unpack_row(*values, position=position)
            if row.failure is not None:
                path, *_, digest = values[:6]
                row = replace(row, accepted=self._is_accepted(path, size, stamp, digest))
            yield row
            given += 1
        if given != self._found:
            raise JournalDamaged(f"it has rows for {given} of {self._found} files")

    def find_moved(self) -> None:
        """Find the missing files that were moved. Call it after all files are labelled."""
        with self._lock_database() as execute:
            execute(FIND_MOVED)

    def count_missing(self) -> int:
        """Count the missing files, except moved, kept and failed ones."""
        with self._lock_database() as execute:
            return int(execute(COUNT_MISSING).fetchone()[0])

    def read_missing_paths(self) -> Iterator[str]:
        """Yield the paths of the missing files in order, except moved and kept ones."""
        for (path,) in self._query_chunks(NEXT_MISSING_PATHS, b""):
            yield os.fsdecode(path)

    def mark_kept(self, paths: Iterable[str]) -> None:
        """Keep the rows of missing files."""
        with self._lock_database():
            self._database.executemany(MARK_KEPT, ((os.fsencode(path),) for path in paths))

    def read_missing_rows(self, include_all: bool = True) -> Iterator[Row]:
        """Yield the last rows of the missing files, in the order of their paths.

        Other models or settings may have made them. Without ``include_all``, only kept files count.
        """
        for _, *values in self._query_chunks(NEXT_MISSING_ROWS, b"", all=include_all):
            yield self._unpack_row(*values, missing=True)

    def forget_missing(self, all_kept: bool = False) -> None:
        """Delete the rows of missing files that are not kept, and the list of new files."""
        with self._lock_database() as execute:
            execute("DELETE FROM arrivals")
            if not all_kept:
                execute(DELETE_MISSING_UNREADABLE)
                execute(DELETE_MISSING)

    def accept_failures(self) -> None:
        """Accept the failed files of this run, each until it changes."""
        with self._lock_database() as execute:
            keys = ((compute_failure_key(*values),) for values in execute(SELECT_FAILED).fetchall())
            self._database.executemany(INSERT_ACCEPTED, keys)

    def _is_accepted(self, *values: Any) -> bool:
        with self._lock_database() as execute:
            return execute(IS_ACCEPTED, (compute_failure_key(*values),)).fetchone() is not None

    def write_note(self, name: str, value: str) -> None:
        """Store a text under a name, for later runs."""
        with self._lock_database() as execute:
            checksum = compute_checksum(name, value)
            execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, value, checksum))

    def read_note(self, name: str) -> str | None:
        """Return the text of a note; None if there is none."""
        with self._lock_database() as execute:
            query = "SELECT name, value, checksum FROM notes WHERE name = ?"
            values = execute(query, (name,)).fetchone()
            return check_note(*values) if values else None

    def delete_notes(self, prefix: str, keep: Collection[str]) -> None:
        """Delete the notes whose names begin with ``prefix``, except those in ``keep``."""
        with self._lock_database() as execute:
            names = execute("SELECT name FROM notes WHERE name GLOB ?", (f"{prefix}*",)).fetchall()
            old = [name for name in names if name[0] not in keep]
            self._database.executemany("DELETE FROM notes WHERE name = ?", old)

    def _unpack_row(self, *values: Any, position: int | None = None, missing: bool = False) -> Row:
        try:
            name, row = check_photo(*values)
            digest = values[PHOTO_COLUMNS.index("digest")]
            return unpack_row(parse_location(os.fsdecode(name)), row, position, missing, digest)
        except ValueError as error:
            raise JournalDamaged(str(error)) from error

    def _query_chunks(
        self, query: str, start: int | bytes, **more: object
    ) -> Iterator[tuple[Any, ...]]:
        """Run a query in chunks by key, so that rows may be written in between."""
        after = start
        while True:
            values = {"after": after, "chunk": CHUNK_ROWS, **more}
            with self._lock_database() as execute:
                chunk = execute(query, values).fetchall()
            yield from chunk
            if len(chunk) < CHUNK_ROWS:
                return
            after = chunk[-1][0]

    @contextmanager
    def _lock_database(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock, translate_sqlite_errors(self.path):
            if self._added:
                self._insert_added()
            yield self._database.execute


def _change_stamp(file: FoundFile | FileState) -> int | str | None:
    """Return the ETag or the mtime of a file. If it or the size differs, the file has changed."""
    return clamp_time(file.mtime_ns) if file.etag is None else file.etag


def _to_found(path: str, size: int | None, stamp: int | str | None) -> FoundFile:
    if isinstance(stamp, str):
        return FoundFile(path, size, etag=stamp)
    return FoundFile(path, size, stamp)
