"""Broken journals: every row read back is one that was written, or the journal is refused."""

from __future__ import annotations

import functools
import random
import sqlite3
from pathlib import Path

from batch.errors import OutputError
from batch.found import FoundFile
from batch.journal.journal import Journal
from batch.journal.sqlite_errors import JournalDamaged
from batch.records import (
    Answer,
    Box,
    Failure,
    FileState,
    FinishedFile,
    PendingFile,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)
from tests.fuzz.cases import Case, check_message, get_case_folder, make_broken_case, write_case
from tests.fuzz.mutations import Mutation
from tests.fuzz.text_mutations import BYTES, WORDS

BASIS = b"basis"
NUMBER = 12
PAGE = 4096
NAME = "state.db"
COLUMNS = ("path", "size", "mtime_ns", "ctime_ns", "inode", "digest", "basis", "failed", "row")


@functools.cache
def make_rows() -> dict[str, Row]:
    """Make the rows of all files, by path."""
    found: dict[str, Row] = {}
    for number in range(NUMBER):
        path = Path(f"photos/{number:02}.jpg")
        if number % 5 == 4:
            failure = Failure(path, Stage.DECODE, Reason.CORRUPT, "broken")
            found[str(path)] = Row(path, Status.FAILED, failure=failure)
            continue
        share = 0.5 + number / 50
        shares = {"happy": share, "sad": 1 - share}
        answer = Answer(Status.OK, "happy", share, shares, Box(1.0, 2.0, 30.0, 40.0, 0.9))
        found[str(path)] = Row(path, Status.OK, answer, Source.FACE, (answer,), 64, 48)
    return found


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Make a journal with rows and one without."""
    made = {}
    for name, number in (("rows", NUMBER), ("empty", 0)):
        path = get_case_folder() / f"sound-{name}.db"
        journal = Journal(path, BASIS)
        for file in _files(number):
            row = make_rows()[file.path]
            digest = file.path.encode().ljust(32, b"\0")
            journal.add(FinishedFile(row, FileState(file.size, file.mtime_ns, digest)))
        journal.write_note("profile", '{"answers": 3}')
        journal.close()
        made[name] = path.read_bytes()
    return made


def make(seed: int, number: int) -> Case:
    """Make a broken journal from a seed and a number, mostly from the one with rows."""
    names = {"rows": make_sound_files()["rows"]} if number % 20 else make_sound_files()
    return make_broken_case(seed, number, names, MUTATIONS)


def check(case: Case) -> str:
    """Use a broken journal as a run does."""
    place = write_case(NAME, case.data)
    (get_case_folder() / f"{NAME}-journal").unlink(missing_ok=True)
    try:
        return _use(place)
    except (JournalDamaged, OutputError) as error:
        check_message(error)
        return type(error).__name__


def _use(place: Path) -> str:
    journal = Journal(place, BASIS)
    try:
        plan = journal.plan_run(_files(NUMBER), fresh=False, verify=False)
        pending = [str(item.location if isinstance(item, PendingFile) else item.path)
                   for item in journal.pending()]  # fmt: skip
        assert plan.found == NUMBER
        assert plan.pending == len(pending)
        for path in pending:
            journal.add(FinishedFile(make_rows()[path], FileState(100, 1_000)))
        journal.commit()
        given = list(journal.rows())
        assert [str(row.path) for row in given] == list(make_rows()), (
            "rows are missing or out of order"
        )
        for row in given:
            expected = make_rows()[str(row.path)]
            assert _row_values(row) == _row_values(expected), f"another answer for {row.path}"
        list(journal.read_missing_rows())
        journal.read_note("profile")
        journal.forget_missing()
    finally:
        journal.close()
    return (
        "none pending"
        if not pending
        else "all pending"
        if len(pending) == NUMBER
        else "some pending"
    )


def _row_values(row: Row) -> tuple[object, ...]:
    """Return the values of a row that a report shows."""
    return (row.status, row.answer, row.source, row.faces, row.width, row.height, row.failure)


def _files(number: int) -> list[FoundFile]:
    return [FoundFile(path, 100, 1_000) for path in list(make_rows())[:number]]


def overwrite_page(data: bytes, rng: random.Random) -> bytes:
    """Overwrite a page with noise, zeros or another one."""
    pages = max(1, len(data) // PAGE)
    at, other = PAGE * rng.randrange(pages), PAGE * rng.randrange(pages)
    page = rng.choice((bytes(PAGE), rng.randbytes(PAGE), data[other : other + PAGE]))
    return data[:at] + page + data[at + PAGE :]


def cut_page(data: bytes, rng: random.Random) -> bytes:
    """Truncate the file at the end of a page."""
    return data[: PAGE * rng.randrange(max(1, len(data) // PAGE))]


def flip_in_rows(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit in a row, which SQLite does not detect."""
    places = [at for at in range(0, len(data), 64) if data[at : at + 64].strip(b"\0")]
    if not places:
        return data
    out = bytearray(data)
    at = min(len(data) - 1, rng.choice(places) + rng.randrange(64))
    out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def change_cell(data: bytes, rng: random.Random) -> bytes:
    """Change a value of a row to one of any type with SQLite."""
    path = write_case("mutated.db", data)
    word = rng.choice(WORDS)
    value = rng.choice((None, 7, -1, 0.5, word, word.decode("latin-1"), 2**62))
    try:
        database = sqlite3.connect(path, isolation_level=None)
        try:
            database.execute("PRAGMA ignore_check_constraints = ON")
            database.execute("PRAGMA journal_mode = MEMORY")
            column = rng.choice(COLUMNS)
            database.execute(
                f"UPDATE OR IGNORE photos SET {column} = ? WHERE path IN "
                "(SELECT path FROM photos ORDER BY path LIMIT 1 OFFSET ?)",
                (value, rng.randrange(NUMBER)),
            )
        finally:
            database.close()
    except (sqlite3.Error, UnicodeError, OverflowError):
        return data
    return path.read_bytes()


MUTATIONS: tuple[Mutation, ...] = (*BYTES, flip_in_rows, flip_in_rows, flip_in_rows, overwrite_page,
                                   cut_page, change_cell)  # fmt: skip
