"""The operations of a report: an SQLite database with all that was made, moved and written.

An operation is recorded as intended before it is done, and as done afterwards, in batches. So
after a kill ``list_unfinished`` returns all that may have been done, and no draft is lost. What an
action has done with a photo is its newest operation that is done; undoing it makes the one before
it the newest.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from batch.applying.operation_row import COLUMNS, Operation, State, parse_operation, to_values
from batch.errors import OutputError
from batch.files.publish import resolve_path
from batch.files.regular_file import open_lockable
from batch.journal.path import find_url_journal_path
from batch.journal.sqlite_errors import JournalDamaged, check_regular, translate_sqlite_errors
from batch.location import Location, Url
from batch.path_text import path_text

APPLICATION_ID = 0x424C4150
OPERATIONS_VERSION = 1
CHUNK_ROWS = 500  # rows per query
NOUN = "record of operations"
REMEDY = "move it away; what was done earlier can then neither be recognised nor undone"

_NAMES = ", ".join(COLUMNS)
_SCHEMA = f"""
CREATE TABLE operations (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, state TEXT NOT NULL, kind TEXT NOT NULL,
    action BLOB NOT NULL, source BLOB NOT NULL, how TEXT NOT NULL, wanted BLOB,
    number INTEGER NOT NULL, target BLOB, previous BLOB, digest BLOB,
    source_key TEXT, target_key TEXT, before BLOB, written BLOB,
    content BLOB, draft BLOB, after_run INTEGER NOT NULL
);
CREATE INDEX by_source ON operations (action, source, id) WHERE state = 'done';
CREATE INDEX by_target ON operations (target, action, id) WHERE state = 'done';
CREATE INDEX by_wanted ON operations (wanted, number) WHERE state = 'done';
CREATE INDEX by_run ON operations (run, id) WHERE state = 'done';
CREATE INDEX unfinished ON operations (state) WHERE state IN ('intended', 'undoing');
CREATE TABLE runs (run INTEGER PRIMARY KEY, begun REAL NOT NULL, undone INTEGER NOT NULL DEFAULT 0);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {OPERATIONS_VERSION};
"""
_STATEMENTS = {line for line in re.split(r"(?<=;)\n", _SCHEMA.strip()) if line[:6] == "CREATE"}
# Tables of this run, in a temporary file: the photos that matched, and the names it will use.
_RUN_TABLES = """
CREATE TEMP TABLE seen (source BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE reserved (wanted BLOB, number INTEGER, source BLOB, PRIMARY KEY (wanted, number))
    WITHOUT ROWID;
"""
INSERT = f"""
INSERT INTO operations ({_NAMES.replace(", id,", ",")})
VALUES ({", ".join("?" * (len(COLUMNS) - 1))})
"""
COMPLETE = """
UPDATE operations SET state = 'done', source_key = ?, target_key = ?, draft = NULL WHERE id = ?
"""
DROP = "DELETE FROM operations WHERE id = ?"
SET_STATE = "UPDATE operations SET state = ?, draft = ? WHERE id = ?"
ADOPT = "UPDATE operations SET after_run = 1 WHERE id = ?"
SET_KEYS = "UPDATE operations SET source_key = ?, target_key = ?, digest = ? WHERE id = ?"
FIND_CURRENT = f"""
SELECT {_NAMES} FROM operations WHERE action = ? AND source = ? AND state = 'done'
ORDER BY id DESC LIMIT 1
"""
FIND_BY_TARGET = f"""
SELECT {_NAMES} FROM operations WHERE target = ? AND action = ? AND state = 'done'
ORDER BY id DESC LIMIT 1
"""
LAST_NUMBER = "SELECT max(number) FROM operations WHERE wanted = ? AND state = 'done'"
LAST_RESERVED = "SELECT max(number) FROM reserved WHERE wanted = ?"
FIND_RESERVED = "SELECT source FROM reserved WHERE wanted = ? AND number = ?"
RESERVE = "INSERT OR REPLACE INTO reserved VALUES (?, ?, ?)"
MARK_SEEN = "INSERT OR IGNORE INTO seen VALUES (?)"
NEXT_UNSEEN = f"""
SELECT {_NAMES} FROM operations AS one
WHERE action = :action AND state = 'done' AND (source, id) > (:source, :id)
AND target IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM seen WHERE seen.source = one.source)
AND NOT EXISTS (
    SELECT 1 FROM operations AS later WHERE later.action = one.action
    AND later.source = one.source AND later.state = 'done' AND later.id > one.id
)
ORDER BY source, id LIMIT :chunk
"""
NEXT_OF_RUN = f"""
SELECT {_NAMES} FROM operations WHERE run = ? AND id < ? AND state = 'done'
ORDER BY id DESC LIMIT ?
"""
ADD_RUN = "INSERT INTO runs (begun) VALUES (?)"
LIST_ACTIONS = """
SELECT DISTINCT action FROM operations WHERE run = ? AND state = 'done' ORDER BY action
"""
UNFINISHED = f"SELECT {_NAMES} FROM operations WHERE state IN ('intended', 'undoing') ORDER BY id"
LAST_RUN = """
SELECT run, undone FROM runs WHERE run < ?
AND EXISTS (SELECT 1 FROM operations WHERE operations.run = runs.run AND state = 'done')
ORDER BY run DESC LIMIT 1
"""


def find_operations_path(report: Location, folder: Path) -> Path:
    """Return the path of a report's operations: a hidden file beside it.

    Args:
        report: the report.
        folder: the folder for reports at URLs.
    """
    if isinstance(report, Url):
        path = find_url_journal_path(report.text, folder)
        return path.with_name(f"{path.stem}.applied")
    path = resolve_path(report)
    return path.with_name(f".{path.name}.applied")


class Operations:
    """A connection to the operations of a report.

    Args:
        path: the database; it is created unless ``dry_run``.
        dry_run: read only; a missing database is empty.

    Raises:
        OutputError: the database can't be used; all methods may raise it.
    """

    def __init__(self, path: Path, dry_run: bool) -> None:
        self.path = path
        self._run = 0  # 0 until the first operation is recorded
        self._connect = self._open_database(path, dry_run)

    def _open_database(self, path: Path, dry_run: bool) -> sqlite3.Connection:
        with _translate_errors(path):
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise OutputError(f"the {NOUN} {path_text(path)} is not a regular file", REMEDY)
        check_regular(path, NOUN, "then run again")
        with _translate_errors(path):
            # An empty file is left by a process that was killed before its first operation.
            if dry_run and not (os.path.lexists(path) and path.stat().st_size):
                database = sqlite3.connect(":memory:", isolation_level=None)
            else:
                if not dry_run:
                    # SQLite would follow a symbolic link.
                    os.close(open_lockable(path, create=True))
                database = sqlite3.connect(path, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = DELETE")
                database.execute("PRAGMA synchronous = FULL")
                if not database.execute("PRAGMA schema_version").fetchone()[0]:
                    database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                self._check_version(database)
                database.executescript(_RUN_TABLES)
            except BaseException:
                database.close()
                raise
        return database

    def _check_version(self, database: sqlite3.Connection) -> None:
        written_by = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if (written_by, version) != (APPLICATION_ID, OPERATIONS_VERSION):
            raise JournalDamaged(f"another program or version wrote it: {version}")
        tables = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if {f"{sql};" for (sql,) in tables} != _STATEMENTS:
            raise JournalDamaged("another version wrote it: its tables are different")

    def __enter__(self) -> Operations:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            with suppress(OutputError):  # the first error counts
                self.commit()
        else:
            self.commit()
        self._connect.close()

    def commit(self) -> None:
        """Write all changes to the disk."""
        with _translate_errors(self.path):
            if self._connect.in_transaction:
                self._connect.execute("COMMIT")

    def record_intents(self, operations: Iterable[Operation]) -> list[Operation]:
        """Record operations before they are done; return them with their numbers."""
        recorded = []
        with _translate_errors(self.path):
            self._begin()
            if not self._run:
                cursor = self._connect.execute(ADD_RUN, (time.time(),))
                self._run = cursor.lastrowid or 0
            for operation in operations:
                numbered = replace(operation, run=self._run, state=State.INTENDED)
                values = [value for name, value in to_values(numbered) if name != "id"]
                cursor = self._connect.execute(INSERT, values)
                recorded.append(replace(numbered, id=cursor.lastrowid or 0))
        self.commit()
        return recorded

    def complete(
        self, operation: Operation, source_key: str | None, target_key: str | None
    ) -> None:
        """Record that an operation is done; ``commit`` makes it durable."""
        self._change(COMPLETE, source_key, target_key, operation.id)

    def drop(self, operation: Operation) -> None:
        """Forget an operation that was not done."""
        self._change(DROP, operation.id)

    def set_state(self, operation: Operation, state: State, draft: bytes | None = None) -> None:
        """Record the state of an operation, and the temporary file of its undoing."""
        self._change(SET_STATE, state.value, draft, operation.id)

    def set_keys(
        self,
        operation: Operation,
        source_key: str | None,
        target_key: str | None,
        digest: bytes | None,
    ) -> None:
        """Record new states of the files of an operation that needs not be done again."""
        self._change(SET_KEYS, source_key, target_key, digest, operation.id)

    def adopt(self, operation: Operation) -> None:
        """Record that a run found the content of an operation written."""
        self._change(ADOPT, operation.id)

    def mark_undone(self, run: int) -> None:
        """Record that all of a run was undone, or could not be."""
        self._change("UPDATE runs SET undone = 1 WHERE run = ?", run)

    def find_current(self, action: bytes, source: bytes) -> Operation | None:
        """Find the newest operation of an action on a photo."""
        return self._find(FIND_CURRENT, action, source)

    def find_by_target(self, action: bytes, target: bytes) -> Operation | None:
        """Find the newest operation of an action that left a file at a path."""
        return self._find(FIND_BY_TARGET, target, action)

    def find_last_number(self, wanted: bytes) -> int:
        """Find the last number that was given to a name; 0 for none."""
        with _translate_errors(self.path):
            numbers = (
                self._connect.execute(query, (wanted,)).fetchone()[0]
                for query in (LAST_NUMBER, LAST_RESERVED)
            )
            return max(number or 0 for number in numbers)

    def reserve(self, wanted: bytes, number: int, source: bytes) -> None:
        """Reserve a numbered name for a photo until the end of the run."""
        with _translate_errors(self.path):
            self._connect.execute(RESERVE, (wanted, number, source))

    def find_reserved(self, wanted: bytes, number: int) -> bytes | None:
        """Find the photo for which a name is reserved."""
        with _translate_errors(self.path):
            row = self._connect.execute(FIND_RESERVED, (wanted, number)).fetchone()
            return row[0] if row else None

    def mark_seen(self, source: bytes) -> bool:
        """Note that a photo matches; return False if it was noted before."""
        with _translate_errors(self.path):
            return bool(self._connect.execute(MARK_SEEN, (source,)).rowcount)

    def list_unseen(self, action: bytes) -> Iterator[Operation]:
        """Yield the newest operations on photos that were not seen, if they left a file."""
        after: tuple[bytes, int] = (b"", 0)
        while True:
            given = {"action": action, "source": after[0], "id": after[1], "chunk": CHUNK_ROWS}
            with _translate_errors(self.path):
                rows = self._connect.execute(NEXT_UNSEEN, given).fetchall()
                found = [parse_operation(row) for row in rows]
            yield from found
            if len(found) < CHUNK_ROWS:
                return
            after = found[-1].source, found[-1].id

    def find_last_run(self, before: int = 2**63 - 1) -> tuple[int, bool] | None:
        """Find the last run before another one that has done operations.

        Returns:
            Its number, and whether an undo has left these operations, see ``mark_undone``.
        """
        with _translate_errors(self.path):
            row = self._connect.execute(LAST_RUN, (before,)).fetchone()
            return (row[0], bool(row[1])) if row else None

    def find_time(self, run: int) -> float:
        """Find when a run began, in seconds since 1970."""
        with _translate_errors(self.path):
            row = self._connect.execute("SELECT begun FROM runs WHERE run = ?", (run,)).fetchone()
            return float(row[0])

    def list_actions(self, run: int) -> list[bytes]:
        """List the names of the actions of a run."""
        with _translate_errors(self.path):
            return [row[0] for row in self._connect.execute(LIST_ACTIONS, (run,))]

    def list_run(self, run: int) -> Iterator[Operation]:
        """Yield what a run did, the last first."""
        before = 2**63 - 1
        while True:
            with _translate_errors(self.path):
                rows = self._connect.execute(NEXT_OF_RUN, (run, before, CHUNK_ROWS)).fetchall()
                found = [parse_operation(row) for row in rows]
            yield from found
            if len(found) < CHUNK_ROWS:
                return
            before = found[-1].id

    def list_unfinished(self) -> list[Operation]:
        """Return the operations that a killed run may have done, or undone."""
        with _translate_errors(self.path):
            return [parse_operation(row) for row in self._connect.execute(UNFINISHED)]

    def read_note(self, name: str) -> str:
        """Read a note; empty if it is missing."""
        with _translate_errors(self.path):
            query = "SELECT value FROM notes WHERE name = ?"
            row = self._connect.execute(query, (name,)).fetchone()
            return row[0] if row else ""

    def write_note(self, name: str, value: str) -> None:
        """Write a note."""
        self._change("INSERT OR REPLACE INTO notes VALUES (?, ?)", name, value)

    def _find(self, query: str, *values: object) -> Operation | None:
        with _translate_errors(self.path):
            row = self._connect.execute(query, values).fetchone()
            return parse_operation(row) if row else None

    def _change(self, statement: str, *values: object) -> None:
        with _translate_errors(self.path):
            self._begin()
            self._connect.execute(statement, values)

    def _begin(self) -> None:
        if not self._connect.in_transaction:
            self._connect.execute("BEGIN IMMEDIATE")


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into an ``OutputError`` that names the database."""
    try:
        with translate_sqlite_errors(path, NOUN, "free some space there or change its permissions"):
            yield
    except JournalDamaged as damage:
        raise OutputError(
            f"the {NOUN} {path_text(path)} can't be used ({damage})", REMEDY
        ) from damage
