"""The journal: what is known of every file, on disk, so that no work is done twice.

An SQLite database beside the report. Every finished file's row goes into it and is on disk a
second later; a run that was killed goes on from there, and the next night's run labels only
what is new or changed. The order of the report comes from here, not from memory.
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
from batch.journal.damage import (
    JournalDamaged,
    check_note,
    check_photo,
    check_regular,
    check_schema,
    translate_sqlite_errors,
)
from batch.journal.schema import (
    ADD_PHOTO,
    COUNT_CAUSES,
    COUNT_GONE,
    DELETE_GONE,
    DELETE_GONE_ANSWERS,
    DROP_ANSWER,
    FIND_GONE,
    FIND_KNOWN,
    FIND_MOVED,
    INDEX_FOUND,
    INSERT_ACCEPTED,
    INSERT_ARRIVALS,
    INSERT_PENDING,
    IS_ACCEPTED,
    KEEP_ANSWER,
    MARK_KEPT,
    NEXT_GONE,
    NEXT_MISSING,
    NEXT_PENDING,
    NEXT_ROWS,
    PHOTO_COLUMNS,
    RUN_TABLES,
    SCHEMA,
    SELECT_FAILED,
    START_OVER,
    checksum_of,
    checksum_of_fresh,
    failure_key,
)
from batch.location import Location, Url, parse_location
from batch.records import Failure, FileState, FinishedFile, PendingFile, Row, Status
from batch.row_json import pack_failure, pack_row, unpack_failure, unpack_row
from batch.shard import Shard

# Seconds between commits: what a kill can cost.
COMMIT_SECONDS = 1.0
# Rows that are taken from the database at a time.
CHUNK_ROWS = 1_000
INSERT_CHUNK_ROWS = 200
ADD_CHUNK_ROWS = 250  # rows that are labelled
# Under this name a note says that a run has started over, and no report was published since.
FRESH_NOTE = "fresh"


class PendingCause(StrEnum):
    """Why a file is pending; the first that holds counts.

    ``basis``: it is known under other models or settings. ``verify`` and ``inode``: it is read, and
    labelled only if its bytes are others, because ``--verify-hash`` asks for it, or because its
    ctime or inode changed.
    """

    NEW = "new"
    FAILED = "failed"
    BASIS = "basis"
    CHANGED = "changed"
    VERIFY = "verify"
    INODE = "inode"


@dataclass(frozen=True)
class RunPlan:
    """What a run has found and has to do.

    Attributes:
        found: files that were found.
        pending: those of them that are to be labelled.
        continues_fresh: whether the run goes on with a fresh start of an earlier one.
        find_known: files that an earlier run found, whether or not this one did.
        gone: those of them that this run did not find.
        order: digest of the paths that were found and of their positions, in order.
    """

    found: int
    pending: int
    continues_fresh: bool = False
    by_cause: Mapping[PendingCause, int] = field(default_factory=dict, compare=False)
    find_known: int = field(default=0, compare=False)
    gone: int = field(default=0, compare=False)
    order: bytes = field(default=b"", compare=False)

    def describe(self, change: str) -> str:
        """Tell what is to be done and why; ``change`` is what the basis differs in."""
        count = {cause: self.by_cause.get(cause, 0) for cause in PendingCause}
        again = count[PendingCause.VERIFY] + count[PendingCause.INODE]
        causes = (
            (count[PendingCause.NEW], "new"),
            (count[PendingCause.CHANGED], "changed"),
            (count[PendingCause.FAILED], "failed before"),
            (count[PendingCause.BASIS], f"known, but {change}"),
        )
        told = ", ".join(f"{number:,} {words}" for number, words in causes if number)
        told = f" ({told})" if told and self.pending != count[PendingCause.NEW] else ""
        text = f"{self.pending - again:,} to be labelled{told}"
        if count[PendingCause.VERIFY]:
            text += f", {count[PendingCause.VERIFY]:,} to be read for --verify-hash"
        if count[PendingCause.INODE]:
            text += (
                f", {count[PendingCause.INODE]:,} to be read again as their ctime or inode changed "
                "(if that is so on every run, use --ignore-inode)"
            )
        return text


class Journal:
    """One run's view of the database; ``basis`` is what its answers depend on.

    What is known of files of other shards than ``shard`` is kept as it is, None for a run of all.
    Safe to share between threads.

    Raises:
        JournalDamaged: the database is not what this version of the program wrote; all
            methods may raise it.
        OutputError: the system refuses, or another program holds the database; likewise.
    """

    def __init__(self, path: Path, basis: bytes, shard: Shard | None = None) -> None:
        self.path = path
        self._basis = basis
        self._in_shard = shard.contains if shard else lambda path: True
        self._lock = threading.Lock()
        self._found = 0
        self._added: list[tuple[Any, ...]] = []  # rows that are not in the database yet
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
        run = self._database.execute
        run("PRAGMA journal_mode = DELETE")
        run("PRAGMA synchronous = NORMAL")
        if not self.path.stat().st_size:
            self._database.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        check_schema(self._database)
        self._database.create_function("in_shard", 1, self._in_shard)
        self._database.create_function("checksum_of", 10, checksum_of_fresh)
        self._database.executescript(RUN_TABLES)
        run("BEGIN IMMEDIATE")
        run("DELETE FROM notes WHERE 0")  # fails in a file that may only be read, as BEGIN does not

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
        # What went wrong first is what counts, and may be why nothing can be written now.
        with suppress(OutputError, JournalDamaged):
            self.close()

    def close(self) -> None:
        """Put everything on disk and let go of the database."""
        try:
            with self._lock_database() as run:
                if self._database.in_transaction:
                    run("COMMIT")
        finally:
            self._database.close()

    def plan_run(
        self, found: Iterable[FoundFile], *, fresh: bool, verify: bool, ignore_inode: bool = False
    ) -> RunPlan:
        """Take in what discovery found, in its order, and find out what is to be done.

        With ``fresh`` no earlier answer counts, but only once until a report is published
        (``write_note(FRESH, "")``): a run that starts over and is cut off goes on. With ``verify`` no
        file is taken to be unchanged for its size and time, and with ``ignore_inode`` one is
        although its ctime or inode differ.
        """
        files = iter(found)
        goes_on = fresh and bool(self.read_note(FRESH_NOTE))
        if fresh and not goes_on:
            self.write_note(FRESH_NOTE, "begun")
            with self._lock_database() as run:
                run(START_OVER)
                run("DELETE FROM accepted")
                run("DELETE FROM unreadable")
        order = sha256()
        # Discovery runs outside of the lock and of the translation of the database's errors.
        while chunk := list(islice(files, INSERT_CHUNK_ROWS)):
            with self._lock_database():
                self._insert_found(chunk, order.update)
        with self._lock_database() as run:
            run(INDEX_FOUND)
            run(INSERT_ARRIVALS)
            run(FIND_GONE)
            run(INSERT_PENDING, {"all": verify, "basis": self._basis, "ignore_inode": ignore_inode})
            self._found, gone, arrived = (
                run(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("found", "gone", "arrivals")
            )
            by_cause = {PendingCause(cause): count for cause, count in run(COUNT_CAUSES)}
        known = max(0, self._found - arrived) + gone
        pending = sum(by_cause.values())
        return RunPlan(self._found, pending, goes_on, by_cause, known, gone, order.digest())

    def _insert_found(self, chunk: list[FoundFile], see: Callable[[bytes], None]) -> None:
        # One statement for many rows takes half of the time of as many statements.
        values: list[object] = []
        for path, size, mtime_ns, _, etag, position, ctime_ns, inode in chunk:
            stamp = clamp_time(mtime_ns) if etag is None else etag
            values += (position, os.fsencode(path), size, stamp, ctime_ns, inode)
        see(repr((values[0::6], values[1::6])).encode())
        rows = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(chunk))
        run = self._database.execute
        last = run(
            f"INSERT INTO found (position, path, size, stamp, ctime_ns, inode) VALUES {rows}",
            values,
        ).lastrowid
        for position, item in enumerate(chunk, start=(last or 0) - len(chunk) + 1):
            if item.failure:
                own = position if item.position is None else item.position
                failure = pack_failure(item.failure)
                run("UPDATE found SET failure = ? WHERE position = ?", (failure, own))

    def pending(self) -> Iterator[Failure | PendingFile]:
        """Give the files that are to be labelled, in order.

        A file may be known if a row is known of one of its size, or if one of its size comes just
        before it, whose row is not here yet.
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
        """Look for the row of a file with the same bytes, and give it to ``path``."""
        size = path.size if isinstance(path, Url) else state.size
        values = {"size": size, "digest": state.digest, "basis": self._basis}
        with self._lock_database() as run:
            found = run(FIND_KNOWN, values).fetchone()
            return unpack_row(path, check_photo(*found)[1]) if found else None

    def add(self, finished: FinishedFile) -> None:
        """Keep a file's row; it is on disk about a second later."""
        row, state = finished.row, finished.state or FileState()
        has_failed = row.status is Status.FAILED
        values = (
            *(os.fsencode(row.path), state.size, _change_stamp(state), state.ctime_ns, state.inode),
            *(state.digest, self._basis, int(has_failed), finished.text or pack_row(row)),
        )
        if has_failed and state.digest is None:
            with self._lock_database() as run:  # which adds all rows before this one
                run(KEEP_ANSWER, values[:1])
        with self._lock:
            self._added.append((*values, checksum_of(*values)))
            is_full = len(self._added) >= ADD_CHUNK_ROWS
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()
        elif is_full:
            with self._lock_database():  # which puts them into the database
                pass

    def _insert_added(self) -> None:
        added, self._added = self._added, []
        failed_at = PHOTO_COLUMNS.index("failed")
        answered = ((values[0],) for values in added if not values[failed_at])
        self._database.executemany(DROP_ANSWER, answered)
        self._database.executemany(ADD_PHOTO, added)

    def commit(self) -> None:
        """Put everything on disk."""
        with self._lock_database() as run:
            if self._database.in_transaction:
                run("COMMIT")
            run("BEGIN IMMEDIATE")
            self._committed = time.monotonic()

    def rows(self) -> Iterator[Row]:
        """Give the rows of all files that were found, in order.

        Raises:
            JournalDamaged: one that was there or was added is not, besides what all methods raise.
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
        """Find out which of the files that are gone lie elsewhere now: once all are labelled."""
        with self._lock_database() as run:
            run(FIND_MOVED)

    def count_gone(self) -> int:
        """Count the photos that an earlier run labelled, and that are nowhere now.

        Those that are kept or lie elsewhere are not among them, nor files that failed.
        """
        with self._lock_database() as run:
            return int(run(COUNT_GONE).fetchone()[0])

    def read_gone(self) -> Iterator[str]:
        """Give the paths of these photos and of files that failed, in order."""
        for (path,) in self._query_chunks(NEXT_GONE, b""):
            yield os.fsdecode(path)

    def mark_kept(self, paths: Iterable[str]) -> None:
        """Keep what is known of files that are gone, for they may come back."""
        with self._lock_database():
            self._database.executemany(MARK_KEPT, ((os.fsencode(path),) for path in paths))

    def read_missing(self, all_gone: bool = True) -> Iterator[Row]:
        """Give the last rows of files that were not found, or only of those that are kept.

        They come in their paths' order. Rows of other models and settings are among them.
        """
        for _, *values in self._query_chunks(NEXT_MISSING, b"", all=all_gone):
            yield self._unpack_row(*values, missing=True)

    def forget_missing(self, all_kept: bool = False) -> None:
        """Forget the shard's files that are gone and not kept, and that files are new."""
        with self._lock_database() as run:
            run("DELETE FROM arrivals")
            if not all_kept:
                run(DELETE_GONE_ANSWERS)
                run(DELETE_GONE)

    def accept_failures(self) -> None:
        """Take the failures of this run for known ones, until their files change."""
        with self._lock_database() as run:
            keys = ((failure_key(*values),) for values in run(SELECT_FAILED).fetchall())
            self._database.executemany(INSERT_ACCEPTED, keys)

    def _is_accepted(self, *values: Any) -> bool:
        with self._lock_database() as run:
            return run(IS_ACCEPTED, (failure_key(*values),)).fetchone() is not None

    def write_note(self, name: str, value: str) -> None:
        """Keep a text under a name for later runs."""
        with self._lock_database() as run:
            checksum = checksum_of(name, value)
            run("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, value, checksum))

    def read_note(self, name: str) -> str | None:
        """Give the text that was kept under a name."""
        with self._lock_database() as run:
            query = "SELECT name, value, checksum FROM notes WHERE name = ?"
            values = run(query, (name,)).fetchone()
            return check_note(*values) if values else None

    def delete_notes(self, start: str, but: Collection[str]) -> None:
        """Forget the notes whose names start like this (no wildcards), ``but`` for some."""
        with self._lock_database() as run:
            names = run("SELECT name FROM notes WHERE name GLOB ?", (f"{start}*",)).fetchall()
            old = [name for name in names if name[0] not in but]
            self._database.executemany("DELETE FROM notes WHERE name = ?", old)

    def _unpack_row(self, *values: Any, position: int | None = None, missing: bool = False) -> Row:
        try:
            name, row = check_photo(*values)
            return unpack_row(parse_location(os.fsdecode(name)), row, position, missing)
        except ValueError as error:
            raise JournalDamaged(str(error)) from error

    def _query_chunks(
        self, query: str, start: int | bytes, **more: object
    ) -> Iterator[tuple[Any, ...]]:
        """Run a query from one key on to the next, so that writing in between disturbs nothing."""
        after = start
        while True:
            values = {"after": after, "chunk": CHUNK_ROWS, **more}
            with self._lock_database() as run:
                chunk = run(query, values).fetchall()
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
    """Give what tells a file from its old self, beside its size."""
    return clamp_time(file.mtime_ns) if file.etag is None else file.etag


def _to_found(path: str, size: int | None, stamp: int | str | None) -> FoundFile:
    if isinstance(stamp, str):
        return FoundFile(path, size, etag=stamp)
    return FoundFile(path, size, stamp)
