"""What can be wrong with the journal's database: refusals of the system, and damage."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.names import path_text
from batch.reports.publish import writing

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
    with writing(f"journal {path_text(path)}", ELSEWHERE):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the kind of error, the others say more of it. Text that is no UTF-8
            # has none.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _SUSPICIOUS:
                raise JournalDamaged(str(error)) from error
            number = _reason_of_the_system(path) or _NUMBERS.get(code, errno.EIO)
            words = _FULL if code == sqlite3.SQLITE_FULL else os.strerror(number)
            raise OSError(number, f"{words}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(str(error)) from error


def _reason_of_the_system(path: Path) -> int | None:
    """Find out why a file can't be opened: SQLite only reports that it can't."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        # SQLite makes another file beside it.
        return None if os.access(path.parent, os.W_OK | os.X_OK) else errno.EACCES
    except OSError as error:
        if error.errno == errno.ENOENT and path.parent.is_dir():
            return None if os.access(path.parent, os.W_OK | os.X_OK) else errno.EACCES
        return error.errno
