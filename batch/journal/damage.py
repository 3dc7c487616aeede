"""Finds damage to a journal in its schema, checksums and rows, and renames a damaged journal."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from batch.errors import OutputError
from batch.files.publish import sync_folder
from batch.journal.schema import (
    ALL_NOTES,
    ALL_PHOTOS,
    ALL_UNREADABLE,
    APPLICATION_ID,
    JOURNAL_VERSION,
    TABLES,
    compute_checksum,
)
from batch.journal.sqlite_errors import (
    STATE_REMEDY,
    JournalDamaged,
    check_regular,
    translate_sqlite_errors,
)
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import path_text
from batch.row_json import unpack_row

BROKEN_SUFFIX = ".broken"
# Suffix of the rollback journal that a killed process leaves beside a database.
ROLLBACK_SUFFIX = "-journal"
# First bytes of a database, and the offset of its 4-byte application ID. Source:
# https://www.sqlite.org/fileformat.html
SQLITE_MAGIC = b"SQLite format 3\0"
APPLICATION_ID_OFFSET = 68


def find_damage(journal: Path) -> str | None:
    """Reopen a journal and check it as a whole.

    Returns:
        The damage in words, or None.

    Raises:
        OutputError: the database can't be read.
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
    """Check that a database is a journal of this version.

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
    """Rename a damaged journal and its rollback journal to a free name.

    Args:
        journal: the journal.
        damage: the damage in words.
        given: whether ``--state`` named it; if so, a file that is not a journal is left alone.

    Returns:
        The new name.

    Raises:
        OutputError: it can't be renamed, or it was ``given`` and is not a journal.
    """
    with translate_write_errors(f"journal {path_text(journal)}", STATE_REMEDY, journal):
        with journal.open("rb") as file:
            head = file.read(APPLICATION_ID_OFFSET + 4)
        if given and head and not _is_journal(head):
            raise OutputError(
                f"{path_text(journal)} is not a journal ({damage})",
                "choose another file with --state",
            )
        broken = _find_free_name(journal)
        rollback = journal.with_name(journal.name + ROLLBACK_SUFFIX)
        # Renamed first: SQLite would apply a rollback journal left behind to the next journal.
        if os.path.lexists(rollback):
            rollback.rename(broken.with_name(broken.name + ROLLBACK_SUFFIX))
        journal.rename(broken)
        sync_folder(journal.parent)
    return broken


def _find_free_name(journal: Path) -> Path:
    """Find a name that is free, with and without the rollback suffix; the run holds a lock."""
    for number in count(1):
        end = BROKEN_SUFFIX if number == 1 else f"{BROKEN_SUFFIX}-{number}"
        name = journal.with_name(journal.name + end)
        if not any(os.path.lexists(path) for path in (name, f"{name}{ROLLBACK_SUFFIX}")):
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
    """Check the checksum of a row of ``photos`` or ``unreadable``.

    Returns:
        The path, and the row as JSON.

    Raises:
        ValueError: the checksum differs.
    """
    path, *_, row, checksum = values
    if compute_checksum(*values[:-1]) != checksum:  # type: ignore[arg-type]
        raise ValueError("a row does not match its checksum")
    assert isinstance(path, bytes)
    assert isinstance(row, bytes)
    return path, row


def check_note(name: object, value: object, checksum: object) -> str:
    """Check the checksum of a note, and return its text.

    Raises:
        ValueError: the checksum differs.
    """
    if compute_checksum(name, value) != checksum:  # type: ignore[arg-type]
        raise ValueError("a note does not match its checksum")
    return str(value)


def _is_journal(head: bytes) -> bool:
    number = APPLICATION_ID.to_bytes(4, "big")
    return head.startswith(SQLITE_MAGIC) and head[APPLICATION_ID_OFFSET:] == number
