from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import batch.journal.journal
from batch.found import FoundFile
from batch.journal.damage import find_damage
from batch.journal.journal import (
    CHUNK_ROWS,
    FRESH_NOTE,
    INSERT_CHUNK_ROWS,
    Journal,
    PendingCause,
    RunPlan,
)
from batch.journal.schema import SCHEMA
from batch.journal.sqlite_errors import JournalDamaged
from batch.location import Location, Url
from batch.records import (
    Answer,
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

BASIS = b"basis"
A, B, C = (FoundFile(f"photos/{name}.jpg", 100, 1_000) for name in "abc")
A_STATE = FileState(A.size, A.mtime_ns, A.path.encode())
UNREADABLE = Failure(Path("photos/d.jpg"), Stage.READ, Reason.UNREADABLE, "Permission denied")
D = FoundFile("photos/d.jpg", failure=UNREADABLE)

DIE_IN_THE_FIRST_COMMIT = f"""
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
for statement in {SCHEMA!r}.split(";"):
    database.execute(statement)
for number in range(100):
    database.execute("INSERT INTO notes VALUES (?, ?, x'00')", (number, "x" * 500))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path, BASIS)
    yield journal
    journal.close()


def _row(path: str, label: str = "happy") -> Row:
    answer = Answer(Status.OK, label, 0.9, {"happy": 0.9, "sad": 0.1})
    return Row(Path(path), Status.OK, answer, Source.IMAGE, width=10, height=10)


def _finished(found: FoundFile, digest: bytes | None = None) -> FinishedFile:
    if found.failure:
        return FinishedFile(Row(Path(found.path), Status.FAILED, failure=found.failure))
    return FinishedFile(_row(found.path), FileState(found.size, found.mtime_ns, digest))


def _locations(journal: Journal) -> list[Location | Failure]:
    return [item if isinstance(item, Failure) else item.location for item in journal.pending()]


def _do_all(path: Path, *found: FoundFile, basis: bytes = BASIS) -> None:
    """Label everything that is pending and close the journal."""
    with_digest = {file.path: file.path.encode() for file in found}
    journal = Journal(path, basis)
    journal.plan_run(found, fresh=False, verify=False)
    by_path = {Path(file.path): file for file in found}
    for item in list(journal.pending()):
        file = by_path[Path(item.path if isinstance(item, Failure) else item.location)]
        journal.add(_finished(file, with_digest[file.path]))
    journal.close()


def _plan(path: Path, *found: FoundFile, **how: bool) -> RunPlan:
    journal = Journal(path, BASIS)
    try:
        return journal.plan_run(found, **{"fresh": False, "verify": False, **how})
    finally:
        journal.close()


def test_all_files_are_pending_in_the_first_run_and_none_in_the_second(path: Path) -> None:
    _do_all(path, A, B, C)
    assert _plan(path, A, B, C) == RunPlan(found=3, pending=0)


def test_a_file_is_pending_once_size_or_time_differ(path: Path) -> None:
    _do_all(path, A, B, C)
    larger, later = A._replace(size=101), B._replace(mtime_ns=999)
    assert _plan(path, larger, later, C) == RunPlan(found=3, pending=2)


@pytest.mark.parametrize(
    ("known", "found", "cause"),
    [
        ((1, 2), (1, 2), None),
        ((1, 2), (3, 2), PendingCause.INODE),
        ((1, 2), (1, 3), PendingCause.INODE),
        ((1, 2), (None, None), None),
        ((None, None), (1, 2), None),
    ],
)
def test_a_file_is_read_again_once_ctime_or_inode_differ(
    path: Path, known: tuple[int, int], found: tuple[int, int], cause: PendingCause | None
) -> None:
    with Journal(path, BASIS) as journal:
        journal.plan_run([A], fresh=False, verify=False)
        state = FileState(A.size, A.mtime_ns, None, None, *known)
        journal.add(FinishedFile(_row(A.path), state))
    now = A._replace(ctime_ns=found[0], inode=found[1])
    plan = _plan(path, now)
    assert plan.by_cause == ({cause: 1} if cause else {})
    assert _plan(path, now, ignore_inode=True).pending == 0
    assert _plan(path, now._replace(size=3)).by_cause == {PendingCause.CHANGED: 1}


def test_failures_are_pending_again(path: Path) -> None:
    _do_all(path, A, D)
    assert _plan(path, A, D) == RunPlan(found=2, pending=1)


def test_everything_is_pending_for_another_basis_and_on_demand(path: Path) -> None:
    _do_all(path, A, B, basis=b"another")
    assert _plan(path, A, B).pending == 2
    _do_all(path, A, B)
    assert _plan(path, A, B, verify=True).pending == 2
    assert _plan(path, A, B, fresh=True).pending == 2


def test_fresh_forgets_the_rows_and_verify_does_not(path: Path) -> None:
    _do_all(path, A)
    journal = Journal(path, BASIS)
    journal.plan_run([A], fresh=False, verify=True)
    assert journal.find_known(Path("copy.jpg"), A_STATE) == _row("copy.jpg")
    journal.close()
    _plan(path, A, fresh=True)
    journal = Journal(path, BASIS)
    assert journal.find_known(Path("copy.jpg"), A_STATE) is None
    journal.close()


def test_a_fresh_start_is_resumed_until_a_report_is_published(path: Path) -> None:
    _do_all(path, A, B)
    assert _plan(path, A, B, fresh=True) == RunPlan(found=2, pending=2)
    _do_all(path, A)
    assert _plan(path, A, B, fresh=True) == RunPlan(found=2, pending=1, continues_fresh=True)
    with Journal(path, BASIS) as journal:
        journal.write_note(FRESH_NOTE, "")
    assert _plan(path, A, B, fresh=True) == RunPlan(found=2, pending=2)


def test_pending_files_and_rows_come_in_the_order_of_discovery(journal: Journal) -> None:
    journal.plan_run([C, D, A], fresh=False, verify=False)
    assert _locations(journal) == [Path(C.path), UNREADABLE, Path(A.path)]
    for found in (A, C, D):
        journal.add(_finished(found))
    assert [row.path.name for row in journal.rows()] == ["c.jpg", "d.jpg", "a.jpg"]
    assert [row.failure for row in journal.rows()] == [None, UNREADABLE, None]


@pytest.mark.parametrize("number", [CHUNK_ROWS, INSERT_CHUNK_ROWS * 3 + 1, 2 * CHUNK_ROWS + 1])
def test_no_file_is_lost_between_two_chunks(journal: Journal, number: int) -> None:
    names = [f"{n:05}.jpg" for n in range(number)]
    plan = journal.plan_run((FoundFile(name, 1, 1) for name in names), fresh=False, verify=False)
    assert plan == RunPlan(number, number)
    for item in journal.pending():
        assert isinstance(item, PendingFile)
        journal.add(FinishedFile(_row(str(item.location)), FileState(1, 1, None)))
    assert [str(row.path) for row in journal.rows()] == names


def test_a_row_is_known_by_its_bytes_alone(path: Path) -> None:
    _do_all(path, A)
    other = Journal(path, b"another")
    assert other.find_known(Path("copy.jpg"), A_STATE) is None
    other.close()
    journal = Journal(path, BASIS)
    assert journal.find_known(Path("copy.jpg"), A_STATE) == _row("copy.jpg")
    assert journal.find_known(Path("copy.jpg"), replace(A_STATE, digest=b"other bytes")) is None
    journal.close()


def _may_be_known(journal: Journal) -> dict[str, bool]:
    pending = [item for item in journal.pending() if isinstance(item, PendingFile)]
    return {str(item.location): item.may_be_known for item in pending}


def test_a_file_may_be_known_if_a_known_one_has_its_size(path: Path) -> None:
    _do_all(path, A, D)
    with Journal(path, BASIS) as journal:
        same, other = FoundFile("same.jpg", A.size, 5), FoundFile("other.jpg", 9_999, 5)
        journal.plan_run([A, same, other], fresh=False, verify=False)
        assert _may_be_known(journal) == {"same.jpg": True, "other.jpg": False}
    with Journal(path, b"another") as journal:  # which has no use for the row
        journal.plan_run([same], fresh=False, verify=False)
        assert _may_be_known(journal) == {"same.jpg": False}


@pytest.mark.parametrize("between", [0, 700, CHUNK_ROWS])
def test_the_second_of_two_new_files_of_one_size_may_be_known(
    journal: Journal, between: int
) -> None:
    others = [FoundFile(f"m{number:05}.jpg", 2_000 + number, 1) for number in range(between)]
    found = [FoundFile("a.jpg", 1, 1), *others, FoundFile("z.jpg", 1, 1)]
    journal.plan_run(found, fresh=False, verify=False)
    asked = _may_be_known(journal)
    assert {name for name, may_be_known in asked.items() if may_be_known} == {"z.jpg"}


def test_a_file_that_can_not_be_read_now_may_be_known_elsewhere(path: Path) -> None:
    _do_all(path, A)
    with Journal(path, BASIS) as journal:
        journal.plan_run([A._replace(mtime_ns=77)], fresh=False, verify=False)
        failure = Failure(Path(A.path), Stage.READ, Reason.UNREADABLE, "for a night")
        journal.add(FinishedFile(Row(Path(A.path), Status.FAILED, failure=failure)))
        assert journal.find_known(Path("copy.jpg"), A_STATE) == _row("copy.jpg")
    with Journal(path, BASIS) as journal:
        journal.plan_run([FoundFile("copy.jpg", A.size, 5)], fresh=False, verify=False)
        assert _may_be_known(journal) == {"copy.jpg": True}


def test_a_url_is_known_by_the_size_that_was_listed(journal: Journal) -> None:
    for size in (7, None):  # None where a server tells no size
        url = Url("https://host/a.jpg", size)
        journal.add(FinishedFile(replace(_row("a.jpg"), path=url), FileState(size, 1, b"digest")))
        copy = replace(url, text="https://host/copy.jpg")
        row = journal.find_known(copy, FileState(7, None, b"digest"))
        assert row is not None
        assert row.path == copy


def test_a_failure_is_not_taken_over(journal: Journal) -> None:
    failure = Failure(Path("a.jpg"), Stage.DECODE, Reason.TRUNCATED, "cut")
    row = Row(Path("a.jpg"), Status.FAILED, failure=failure)
    journal.add(FinishedFile(row, FileState(1, 1, b"digest")))
    assert journal.find_known(Path("b.jpg"), FileState(1, 1, b"digest")) is None


def test_missing_rows_are_marked_in_order_until_they_are_forgotten(path: Path) -> None:
    _do_all(path, C, B, A, D)
    journal = Journal(path, BASIS)
    journal.plan_run([B], fresh=False, verify=False)
    missing = list(journal.read_missing_rows())
    assert [row.path.name for row in missing] == ["a.jpg", "c.jpg"]
    assert all(row.missing for row in missing)
    assert not any(row.missing for row in journal.rows())
    journal.forget_missing()
    assert list(journal.read_missing_rows()) == []
    assert [row.path.name for row in journal.rows()] == ["b.jpg"]
    journal.close()


def test_kept_rows_are_not_forgotten(path: Path) -> None:
    _do_all(path, A, B, C)
    with Journal(path, BASIS) as journal:
        assert journal.plan_run([C], fresh=False, verify=False).known == 3
        assert list(journal.read_missing_paths()) == [A.path, B.path]
        journal.mark_kept([A.path])
        assert (list(journal.read_missing_paths()), journal.count_missing()) == ([B.path], 1)
        assert [row.path.name for row in journal.read_missing_rows(include_all=False)] == ["a.jpg"]
        journal.forget_missing()
    assert _plan(path, A, B, C) == RunPlan(found=3, pending=1)


def test_all_missing_rows_may_be_kept(path: Path) -> None:
    _do_all(path, A, B)
    with Journal(path, BASIS) as journal:
        journal.plan_run([A], fresh=False, verify=False)
        journal.forget_missing(all_kept=True)
    assert _plan(path, A, B).pending == 0


@pytest.mark.parametrize("published", [False, True])
def test_bytes_with_a_new_path_have_moved(path: Path, published: bool) -> None:
    moved = FoundFile("photos/new/a.jpg", 100, 1_000)
    copy = FinishedFile(_row(moved.path), FileState(100, 1_000, A.path.encode()))
    _do_all(path, A, B)
    with Journal(path, BASIS) as journal:
        journal.plan_run([moved, B], fresh=False, verify=False)
        journal.add(copy)
        assert list(journal.read_missing_paths()) == [A.path]
        journal.find_moved()
        assert list(journal.read_missing_paths()) == []
        if published:
            journal.forget_missing(all_kept=True)
    # A run that was cut off leaves it new to the next; a report makes it an old one.
    with Journal(path, BASIS) as journal:
        journal.plan_run([moved, B], fresh=False, verify=False)
        journal.find_moved()
        assert journal.count_missing() == int(published)


def test_failed_files_do_not_count_as_missing(path: Path) -> None:
    _do_all(path, A, D)
    with Journal(path, BASIS) as journal:
        journal.plan_run([], fresh=False, verify=False)
        # But their folder may be away, and then they are kept like others.
        assert (list(journal.read_missing_paths()), journal.count_missing()) == (
            [A.path, D.path],
            1,
        )


def test_rows_of_other_settings_and_from_before_a_fresh_start_are_missing_too(path: Path) -> None:
    _do_all(path, A, B)
    for basis, fresh in ((b"another", False), (BASIS, True)):
        with Journal(path, basis) as journal:
            journal.plan_run([B], fresh=fresh, verify=False)
            assert [row.path.name for row in journal.read_missing_rows()] == ["a.jpg"]
    assert find_damage(path) is None
    assert _plan(path, A, B).pending == 2


def test_a_fresh_start_hides_no_damage(path: Path) -> None:
    _do_all(path, A, B)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE photos SET row = replace(row, 'happy', 'merry')")
    database.close()
    with Journal(path, BASIS) as journal:
        journal.plan_run([B], fresh=True, verify=False)
        with pytest.raises(JournalDamaged):
            list(journal.read_missing_rows())


def test_accepted_failures_are_identified_by_bytes_or_by_path_and_state(path: Path) -> None:
    def failed(name: str, size: int | None, time: int | None, digest: bytes | None) -> FinishedFile:
        failure = Failure(Path(name), Stage.READ, Reason.CORRUPT, "broken")
        row = Row(Path(name), Status.FAILED, failure=failure)
        return FinishedFile(row, FileState(size, time, digest))

    def found(finished: FinishedFile) -> FoundFile:
        state = finished.state
        assert state is not None
        return FoundFile(str(finished.row.path), state.size, state.mtime_ns)

    first = [
        failed("by-bytes", 1, 1, b"digest"),
        failed("by-state", 1, 1, None),
        failed("empty", 0, 1, b"none"),
    ]
    then = [
        *first,
        failed("moved", 1, 9, b"digest"),
        failed("changed", 1, 1, b"other"),
        failed("by-state", 2, 1, None),
        failed("also-empty", 0, 1, b"none"),
    ]
    expected = [True, True, True, True, False, False, False]
    with Journal(path, BASIS) as journal:
        journal.plan_run([found(f) for f in first], fresh=False, verify=False)
        for finished in first:
            journal.add(finished)
        assert not any(row.accepted for row in journal.rows())
        journal.accept_failures()
    for finished, accepted in zip(then, expected, strict=True):
        with Journal(path, BASIS) as journal:
            journal.plan_run([found(finished)], fresh=False, verify=False)
            journal.add(finished)
            assert [row.accepted for row in journal.rows()] == [accepted], finished.row.path
    with Journal(path, BASIS) as journal:
        journal.plan_run([FoundFile("by-bytes")], fresh=True, verify=False)
        journal.add(first[0])
        assert [row.accepted for row in journal.rows()] == [False]


def test_notes_are_kept_and_replaced(path: Path) -> None:
    journal = Journal(path, BASIS)
    assert journal.read_note("profile") is None
    journal.write_note("profile", "one")
    journal.write_note("profile", "two")
    journal.close()
    journal = Journal(path, b"another")
    assert journal.read_note("profile") == "two"
    journal.close()


@pytest.mark.parametrize(
    "name", [b"caf\xe9.jpg", b"line\nbreak.jpg", "日本.jpg".encode(), b"a" * 255]
)
def test_paths_of_any_bytes_are_kept(journal: Journal, name: bytes) -> None:
    path = os.fsdecode(name)
    journal.plan_run([FoundFile(path, 1, 1)], fresh=False, verify=False)
    assert _locations(journal) == [Path(path)]
    journal.add(FinishedFile(_row(path), FileState(1, 1, None)))
    assert [row.path for row in journal.rows()] == [Path(path)]


@pytest.mark.parametrize("time", [-(10**18), 0, 2**63 - 1, 2**63, 10**19])
def test_times_of_any_year_are_distinguished(path: Path, time: int) -> None:
    photo = A._replace(mtime_ns=time)
    _do_all(path, photo)
    assert _plan(path, photo).pending == 0
    assert _plan(path, A).pending == 1


def test_rows_are_committed_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch.journal.journal, "COMMIT_SECONDS", 0.0)
    journal = Journal(path, BASIS)
    journal.add(_finished(A))
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT path FROM photos").fetchall() == [(A.path.encode(),)]
    reader.close()
    journal.close()


def test_uncommitted_notes_are_lost_by_a_kill(path: Path, repository: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from batch.journal.journal import Journal
journal = Journal(Path(sys.argv[1]), b"basis")
journal.write_note("kept", "yes")
journal.commit()
for number in range(50_000):  # more than SQLite holds in memory
    journal.write_note(f"lost {number}", "x" * 100)
os.kill(os.getpid(), signal.SIGKILL)
"""
    _die(program, path, repository)
    assert path.with_name("journal-journal").exists()
    journal = Journal(path, BASIS)
    assert (journal.read_note("kept"), journal.read_note("lost 0")) == ("yes", None)
    journal.close()


def test_a_journal_whose_first_commit_was_killed_is_created_again(
    path: Path, repository: Path
) -> None:
    _die(DIE_IN_THE_FIRST_COMMIT, path, repository)
    assert path.stat().st_size > 0
    _do_all(path, A)
    assert _plan(path, A).pending == 0


def _die(program: str, path: Path, repository: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", program, path], cwd=repository)
    assert ran.returncode == -signal.SIGKILL


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    _do_all(path, A)
    assert _plan(path, A).pending == 0
