"""What can be wrong with the journal's database, in the terms of the rest of the program."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.names import path_text
from batch.reports.publish import writing

_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
}


class JournalDamaged(Exception):
    """The database is not what this version of the program wrote."""


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system refuse into the exceptions of the journal.

    Raises:
        JournalDamaged: the database is damaged, or was written by something else.
        OutputError: anything else is wrong with it.
    """
    with writing(f"journal {path_text(path)}"):
        try:
            yield
        except sqlite3.OperationalError as error:
            # The low byte is the kind of error, the others say more of it. Text that is no UTF-8
            # has none, and a table that is missing the plainest.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code == sqlite3.SQLITE_ERROR:
                raise JournalDamaged(str(error)) from error
            number = _gone(path) or _NUMBERS.get(code, errno.EIO)
            raise OSError(number, f"{os.strerror(number)}: {error}") from error
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(str(error)) from error


def _gone(path: Path) -> int | None:
    """Find out whether there is no place for a file, of which SQLite tells in many ways."""
    if not path.parent.is_dir():
        return errno.ENOENT
    return errno.EISDIR if path.is_dir() else None
