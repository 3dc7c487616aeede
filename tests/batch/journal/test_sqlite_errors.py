"""Errors of SQLite: damage is distinguished from errors of the system."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.found import FoundFile
from batch.journal.damage import find_damage
from batch.journal.journal import Journal
from batch.journal.schema import APPLICATION_ID, JOURNAL_VERSION
from batch.journal.sqlite_errors import JournalDamaged
from batch.records import FileState, FinishedFile, Row, Status

BASIS = b"basis"
A, B = (FoundFile(f"photos/{name}.jpg", 100, 1_000) for name in "ab")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def _do_all(path: Path, *found: FoundFile) -> None:
    journal = Journal(path, BASIS)
    for file in found:
        row = Row(Path(file.path), Status.NO_FACE, width=10, height=10)
        journal.add(FinishedFile(row, FileState(file.size, file.mtime_ns, file.path.encode())))
    journal.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _run(statement: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(statement)
        database.close()

    return spoil


SPOILT = {
    "garbage": _garbage,
    "cut": _cut,
    "another program's": _run(f"PRAGMA application_id = {APPLICATION_ID + 1}"),
    "a later version's": _run(f"PRAGMA user_version = {JOURNAL_VERSION + 1}"),
    "without its table": _run("DROP TABLE photos"),
    "with a row that is no JSON": _run("UPDATE photos SET row = '{\"status\":'"),
    "with a row of another kind": _run("UPDATE photos SET row = '[]'"),
    "with a row that lacks all": _run("UPDATE photos SET row = '{}'"),
    "with a status of its own": _run('UPDATE photos SET row = \'{"status": "fine"}\''),
    "with a text that is none": _run("UPDATE photos SET row = CAST(x'ff80' AS TEXT)"),
    "with bytes for a text": _run("UPDATE photos SET row = x'ff80'"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_database_of_another_version_is_damaged(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    _do_all(path, A, B)
    spoil(path)
    with pytest.raises(JournalDamaged):
        _read_all(path)


def _read_all(path: Path) -> None:
    journal = Journal(path, BASIS)
    try:
        journal.plan_run([A], fresh=False, verify=False)
        list(journal.rows())
    finally:
        journal.close()


def test_damage_shows_in_rows_that_are_missing_or_known_too(path: Path) -> None:
    _do_all(path, A, B)
    _run("UPDATE photos SET row = '{}'")(path)
    journal = Journal(path, BASIS)
    journal.plan_run([A], fresh=False, verify=False)
    with pytest.raises(JournalDamaged):
        list(journal.read_missing_rows())
    with pytest.raises(JournalDamaged):
        journal.find_known(Path("copy.jpg"), FileState(A.size, None, A.path.encode()))
    journal.close()


def test_a_database_that_another_program_holds_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _do_all(path, A)
    holder = sqlite3.connect(path, isolation_level=None)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutputError, match="database is locked"):
        Journal(path, BASIS)
    holder.close()


def test_the_error_names_a_folder_in_place_of_the_database(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match=r"journal .*journal can't be written \(Is a directory"):
        Journal(path, BASIS)


def test_the_error_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"No such file or directory.*create its folder"):
        Journal(tmp_path / "no" / "journal", BASIS)


def test_a_folder_that_goes_away_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    journal = Journal(folder / "journal", BASIS)
    journal.write_note("name", "value")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="No such file or directory"):
        journal.close()


def test_the_error_has_the_cause(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(OutputError, match=r"Too many levels of symbolic links.*--state"):
        Journal(path, BASIS)


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal"])
def test_a_pipe_in_place_of_a_database_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    journal = tmp_path / "j"
    if suffix:
        Journal(journal, b"basis").close()
    os.mkfifo(f"{journal}{suffix}")
    for act in (lambda: Journal(journal, b"basis"), lambda: find_damage(journal)):
        with pytest.raises(OutputError, match=rf"{journal}{suffix} is not a regular file"):
            act()
