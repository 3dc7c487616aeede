"""Errors of SQLite and the system, translated into those of the journal."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch.errors import OutputError
from batch.files.regular_file import open_nonblocking
from batch.os_errors import has_access, is_denied, translate_write_errors
from batch.path_text import path_text

STATE_REMEDY = "choose another path for the journal with --state"

# SQLite's result codes for a damaged database; a full or failing disk can cause them as well.
# Source: https://www.sqlite.org/rescode.html
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
# Suffixes of the files that SQLite keeps beside a database.
COMPANION_SUFFIXES = ("-journal", "-wal", "-shm")
_FULL = f"{os.strerror(errno.ENOSPC)}, for the {{}} or in the temporary folder"


class JournalDamaged(Exception):
    """The database seems to be damaged, or written by another version of the program.

    A transient disk error looks the same: ``damage.find_damage`` tells them apart.
    """


@contextmanager
def translate_sqlite_errors(
    path: Path, noun: str = "journal", remedy: str = STATE_REMEDY
) -> Iterator[None]:
    """Raise the journal's exceptions for errors of SQLite and the system.

    Args:
        path: the database.
        noun: what messages call it.
        remedy: how to choose another path.

    Raises:
        JournalDamaged: the database seems to be damaged or is not a journal.
        OutputError: any other error, such as a full disk or a database in use.
    """
    with translate_write_errors(f"{noun} {path_text(path)}", remedy, path):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the primary result code. Errors of decoding UTF-8 have no code.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _SUSPICIOUS:
                raise JournalDamaged(str(error)) from error
            reason = _find_system_error(path)
            if reason and is_denied(reason):
                raise reason from error
            number = (reason and reason.errno) or _ERRNO_BY_CODE.get(code, errno.EIO)
            words = _FULL.format(noun) if code == sqlite3.SQLITE_FULL else os.strerror(number)
            raise OSError(number, f"{words}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(str(error)) from error


def check_regular(path: Path, noun: str = "journal", remedy: str = f"or {STATE_REMEDY}") -> None:
    """Check that the database and its companions are not pipes, sockets or devices.

    SQLite would wait for them forever.

    Args:
        path: the database.
        noun: what messages call it.
        remedy: what to do besides, or instead of, removing the file.

    Raises:
        OutputError: one of them is.
    """
    for file in _list_database_files(path):
        with suppress(OSError):  # mostly a missing file; SQLite reports other errors
            mode = file.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OutputError(
                    f"{noun} {path_text(path)} can't be used: {path_text(file)} is not a regular "
                    "file",
                    f"remove that file, {remedy}",
                )


def _list_database_files(path: Path) -> Iterator[Path]:
    yield path
    for suffix in COMPANION_SUFFIXES:
        yield path.with_name(path.name + suffix)


def _find_system_error(path: Path) -> OSError | None:
    """Find the OSError that caused an error of SQLite, which SQLite does not report."""
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
    # SQLite creates its companions in the folder.
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path.parent))
