"""Whether a journal is damaged: what a second look finds, and what becomes of it then."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from batch.errors import OutputError
from batch.files.publish import sync_folder, writing
from batch.journal.errors import (
    ELSEWHERE,
    JournalDamaged,
    check_regular,
    translate_sqlite_errors,
)
from batch.journal.schema import (
    ALL_NOTES,
    ALL_PHOTOS,
    ALL_UNREADABLE,
    APPLICATION_ID,
    TABLES,
    VERSION,
)
from batch.journal.stored import checksum_of
from batch.location import location_of
from batch.path_text import path_text
from batch.row_json import unpack_row

BROKEN_SUFFIX = ".broken"
# What SQLite keeps beside a database that a process was killed over: it belongs to it, and has its
# name with this at the end.
HOT_SUFFIX = "-journal"
# How a database begins, and where in it its application's number lies, of 4 bytes (see
# https://www.sqlite.org/fileformat.html).
SQLITE_MAGIC = b"SQLite format 3\0"
APPLICATION_AT = 68


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
    if (written_by, version) != (APPLICATION_ID, VERSION):
        raise JournalDamaged(f"another version of the program wrote it: {version}, not {VERSION}")
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    if dict(database.execute(query).fetchall()) != TABLES:
        raise JournalDamaged("its tables are not those of a journal")


def set_aside(journal: Path, damage: str, given: bool) -> Path:
    """Rename a damaged journal, so that nothing that it holds is lost, and give its new name.

    The name is new each time, and what SQLite keeps beside the database goes along.

    Raises:
        OutputError: it can't be renamed, or it was ``given`` by name and is of another kind.
    """
    with writing(f"journal {path_text(journal)}", ELSEWHERE, journal):
        with journal.open("rb") as file:
            head = file.read(APPLICATION_AT + 4)
        if given and head and not _is_journal(head):
            raise OutputError(
                f"{path_text(journal)} is not a journal ({damage})",
                "name another file with --state",
            )
        broken = _free_name(journal)
        hot = journal.with_name(journal.name + HOT_SUFFIX)
        # First, since alone it would be taken for that of the next journal.
        if os.path.lexists(hot):
            hot.rename(broken.with_name(broken.name + HOT_SUFFIX))
        journal.rename(broken)
        sync_folder(journal.parent)
    return broken


def _free_name(journal: Path) -> Path:
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
            unpack_row(location_of(os.fsdecode(path)), row)
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
    return head.startswith(SQLITE_MAGIC) and head[APPLICATION_AT:] == number
