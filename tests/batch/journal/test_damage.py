"""Damage of a journal is found, and only a damaged journal is renamed."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.found import FoundFile
from batch.journal.damage import (
    APPLICATION_ID_OFFSET,
    SQLITE_MAGIC,
    find_damage,
    rename_damaged,
)
from batch.journal.journal import Journal
from batch.journal.schema import APPLICATION_ID
from batch.journal.sqlite_errors import JournalDamaged
from batch.records import (
    Answer,
    Box,
    Failure,
    FileState,
    FinishedFile,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)

DAMAGE = "file is not a database"
BASIS = b"basis"
FILES = [FoundFile(f"photos/{n:03}.jpg", 1_000 + n, 10**18 + n) for n in range(40)]
FLIPS = 400


def _row(number: int) -> Row:
    path = Path(FILES[number].path)
    if number % 5 == 0:
        failure = Failure(path, Stage.DECODE, Reason.CORRUPT, f"broken at byte {number}")
        return Row(path, Status.FAILED, failure=failure)
    happy = number / len(FILES)
    chances = {"happy": happy, "sad": 1 - happy}
    face = Answer(Status.OK, "happy", happy, chances, Box(number, 2.5, 30, 40, 0.9))
    return Row(path, Status.OK, face, Source.FACE, (face,), 640, 480 + number)


ROWS = [_row(number) for number in range(len(FILES))]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a journal with rows of FILES."""
    path = tmp_path_factory.mktemp("sound") / "journal"
    with Journal(path, BASIS) as journal:
        journal.plan_run(FILES, fresh=False, verify=False)
        for number, (file, row) in enumerate(zip(FILES, ROWS, strict=True)):
            digest = number.to_bytes(32, "big")
            journal.add(FinishedFile(row, FileState(file.size, file.mtime_ns, digest)))
        journal.write_note("profile", "{}")
    return path.read_bytes()


def _read(path: Path) -> list[Row]:
    """Read all rows, as a run without new files does."""
    with Journal(path, BASIS) as journal:
        journal.plan_run(FILES, fresh=False, verify=False)
        journal.read_note("profile")
        return list(journal.rows())


def test_a_sound_journal_has_no_damage(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(sound)
    assert find_damage(path) is None
    assert _read(path) == ROWS


def test_a_flipped_bit_changes_no_answer(tmp_path: Path, sound: bytes) -> None:
    chance, found = random.Random(1), 0
    path = tmp_path / "journal"
    for _ in range(FLIPS):
        spoilt = bytearray(sound)
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        try:
            assert _read(path) == ROWS
        except JournalDamaged:
            assert find_damage(path) is not None
            found += 1
        path.with_name("journal-journal").unlink(missing_ok=True)
    assert found > FLIPS // 10


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE photos SET row = replace(row, '640', '641')",
        "UPDATE photos SET failed = 0 WHERE failed",
        "UPDATE photos SET size = size + 1",
        "UPDATE photos SET basis = x'00'",
        "UPDATE notes SET value = '[]'",
        "DROP INDEX photos_by_content",
        "CREATE TABLE more (a)",
    ],
)
def test_values_that_were_changed_are_damage(tmp_path: Path, sound: bytes, statement: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(sound)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(statement)
    database.close()
    assert find_damage(path)


def test_a_row_that_can_not_be_found_is_damage(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(sound)
    with Journal(path, BASIS) as journal:
        journal.plan_run(FILES, fresh=False, verify=False)
        journal._database.execute("DELETE FROM photos WHERE size = 1001")
        with pytest.raises(JournalDamaged, match="rows for 39 of 40 files"):
            list(journal.rows())


def test_a_full_temporary_folder_is_no_damage(tmp_path: Path, sound: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(sound)
    for _ in range(2):
        with (  # noqa: PT012 - what fails first is what is raised in the end
            pytest.raises(OutputError, match=r"No space left .* temporary folder.*free some space"),
            Journal(path, BASIS) as journal,
        ):
            journal.add(FinishedFile(ROWS[0], FileState(1, 1)))
            # The temporary database as it is on a disk without space.
            journal._database.execute("PRAGMA temp.max_page_count = 4")
            many = (FoundFile(f"photos/{n}.jpg", 1, 1) for n in range(10_000))
            journal.plan_run(many, fresh=False, verify=False)
        assert find_damage(path) is None
    assert [row.status for row in _read(path)] == [row.status for row in ROWS]


def test_errors_of_discovery_are_not_translated(tmp_path: Path) -> None:
    def found() -> list[FoundFile]:
        raise PermissionError(13, "Permission denied", "photos/x.jpg")

    class Files:
        def __iter__(self) -> object:
            return iter(found())

    with Journal(tmp_path / "journal", BASIS) as journal, pytest.raises(PermissionError):
        journal.plan_run(Files(), fresh=False, verify=False)  # type: ignore[arg-type]


def test_each_damaged_journal_gets_a_name_of_its_own(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    for number, end in enumerate(("", "-2", "-3")):
        journal.write_bytes(b"content %d" % number)
        (tmp_path / "j-journal").write_bytes(b"what belongs to it %d" % number)
        broken = rename_damaged(journal, DAMAGE, given=False)
        assert broken == tmp_path / f"j.broken{end}"
        assert broken.read_bytes() == b"content %d" % number
        belongs = tmp_path / f"j.broken{end}-journal"
        assert belongs.read_bytes() == b"what belongs to it %d" % number
        assert not journal.exists()
        assert not (tmp_path / "j-journal").exists()
    assert (tmp_path / "j.broken").read_bytes() == b"content 0"


JOURNAL_HEAD = SQLITE_MAGIC.ljust(APPLICATION_ID_OFFSET, b"?") + APPLICATION_ID.to_bytes(4, "big")


@pytest.mark.parametrize("content", [b"", JOURNAL_HEAD, JOURNAL_HEAD + b"damaged"])
def test_a_given_file_is_renamed_if_it_was_a_journal(tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(content)
    assert rename_damaged(journal, DAMAGE, given=True).read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0 a JPEG", b"x", SQLITE_MAGIC, SQLITE_MAGIC.ljust(100, b"?")]
)
def test_any_other_given_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(content)
    with pytest.raises(OutputError, match=r"photo\.jpg is not a journal .*--state"):
        rename_damaged(photo, DAMAGE, given=True)
    assert photo.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
