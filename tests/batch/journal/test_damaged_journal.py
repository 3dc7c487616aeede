"""A journal that is damaged or none at all costs the labelling of a night, and nothing else."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.support.runs import JOURNAL, REPORT, RunFolder, make_photos, wait_for_end

NUMBER = 20
MANY = 1_000
PAGE = 4096


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A folder with photos, their report and a journal."""
    place = RunFolder(tmp_path_factory.mktemp("labelled"))
    make_photos(place.folder / "photos", NUMBER)
    place.label()
    return place


@pytest.fixture
def place(labelled: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of it, to be spoilt."""
    shutil.copytree(labelled.folder, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path)


def _noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def _garbage(journal: Path) -> None:
    journal.write_bytes(_noise(20_000))


def _text(journal: Path) -> None:
    journal.write_text("x")


def _cut(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size // 2)


def _statement(statement: str) -> Callable[[Path], None]:
    def spoil(journal: Path) -> None:
        database = sqlite3.connect(journal, isolation_level=None)
        database.execute(statement)
        database.close()

    return spoil


def _overwrite(journal: Path, first: float, last: float) -> None:
    """Overwrite the pages between two points of a file, 0 to 1."""
    pages = journal.stat().st_size // PAGE
    with journal.open("r+b") as file:
        file.seek(int(pages * first) * PAGE)
        file.write(_noise((int(pages * last) - int(pages * first)) * PAGE))


DAMAGE = {
    "garbage": _garbage,
    "a text": _text,
    "cut": _cut,
    "of another version": _statement("PRAGMA user_version = 99"),
    "of another program": _statement("PRAGMA application_id = 7"),
    "without a table": _statement("DROP TABLE photos"),
    "without its notes": _statement("DROP TABLE notes"),
    "with a note that was changed": _statement("UPDATE notes SET value = value || ' '"),
    "with rows that can't be read": _statement("UPDATE photos SET row = '{' WHERE path > x'00'"),
    "with a text that is none": _statement("UPDATE photos SET row = CAST(x'ff' AS TEXT)"),
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_journal_is_put_aside_and_built_anew(
    place: RunFolder, spoil: Callable[[Path], None]
) -> None:
    report = place.report.read_bytes()
    spoil(place.journal)
    spoilt = place.journal.read_bytes()
    place.report.unlink()
    ran = place.run("photos", "-o", REPORT)
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert f"{JOURNAL}.broken" in ran.stderr
    assert place.counts()["labelled_now"] == NUMBER
    assert place.report.read_bytes() == report
    assert place.journal.with_name(f"{JOURNAL}.broken").read_bytes() == spoilt
    assert place.label()["labelled_now"] == 0


def test_damage_that_shows_in_mid_run_is_mended_as_well(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", MANY)
    place.label()
    report, journal = place.report.read_bytes(), place.journal.read_bytes()
    for first, last in ((0.4, 0.6), (0.7, 0.71), (0.97, 1.0)):
        place.journal.write_bytes(journal)
        _overwrite(place.journal, first, last)
        ran = place.run("photos", "-o", REPORT)
        assert ran.returncode == ExitCode.OK, ran.stderr
        assert f"{JOURNAL}.broken" in ran.stderr
        assert place.counts()["labelled_now"] == MANY
        assert place.report.read_bytes() == report


def test_a_journal_that_is_spoilt_while_a_run_works_is_no_traceback(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", MANY)
    place.label()
    report = place.report.read_bytes()
    make_photos(tmp_path / "photos", MANY, first=MANY)
    process = place.begin()
    _overwrite(place.journal, 0.2, 0.8)
    # SQLite may find the damage now or leave it to the next run.
    if wait_for_end(process).returncode != ExitCode.OK:
        assert place.report.read_bytes() == report
    assert place.label()["found"] == 2 * MANY
    assert place.run("photos", "-o", "fresh.csv").returncode == ExitCode.OK
    assert place.report.read_bytes() == (tmp_path / "fresh.csv").read_bytes()


def test_a_folder_in_the_journal_s_place_is_named(place: RunFolder) -> None:
    report = place.report.read_bytes()
    place.journal.unlink()
    place.journal.mkdir()
    ran = place.run("photos", "-o", REPORT)
    assert ran.returncode == ExitCode.FAILED
    assert f"{JOURNAL} can't be written (Is a directory" in ran.stderr.splitlines()[-1]
    assert place.report.read_bytes() == report


@pytest.mark.parametrize("length", [None, 10, 3_000])
def test_a_photo_that_is_named_as_the_journal_is_left_alone(
    place: RunFolder, length: int | None
) -> None:
    photo = place.folder / "photos" / "00000.jpg"
    if length:
        photo.write_bytes(photo.read_bytes().ljust(length, b"\0")[:length])
    before, report = photo.read_bytes(), place.report.read_bytes()
    names = sorted(path.name for path in photo.parent.iterdir())
    ran = place.run("photos", "-o", REPORT, "--state", photo)
    assert ran.returncode == ExitCode.FAILED
    assert "00000.jpg is not a journal" in ran.stderr.splitlines()[-1]
    assert "--state" in ran.stderr.splitlines()[-1]
    assert photo.read_bytes() == before
    assert sorted(path.name for path in photo.parent.iterdir()) == names
    assert place.report.read_bytes() == report
