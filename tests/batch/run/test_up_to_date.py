"""A report that would not change is not written again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.conftest import REPOSITORY
from tests.support.runs import (
    REPORT,
    RunFolder,
    has_uncommitted_rows,
    kill_run,
    make_photos,
    wait_for,
    wait_for_end,
)

NUMBER = 6
FIRST, LAST = "photos/00000.jpg", f"photos/{NUMBER - 1:05}.jpg"


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """A folder whose photos were labelled already, and whose report is up to date."""
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", NUMBER)
    assert place.label()["labelled_now"] == NUMBER
    assert not place.record()["up_to_date"]
    return place


def _is_kept(place: RunFolder, *args: str, photos: str = "photos", report: str = REPORT) -> bool:
    """Run again; return whether the report is the same file as before."""
    before = place.folder / report
    inode = before.stat().st_ino if before.exists() else None
    ran = place.run(photos, "-o", report, "--log-format", "json", *args)
    assert ran.returncode == ExitCode.OK, ran.stderr
    events = [json.loads(line)["event"] for line in ran.stderr.splitlines()]
    record = json.loads((place.folder / f"{report}.run.json").read_bytes())
    is_kept = before.stat().st_ino == inode
    assert ("up_to_date" in events, "published" in events) == (is_kept, not is_kept)
    assert (record["up_to_date"], record["published"]) == (is_kept, True)
    return is_kept


def test_a_report_stays_as_it_is_and_the_record_is_that_of_one_that_is_written(
    place: RunFolder,
) -> None:
    report = place.report.read_bytes()
    assert _is_kept(place, "--metrics-file", "m.prom")
    assert place.report.read_bytes() == report
    kept, figures = place.record(), (place.folder / "m.prom").read_text()
    place.report.unlink()
    assert not _is_kept(place, "--metrics-file", "m.prom")
    assert place.report.read_bytes() == report
    written = place.record()
    own = {"started", "ended", "seconds", "up_to_date"}
    assert {k: v for k, v in kept.items() if k not in own} == {
        k: v for k, v in written.items() if k not in own
    }
    times = ("start_timestamp", "duration", "success_timestamp")
    assert [x for x in figures.splitlines() if not any(t in x for t in times)] == [
        x
        for x in (place.folder / "m.prom").read_text().splitlines()
        if not any(t in x for t in times)
    ]
    assert _is_kept(place)


def test_no_worker_starts_if_there_is_nothing_to_label(
    place: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The program of labelling workers: without it, no worker starts.
    package = place.folder / "package"
    shutil.copytree(REPOSITORY / "batch", package / "batch")
    (package / "batch" / "workers" / "labelling_child.py").unlink()
    shutil.copytree(REPOSITORY / "models", package / "models")
    ran = place.run("photos", "-o", REPORT, PYTHONPATH=str(package))
    assert ran.returncode == ExitCode.OK, ran.stderr
    make_photos(place.folder / "photos", 1, first=NUMBER)
    ran = place.run("photos", "-o", REPORT, PYTHONPATH=str(package))
    assert ran.returncode == ExitCode.FAILED
    assert "labelling_child" in ran.stderr


def _edit(place: RunFolder) -> None:
    status = place.report.stat()
    data = place.report.read_bytes()
    place.report.write_bytes(data.replace(b"photos/00000", b"photos/99999"))
    os.utime(place.report, ns=(status.st_atime_ns, status.st_mtime_ns))


def _delete_photo(place: RunFolder) -> None:
    (place.folder / FIRST).unlink()


def _rename_photo(place: RunFolder) -> None:
    (place.folder / FIRST).rename(place.folder / "photos" / "zzzzz.jpg")


def _touch_photo(place: RunFolder) -> None:
    os.utime(place.folder / FIRST, (4_000_000_000, 4_000_000_000))


def _note_another_version(place: RunFolder) -> None:
    """Alter the note so that it names another version of the program."""

    def alter(note: dict[str, dict[str, str]]) -> None:
        assert note["made_of"]["version"] != "0.0.1"
        note["made_of"]["version"] = "0.0.1"

    _alter_note(place, alter)


def _have_other_columns(place: RunFolder) -> None:
    """Make the note one of a report that lacks the last column."""

    def alter(note: dict[str, dict[str, str]]) -> None:
        columns, _, last = note["made_of"]["columns"].rpartition(",")
        assert last == "error"
        note["made_of"]["columns"] = columns

    _alter_note(place, alter)


def _damage_note(place: RunFolder) -> None:
    with sqlite3.connect(place.journal) as database:
        database.execute("DELETE FROM notes WHERE name = 'report'")
    database.close()


def _alter_note(place: RunFolder, alter: Callable[[dict[str, dict[str, str]]], None]) -> None:
    from batch.journal.journal import Journal

    with Journal(place.journal, b"") as journal:
        note = json.loads(journal.read_note("report") or "")
        alter(note)
        journal.write_note("report", json.dumps(note))


@pytest.mark.parametrize(
    "change",
    [
        *(_edit, _delete_photo, _rename_photo, _touch_photo),
        *(_note_another_version, _have_other_columns, _damage_note),
    ],
)
def test_a_report_is_written_if_anything_differs(
    place: RunFolder, change: Callable[[RunFolder], None]
) -> None:
    change(place)
    assert not _is_kept(place)
    whole = place.run("photos", "-o", "fresh.csv", "--fresh")
    assert whole.returncode == ExitCode.OK, whole.stderr
    assert place.report.read_bytes() == (place.folder / "fresh.csv").read_bytes()
    assert _is_kept(place)


@pytest.mark.parametrize(
    "options", [("--min-confidence", "0.99"), ("--always-answer",), ("--shard", "1/1")]
)
def test_a_report_is_written_for_other_options(place: RunFolder, options: tuple[str, ...]) -> None:
    report = place.report.read_bytes()
    assert not _is_kept(place, *options)
    assert _is_kept(place, *options)
    assert not _is_kept(place)
    assert place.report.read_bytes() == report


def test_photos_in_another_order_have_their_rows_in_it(place: RunFolder) -> None:
    lists = place.folder / "list.txt"
    lists.write_text(f"{FIRST}\n{LAST}\n")
    assert not _is_kept(place, "--max-gone", "0", photos="list.txt")
    assert _is_kept(place, photos="list.txt")
    lists.write_text(f"{LAST}\n{FIRST}\n")
    assert not _is_kept(place, photos="list.txt")
    assert list(place.rows()) == [LAST, FIRST]


@pytest.mark.parametrize("options", [("--per-face",), ("--shard", "1/1")])
def test_a_report_without_photos_is_written_for_other_columns(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    place = RunFolder(tmp_path)
    (tmp_path / "photos").mkdir()
    place.label()
    assert _is_kept(place)
    assert not _is_kept(place, *options)


def test_a_report_of_another_name_is_written(place: RunFolder) -> None:
    state = ("--state", place.journal.name)
    assert not _is_kept(place, *state, report="other.csv")
    assert _is_kept(place, *state, report="other.csv")
    # The journal tells of one report, the last.
    assert not _is_kept(place, *state)


def test_a_photo_that_fails_or_is_missing_has_the_report_written(place: RunFolder) -> None:
    (place.folder / FIRST).write_bytes(b"\xff\xd8\xff")
    for _ in range(2):
        place.label()
        assert not place.record()["up_to_date"]
    (place.folder / FIRST).unlink()
    for _ in range(2):
        place.label("--keep-missing")
        assert not place.record()["up_to_date"]


@pytest.mark.parametrize("options", [(), ("--min-confidence", "0.9")])
def test_rows_of_an_unpublished_report_get_into_the_next(
    place: RunFolder, options: tuple[str, ...]
) -> None:
    """The second run has no pending photos, but the report has an outdated row."""
    photos, report = place.folder / "photos", place.report.read_bytes()
    make_photos(place.folder / "other", 1, first=NUMBER)
    (place.folder / "other" / f"{NUMBER:05}.jpg").replace(place.folder / FIRST)
    for number in (1, 2):
        (photos / f"{number:05}.jpg").rename(place.folder / f"{number}.jpg")
    ran = place.run("photos", "-o", REPORT, "--max-gone", "1", *options)
    assert ran.returncode == ExitCode.FAILED, ran.stderr
    for number in (1, 2):
        (place.folder / f"{number}.jpg").rename(photos / f"{number:05}.jpg")
    assert not _is_kept(place, "--ignore-inode")
    assert place.counts()["reused"] == NUMBER
    assert place.report.read_bytes() != report


def test_a_run_that_was_killed_leaves_no_report_that_is_taken_for_the_last(
    place: RunFolder,
) -> None:
    make_photos(place.folder / "photos", 300, first=NUMBER)
    journal = place.journal.stat().st_mtime_ns
    process = place.start("photos", "-o", REPORT)
    wait_for(
        lambda: has_uncommitted_rows(place.journal) and place.journal.stat().st_mtime_ns != journal,
        process,
    )
    process.send_signal(signal.SIGKILL)
    kill_run(process)
    # Once those that it did not get to are gone, nothing is left to label.
    with sqlite3.connect(place.journal) as database:
        paths = [os.fsdecode(path) for (path,) in database.execute("SELECT path FROM photos")]
    database.close()
    for photo in (place.folder / "photos").iterdir():
        if f"photos/{photo.name}" not in paths:
            photo.unlink()
    place.label()
    assert set(place.rows()) == set(paths)


def test_a_streamed_report_and_a_dataset_are_always_written(place: RunFolder) -> None:
    for output in ("-", "dataset/"):
        for _ in range(2):
            ran = place.run("photos", "-o", output, "--state", "other.journal")
            assert ran.returncode == ExitCode.OK, ran.stderr
            assert "stays as it is" not in ran.stderr
            if output == "-":
                assert ran.stdout.count("\n") == NUMBER + 1


def test_a_pipe_in_place_of_the_report_is_not_read(place: RunFolder) -> None:
    place.report.unlink()
    os.mkfifo(place.report)
    process = place.start("photos", "-o", REPORT)
    with place.report.open("rb") as reader:
        assert reader.read().count(b"\n") == NUMBER + 1
    assert wait_for_end(process).returncode == ExitCode.OK


@pytest.mark.parametrize("between", ["-", "dataset/"])
def test_thresholds_of_a_run_that_published_elsewhere_are_not_taken_for_the_report_s(
    place: RunFolder, between: str
) -> None:
    state = ("--state", "journal")
    for output, threshold in (("a.csv", "0.05"), (between, "0.99")):
        ran = place.run("photos", "-o", output, *state, "--min-confidence", threshold)
        assert ran.returncode == ExitCode.OK, ran.stderr
    assert not _is_kept(place, *state, "--min-confidence", "0.99", report="a.csv")
    assert _is_kept(place, *state, "--min-confidence", "0.99", report="a.csv")


def test_a_report_with_rows_that_another_shard_does_not_have_is_written(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "q", 6)
    for name in ("00000", "00002", "00003", "00004"):  # 1 is in both shards, 5 in one
        (tmp_path / f"q/{name}.jpg").unlink()
    (tmp_path / "q/00001.jpg").rename(tmp_path / "q/01.jpg")
    gone = (tmp_path / "q/00005.jpg").rename(tmp_path / "q/05.jpg")
    half = ("q", "-o", REPORT, "--shard", "1/2")
    assert place.run(*half).returncode == ExitCode.OK
    assert place.counts()["found"] == 2
    gone.unlink()
    assert place.run(*half, "--keep-missing").returncode == ExitCode.OK
    assert place.counts()["missing"] == 1
    assert not _is_kept(place, "--shard", "1/3", photos="q")
    assert place.counts()["missing"] == 0
