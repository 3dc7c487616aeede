"""What can be wrong with the journal's database: refusals of the system, and damage."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.errors import OutputError
from batch.files.publish import writing
from batch.files.regular_file import open_without_waiting
from batch.os_errors import is_denied, may_use
from batch.path_text import path_text

ELSEWHERE = "name another place for the journal with --state"

# Results of SQLite that a damaged database gives, but also a disk that fails or is full at the
# wrong moment. Source: https://www.sqlite.org/rescode.html
_SUSPICIOUS = frozenset(
    (
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB),
        *(sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH),
    )
)
_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}
# What SQLite keeps beside a database, by the end of its name.
COMPANIONS = ("-journal", "-wal", "-shm")
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
    with writing(f"journal {path_text(path)}", ELSEWHERE, path):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind of error, the others say more of it. Text that is no UTF-8
            # has none.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _SUSPICIOUS:
                raise JournalDamaged(str(error)) from error
            reason = _reason_of_the_system(path)
            if reason and is_denied(reason):
                raise reason from error
            number = (reason and reason.errno) or _NUMBERS.get(code, errno.EIO)
            words = _FULL if code == sqlite3.SQLITE_FULL else os.strerror(number)
            raise OSError(number, f"{words}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(str(error)) from error


def check_regular(path: Path) -> None:
    """Make sure that SQLite opens no pipe, socket or device, which it would wait for.

    Raises:
        OutputError: one is there, or in the place of what SQLite keeps beside a database.
    """
    for file in _files_of(path):
        with suppress(OSError):  # mostly since there is nothing; SQLite finds out about others
            mode = file.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OutputError(
                    f"journal {path_text(path)} can't be used ({path_text(file)} is not a regular "
                    "file)",
                    f"remove that, or {ELSEWHERE}",
                )


def _files_of(path: Path) -> Iterator[Path]:
    yield path
    for suffix in COMPANIONS:
        yield path.with_name(path.name + suffix)


def _reason_of_the_system(path: Path) -> OSError | None:
    """Find out why a database can't be opened or written: SQLite only reports that it can't."""
    for file in _files_of(path):
        try:
            os.close(open_without_waiting(os.fspath(file), os.O_RDWR))
        except FileNotFoundError as error:
            if not path.parent.is_dir():
                return error
        except OSError as error:
            return error
    if may_use(path.parent, os.W_OK | os.X_OK):
        return None
    # SQLite makes another file beside it.
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path.parent))
