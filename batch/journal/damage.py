"""What can be wrong with the journal's database: refusals of the system, and damage."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from batch.errors import OutputError
from batch.files.publish import sync_folder
from batch.files.regular_file import open_nonblocking
from batch.journal.schema import (
    ALL_NOTES,
    ALL_PHOTOS,
    ALL_UNREADABLE,
    APPLICATION_ID,
    JOURNAL_VERSION,
    TABLES,
    checksum_of,
)
from batch.location import parse_location
from batch.os_errors import has_access, is_denied, translate_write_errors
from batch.path_text import path_text
from batch.row_json import unpack_row

STATE_REMEDY = "name another place for the journal with --state"

# Results of SQLite that a damaged database gives, but also a disk that fails or is full at the
# wrong moment. Source: https://www.sqlite.org/rescode.html
_SUSPICIOUS = frozenset(
    (
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
        *(sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
    )
)
_ERRNO_BY_CODE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
# What SQLite keeps beside a database, by the end of its name.
COMPANION_SUFFIXES = ("-journal", "-wal", "-shm")
_FULL = f"{os.strerror(errno.ENOSPC)}, for the journal or in the folder for temporary files"


class JournalDamaged(Exception):
    """The database seems not to be what this version of the program wrote.

    ``find_damage`` tells whether it is so: a disk that fails for a moment looks the same.
    """


@contextmanager
def translate_sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into the exceptions of the journal.

    Raises:
        JournalDamaged: the database seems to be damaged, or was written by something else.
        OutputError: anything else is wrong with it.
    """
    with translate_write_errors(f"journal {path_text(path)}", STATE_REMEDY, path):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind of error, the others say more of it. Text that is no UTF-8
            # has none.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _SUSPICIOUS:
                raise JournalDamaged(str(error)) from error
            reason = _find_system_error(path)
            if reason and is_denied(reason):
                raise reason from error
            number = (reason and reason.errno) or _ERRNO_BY_CODE.get(code, errno.EIO)
            words = _FULL if code == sqlite3.SQLITE_FULL else os.strerror(number)
            raise OSError(number, f"{words}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(str(error)) from error


def check_regular(path: Path) -> None:
    """Make sure that SQLite opens no pipe, socket or device, which it would wait for.

    Raises:
        OutputError: one is there, or in the place of what SQLite keeps beside a database.
    """
    for file in _list_database_files(path):
        with suppress(OSError):  # mostly since there is nothing; SQLite finds out about others
            mode = file.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OutputError(
                    f"journal {path_text(path)} can't be used ({path_text(file)} is not a regular "
                    "file)",
                    f"remove that, or {STATE_REMEDY}",
                )


def _list_database_files(path: Path) -> Iterator[Path]:
    yield path
    for suffix in COMPANION_SUFFIXES:
        yield path.with_name(path.name + suffix)


def _find_system_error(path: Path) -> OSError | None:
    """Find out why a database can't be opened or written: SQLite only reports that it can't."""
    for file in _list_database_files(path):
        try:
            os.close(open_nonblocking(os.fspath(file), os.O_RDWR))
        except FileNotFoundError as error:
            if not path.parent.is_dir():
                return error
        except OSError as error:
            return error
    if has_access(path.parent, os.W_OK | os.X_OK):
        return None
    # SQLite makes another file beside it.
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path.parent))


# == Whether a journal is damaged: what a second look finds, and what becomes of it then.

BROKEN_SUFFIX = ".broken"
# What SQLite keeps beside a database that a process was killed over: it belongs to it, and has its
# name with this at the end.
HOT_SUFFIX = "-journal"
# How a database begins, and where in it its application's number lies, of 4 bytes (see
# https://www.sqlite.org/fileformat.html).
SQLITE_MAGIC = b"SQLite format 3\0"
APPLICATION_ID_OFFSET = 68


def find_damage(journal: Path) -> str | None:
    """Open a journal once more and look through all of it; None if it is sound.

    Raises:
        OutputError: the system refuses.
    """
    check_regular(journal)
    try:
        with (
            translate_sqlite_errors(journal),
            closing(sqlite3.connect(journal, isolation_level=None)) as database,
        ):
            check_schema(database)
            (finding,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            if finding != "ok":
                return str(finding)
            _check_values(database)
    except JournalDamaged as damage:
        return str(damage)
    return None


def check_schema(database: sqlite3.Connection) -> None:
    """Make sure that a database is a journal of this version, with its tables.

    Raises:
        JournalDamaged: it is not.
    """
    written_by = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if (written_by, version) != (APPLICATION_ID, JOURNAL_VERSION):
        raise JournalDamaged(
            f"another version of the program wrote it: {version}, not {JOURNAL_VERSION}"
        )
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    if dict(database.execute(query).fetchall()) != TABLES:
        raise JournalDamaged("its tables are not those of a journal")


def rename_damaged(journal: Path, damage: str, given: bool) -> Path:
    """Rename a damaged journal, so that nothing that it holds is lost, and give its new name.

    The name is new each time, and what SQLite keeps beside the database goes along.

    Raises:
        OutputError: it can't be renamed, or it was ``given`` by name and is of another kind.
    """
    with translate_write_errors(f"journal {path_text(journal)}", STATE_REMEDY, journal):
        with journal.open("rb") as file:
            head = file.read(APPLICATION_ID_OFFSET + 4)
        if given and head and not _is_journal(head):
            raise OutputError(
                f"{path_text(journal)} is not a journal ({damage})",
                "name another file with --state",
            )
        broken = _find_free_name(journal)
        hot = journal.with_name(journal.name + HOT_SUFFIX)
        # First, since alone it would be taken for that of the next journal.
        if os.path.lexists(hot):
            hot.rename(broken.with_name(broken.name + HOT_SUFFIX))
        journal.rename(broken)
        sync_folder(journal.parent)
    return broken


def _find_free_name(journal: Path) -> Path:
    """Find a name that neither a file nor what would belong to it has; runs hold a lock."""
    for number in count(1):
        end = BROKEN_SUFFIX if number == 1 else f"{BROKEN_SUFFIX}-{number}"
        name = journal.with_name(journal.name + end)
        if not any(os.path.lexists(path) for path in (name, f"{name}{HOT_SUFFIX}")):
            return name
    raise AssertionError("there is always another number")


def _check_values(database: sqlite3.Connection) -> None:
    for query in (ALL_PHOTOS, ALL_UNREADABLE):
        before = b""
        for values in database.execute(query):
            path, row = check_photo(*values)
            if path <= before:
                raise JournalDamaged("its rows are not in the order of their paths")
            unpack_row(parse_location(os.fsdecode(path)), row)
            before = path
    for values in database.execute(ALL_NOTES):
        check_note(*values)


def check_photo(*values: object) -> tuple[bytes, bytes]:
    """Check a row of the table of photos, and give its path and the row as JSON.

    Raises:
        ValueError: it is not as it was written.
    """
    path, *_, row, checksum = values
    if checksum_of(*values[:-1]) != checksum:  # type: ignore[arg-type]
        raise ValueError("a row is not what was written")
    assert isinstance(path, bytes)
    assert isinstance(row, bytes)
    return path, row


def check_note(name: object, value: object, checksum: object) -> str:
    """Check a row of the table of notes, and give its text.

    Raises:
        ValueError: it is not as it was written.
    """
    if checksum_of(name, value) != checksum:  # type: ignore[arg-type]
        raise ValueError("a note is not what was written")
    return str(value)


def _is_journal(head: bytes) -> bool:
    number = APPLICATION_ID.to_bytes(4, "big")
    return head.startswith(SQLITE_MAGIC) and head[APPLICATION_ID_OFFSET:] == number
