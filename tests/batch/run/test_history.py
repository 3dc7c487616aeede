"""Runs with --keep: a history of the report, whatever happens between two steps."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.faults.shim import KILL, Fault, build_shim, shim_environment
from tests.support.runs import (
    BASE_ARGUMENTS,
    REPORT,
    RunFolder,
    make_photos,
    unprivileged_prefix,
    wait_for_end,
)

# The command line, killed at a call of a function. With the word "after", the call is made first.
KILLED = """
import importlib, os, signal, sys
import batch.cli.main

module, function, when, number = sys.argv.pop(1).split(":")
module = importlib.import_module(module)
usual, calls = getattr(module, function), []

def killed(*args, **named):
    calls.append(1)
    if len(calls) == int(number):
        if when == "after":
            usual(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(*args, **named)

setattr(module, function, killed)
batch.cli.main.main()
"""


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 3)
    return RunFolder(tmp_path)


def add_photo(place: RunFolder) -> None:
    photos = place.folder / "photos"
    make_photos(photos, 1, first=len(list(photos.iterdir())))


def history(place: RunFolder, report: str = REPORT) -> list[Path]:
    """List the dated reports, the oldest first."""
    paths = (place.folder / f"{report}.history").glob("r-*Z*")
    return sorted(path for path in paths if path.suffix != ".json")


def record_of(kept: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads(kept.with_name(f"{kept.name}.run.json").read_bytes())
    return record


def kill(place: RunFolder, at: str, *args: str) -> None:
    process = place.start_script(KILLED, at, *BASE_ARGUMENTS, "photos", *args)
    assert wait_for_end(process).returncode == -9, at


def rows(report: Path) -> int:
    with report.open(newline="", encoding="utf-8") as file:
        return len(list(csv.DictReader(file)))


def test_each_version_of_the_report_is_kept_with_its_record(place: RunFolder) -> None:
    place.label("--keep", "2")
    first = history(place)
    assert [path.samefile(place.report) for path in first] == [True]
    ran = place.run("photos", "-o", REPORT, "--keep", "2")
    assert "nothing has changed" in ran.stderr
    assert "kept" not in ran.stderr
    assert history(place) == first, "a run that publishes nothing keeps nothing"
    add_photo(place)
    ran = place.run("photos", "-o", REPORT, "--keep", "2", "--log-format", "json")
    events = {event["event"]: event for event in map(json.loads, ran.stderr.splitlines())}
    second = history(place)[1]
    assert (events["kept"]["kept"], events["kept"]["removed"]) == (str(second), 0)
    add_photo(place)
    ran = place.run("photos", "-o", REPORT, "--keep", "2")
    assert "1 older report removed" in ran.stderr
    kept = history(place)
    assert kept[0] == second
    assert [rows(path) for path in kept] == [4, 5]
    for path in kept:
        record = record_of(path)
        assert (record["outcome"], record["published"]) == ("done", True)
        counts = record["counts"]
        assert isinstance(counts, dict)
        assert counts["found"] == rows(path)
    assert len(list(kept[0].parent.iterdir())) == 4


def test_a_report_that_is_written_again_with_the_same_bytes_is_kept_once(place: RunFolder) -> None:
    (place.folder / "photos" / "broken.jpg").write_bytes(b"no photo")
    for _ in range(3):  # a report with a failure is written by every run
        assert place.run("photos", "-o", REPORT, "--keep", "9").returncode == ExitCode.INCOMPLETE
    assert len(history(place)) == 1


def test_a_run_that_fails_keeps_nothing(place: RunFolder) -> None:
    (place.folder / "photos" / "broken.jpg").write_bytes(b"no photo")
    ran = place.run("photos", "-o", REPORT, "--keep", "9", "--max-failures", "0")
    assert ran.returncode == ExitCode.FAILED
    assert not (place.folder / f"{REPORT}.history").exists()


def test_kept_reports_are_no_photos(place: RunFolder) -> None:
    photos = place.folder / "photos"
    for _ in range(2):
        add_photo(place)
        assert place.run("photos", "-o", "photos/r.csv", "--keep", "9").returncode == ExitCode.OK
    assert len(history(place, "photos/r.csv")) == 2
    for given in ("photos", "photos/**"):
        listed = place.command("label", given, "--dry-run").stdout.split()
        assert listed == [f"photos/{path.name}" for path in sorted(photos.glob("*.jpg"))]


# Kills, each by what the killed run did before.
@pytest.mark.parametrize(
    ("at", "kept_by_killed"),
    [
        ("batch.recording.retention:keep_report:before:1", 1),
        ("batch.recording.retention:keep_report:after:1", 2),
        ("batch.recording.retention:remove_oldest:after:1", 2),
        ("batch.recording.recorder:write_record:after:1", 2),
        ("batch.recording.recorder:keep_record:after:1", 2),
    ],
)
def test_a_run_that_is_killed_is_repaired_by_the_next(
    place: RunFolder, at: str, kept_by_killed: int
) -> None:
    place.label("--keep", "9")
    add_photo(place)
    kill(place, at, "-o", REPORT, "--keep", "9")
    assert rows(place.report) == 4, "it was published"
    assert len(history(place)) == kept_by_killed
    place.label("--keep", "9")
    kept = history(place)
    assert [rows(path) for path in kept] == [3, 4]
    assert kept[1].read_bytes() == place.report.read_bytes()
    assert [record_of(path)["published"] for path in kept] == [True, True]


def _start_history(folder: Path, *output: str) -> RunFolder:
    """Prepare a folder with three kept reports, and one more photo since."""
    folder.mkdir()
    make_photos(folder / "photos", 3)
    place = RunFolder(folder)
    for _ in range(3):
        assert place.run("photos", *output, "--keep", "9").returncode == ExitCode.OK
        add_photo(place)
    return place


# A dataset takes more calls, of which every third is tried.
@pytest.mark.parametrize(("report", "step"), [(REPORT, 1), ("r/", 3)])
def test_a_kill_at_any_change_of_names_is_repaired(tmp_path: Path, report: str, step: int) -> None:
    shim = build_shim()
    if shim is None:
        pytest.skip("no C compiler that can build the shim")
    output = ("-o", report, "--state", "state.db")
    template = _start_history(tmp_path / "template", *output)
    log = tmp_path / "calls"

    def run(name: str, fault: Fault | None) -> tuple[RunFolder, int]:
        place = RunFolder(Path(shutil.copytree(template.folder, tmp_path / name, symlinks=True)))
        log.unlink(missing_ok=True)
        variables = shim_environment(shim, place.folder, log, fault, ("name",), ("photos",))
        ran = place.run("photos", *output, "--keep", "2", before=(), **variables)
        return place, ran.returncode

    def versions(place: RunFolder) -> list[dict[str, bytes]]:
        return [_read(path) for path in history(place, report.rstrip("/"))]

    place, code = run("whole", None)
    assert code == ExitCode.OK
    expected, before = versions(place), versions(template)
    assert len(expected) == 2
    assert expected[0] == before[2], "the oldest two are removed"
    calls = log.read_text().splitlines()
    kept = [n for n, line in enumerate(calls, start=1) if f"{report.rstrip('/')}.history" in line]
    assert len(kept) >= 6
    for number in kept[::step]:
        place, code = run(f"killed-{number}", Fault(KILL, number, ("name",)))
        what = calls[number - 1]
        assert code < 0, what
        found = versions(place)
        assert all(version in [*before, expected[1], *_partly(before[:2])] for version in found)
        assert before[2] in found, what
        assert place.run("photos", *output, "--keep", "2").returncode == ExitCode.OK, what
        assert versions(place) == expected, what
        assert record_of(history(place, report.rstrip("/"))[1])["published"] is True, what
        left = (place.folder / f"{report.rstrip('/')}.history").iterdir()
        # The folder of a draft that was killed before its marker was filled in stays.
        assert len([path for path in left if not path.name.startswith(".")]) == 4, what
        shutil.rmtree(place.folder)


def _read(report: Path) -> dict[str, bytes]:
    files = report.iterdir() if report.is_dir() else [report]
    return {path.name if report.is_dir() else "": path.read_bytes() for path in sorted(files)}


def _partly(datasets: list[dict[str, bytes]]) -> list[dict[str, bytes]]:
    """Give what is left of datasets while they are removed: the list of their files, or none."""
    lists = [{"_SUCCESS": files["_SUCCESS"]} for files in datasets if "_SUCCESS" in files]
    return [*lists, {}]


def test_a_history_that_can_t_be_written_does_not_lose_the_report(place: RunFolder) -> None:
    place.label("--keep", "2")
    folder = place.folder / f"{REPORT}.history"
    folder.chmod(0o500)
    add_photo(place)
    before = unprivileged_prefix()
    try:
        ran = place.run("photos", "-o", REPORT, "--keep", "2", before=before)
        assert ran.returncode == ExitCode.PUBLISHED_ONLY, ran.stderr
        last = ran.stderr.splitlines()[-1]
        assert f"the report {REPORT} is published, but its history can't be updated" in last
        assert "permission denied (owner" in last
        assert rows(place.report) == 4
        record = place.record()
        assert (record["outcome"], record["published"]) == ("published_only", True)
        assert "history" in str(record["error"])
        again = place.run("photos", "-o", REPORT, "--keep", "2", before=before)
        assert again.returncode == ExitCode.PUBLISHED_ONLY, "nothing changed, but it is not kept"
    finally:
        folder.chmod(0o700)
    assert place.label("--keep", "2")["labelled_now"] == 0
    assert [rows(path) for path in history(place)] == [3, 4]


def test_fewer_are_kept_by_the_next_run_even_if_nothing_changed(place: RunFolder) -> None:
    for _ in range(4):
        add_photo(place)
        place.label("--keep", "30")
    assert len(history(place)) == 4
    place.label("--keep", "3")
    assert [rows(path) for path in history(place)] == [5, 6, 7]


@pytest.mark.parametrize(
    ("output", "remedy"), [("-", "name a report with -o"), ("s3://b/r.csv", "versioning")]
)
def test_reports_without_a_folder_are_refused(place: RunFolder, output: str, remedy: str) -> None:
    ran = place.run("photos", "-o", output, "--keep", "3")
    assert ran.returncode == ExitCode.USAGE
    assert "--keep" in ran.stderr
    assert remedy in ran.stderr


def test_the_journal_can_t_be_the_history(place: RunFolder) -> None:
    ran = place.run("photos", "-o", REPORT, "--keep", "3", "--state", f"{REPORT}.history")
    assert ran.returncode == ExitCode.USAGE
    assert "its history" in ran.stderr


def test_diff_and_report_use_the_history(place: RunFolder) -> None:
    alone = place.command("diff", REPORT)
    assert alone.returncode == 2
    assert f"{REPORT}.history has no report before {REPORT}" in alone.stderr
    assert "label with --keep first" in alone.stderr
    for _ in range(2):  # the second run changes nothing
        place.label("--keep", "9")
        first = place.command("diff", REPORT)
        assert first.returncode == 2
        assert f"{REPORT} is the first report that" in first.stderr
        assert "a run that changes nothing keeps none; run with --keep again" in first.stderr
    add_photo(place)
    for _ in range(2):
        place.label("--keep", "9")
        add_photo(place)
    compared = place.command("diff", REPORT)
    assert compared.returncode == ExitCode.OK, compared.stderr
    assert "1 new, 0 gone, 0 moved, 0 renamed, 0 relabelled" in compared.stderr
    assert history(place)[-2].name in compared.stderr
    assert "new,photos/00004.jpg" in compared.stdout
    assert "give two reports" in place.command("diff", "s3://bucket/r.csv").stderr
    assert place.command("diff", REPORT, REPORT, REPORT).returncode == ExitCode.USAGE
    made = place.command("report", REPORT)
    assert made.returncode == ExitCode.OK, made.stderr
    assert f"2 of 2 earlier reports in {place.folder}/{REPORT}.history shown" in made.stderr


def test_a_page_says_which_kept_reports_it_can_t_show(place: RunFolder) -> None:
    for _ in range(3):
        place.label("--keep", "9")
        add_photo(place)
    first, second, _ = history(place)
    first.write_text("damaged")
    text = second.read_text(encoding="utf-8")
    second.write_text(text.replace("p_happy", "p_glad"), encoding="utf-8")
    made = place.command("report", REPORT)
    assert made.returncode == ExitCode.OK, made.stderr
    assert "0 of 2 earlier reports" in made.stderr
    skipped = [line for line in made.stderr.splitlines() if line.startswith("not shown: ")]
    assert first.name in skipped[0]
    assert "has the labels glad" in skipped[1]
    quiet = place.command("report", REPORT, "--quiet")
    assert quiet.stderr.splitlines() == skipped
    chosen = place.command("report", REPORT, "--previous", str(first))
    assert chosen.returncode != ExitCode.OK, "a report that is given must be readable"
