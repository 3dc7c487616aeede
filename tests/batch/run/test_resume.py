"""Runs that are killed, stopped or run out of disk space, and the runs that resume them."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.conftest import REPOSITORY
from tests.support.runs import (
    JOURNAL,
    REPORT,
    BusyPhotos,
    RunFolder,
    count_journal_rows,
    find_drafts,
    has_uncommitted_rows,
    kill_run,
    make_photos,
    unprivileged_prefix,
    wait_for,
    wait_for_end,
)

EARLIER = b"an earlier report\n"
# Seconds between a journal's commits, and some more.
COMMIT = 1.6


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> BusyPhotos:
    return BusyPhotos.make_for(tmp_path_factory.mktemp("crowd"), seconds=3.0)


@pytest.fixture
def place(crowd: BusyPhotos, tmp_path: Path) -> RunFolder:
    """A folder with the crowd's photos and an earlier report."""
    place = crowd.place(tmp_path)
    place.report.write_bytes(EARLIER)
    return place


class End(StrEnum):
    """What a run was doing when it was killed."""

    EARLY = "before its first commit"
    LABELLING = "in the labelling"
    PUBLISHING = "in the publishing"
    LATE = "after the publishing"
    BY_ITSELF = "nothing, it got to its end"


def _kill(place: RunFolder, moment: float, publishing: bool) -> End:
    """Kill a run some seconds after its start, or once it writes the report."""
    before, left = place.report.read_bytes(), find_drafts(place.folder, REPORT)
    process = place.start("photos", "-o", REPORT)
    if publishing:
        wait_for(lambda: bool(find_drafts(place.folder, REPORT) - left), process)
    time.sleep(moment)
    if not kill_run(process):
        return End.BY_ITSELF
    if place.report.read_bytes() != before:
        return End.LATE
    return End.PUBLISHING if find_drafts(place.folder, REPORT) - left else End.LABELLING


@pytest.mark.parametrize("kills", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_repeatedly_ends_with_the_same_report(
    crowd: BusyPhotos, place: RunFolder, tmp_path_factory: pytest.TempPathFactory, kills: int
) -> None:
    chance, ends, aside = random.Random(kills), Counter[End](), tmp_path_factory.mktemp("aside")
    done = 0
    while (number := ends.total() - ends[End.BY_ITSELF]) < kills:
        publishing = number >= 0.75 * kills
        moment = chance.uniform(0, 0.1 if publishing else crowd.startup + COMMIT)
        end = _kill(place, moment, publishing)
        now = count_journal_rows(place.journal, aside)
        assert now >= done
        assert place.report.read_bytes() in (EARLIER, crowd.report)
        ends[End.EARLY if end is End.LABELLING and now == done else end] += 1
        done = now
        if done == crowd.number and not publishing:  # too fast: begin once more
            place.journal.unlink()
            done = 0
    assert place.label()["labelled_now"] == crowd.number - done
    assert place.report.read_bytes() == crowd.report
    assert place.record()["outcome"] == "done"
    assert sorted(path.name for path in place.folder.iterdir()) == [
        *(JOURNAL, "bright.onnx", "photos", REPORT, f"{REPORT}.run.json")
    ]
    assert ends[End.PUBLISHING]
    assert ends[End.LABELLING]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, ExitCode.TERMINATED),
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGHUP, ExitCode.HUNG_UP),
    ],
)
def test_the_next_run_resumes_one_that_a_signal_stopped(
    crowd: BusyPhotos, place: RunFolder, number: signal.Signals, code: ExitCode
) -> None:
    process = place.begin()
    process.send_signal(number)
    ran = wait_for_end(process)
    assert ran.returncode == code
    assert number.name in ran.stderr.splitlines()[-1]
    assert place.report.read_bytes() == EARLIER
    assert (place.record()["outcome"], place.record()["exit_code"]) == ("interrupted", code)
    assert place.label()["reused"] > 0
    assert place.report.read_bytes() == crowd.report


def test_a_hang_up_that_is_ignored_stops_nothing(crowd: BusyPhotos, place: RunFolder) -> None:
    process = place.begin(before=("nohup",))
    process.send_signal(signal.SIGHUP)
    assert wait_for_end(process).returncode == ExitCode.OK
    assert place.report.read_bytes() == crowd.report


def test_an_interrupt_during_the_start_ends_by_the_signal() -> None:
    program = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored in the tests
from batch.cli import main as cli
cli.cli.main = lambda **_: os.kill(os.getpid(), signal.SIGINT)
cli.main()
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True)
    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, b"")


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        refused = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if refused.returncode:
        pytest.skip(f"mounting is refused: {refused.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_the_remedy_and_the_next_one_resumes(
    tmp_path: Path,
) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 1_500)
    with _small_disk(tmp_path / "disk"):
        report, filler = tmp_path / "disk" / "r.csv", tmp_path / "disk" / "filler"
        assert place.run("photos/0000*.jpg", "-o", report).returncode == ExitCode.OK
        earlier = report.read_bytes()
        with filler.open("wb") as file:
            left = os.statvfs(filler)
            file.write(bytes(left.f_bavail * left.f_frsize - 100_000))
        ran = place.run("photos", "-o", report)
        assert ran.returncode == ExitCode.FAILED
        assert str(report.with_name(JOURNAL)) in ran.stderr.splitlines()[-1]
        assert "No space left on device" in ran.stderr.splitlines()[-1]
        assert "free some space" in ran.stderr.splitlines()[-1]
        assert report.read_bytes() == earlier
        filler.unlink()
        ran = place.run("photos", "-o", report)
        assert ran.returncode == ExitCode.OK, ran.stderr
        # Those of the first run, and what a slow one has committed before the disk was full.
        reused = re.search(r" (\d+) reused", ran.stderr)
        assert reused
        assert 10 <= int(reused[1]) < 1_500
        assert place.label()["labelled_now"] == 1_500
        assert place.report.read_bytes() == report.read_bytes()


def _moved_out(crowd: BusyPhotos, folder: Path) -> tuple[RunFolder, Path, subprocess.Popen[str]]:
    """Start a run whose report lies in a separate folder."""
    place, out = crowd.place(folder), folder / "out"
    out.mkdir()
    process = place.start("photos", "-o", "out/r.csv", before=unprivileged_prefix())
    wait_for(lambda: has_uncommitted_rows(out / JOURNAL), process)
    return place, out, process


def test_the_report_s_folder_may_vanish(crowd: BusyPhotos, tmp_path: Path) -> None:
    _, out, process = _moved_out(crowd, tmp_path)
    shutil.rmtree(out)
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.FAILED
    assert "out/" in ran.stderr.splitlines()[-1]
    assert "No such file or directory" in ran.stderr.splitlines()[-1]
    assert not out.exists()


def test_the_report_s_folder_may_become_read_only(crowd: BusyPhotos, tmp_path: Path) -> None:
    place, out, process = _moved_out(crowd, tmp_path)
    out.chmod(0o500)
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.FAILED
    assert str(out / JOURNAL) in ran.stderr.splitlines()[-1]
    out.chmod(0o700)
    assert place.run("photos", "-o", "out/r.csv").returncode == ExitCode.OK
    assert (out / "r.csv").read_bytes() == crowd.report


def test_photos_that_change_during_the_run_have_their_rows(
    crowd: BusyPhotos, tmp_path: Path
) -> None:
    place = RunFolder(tmp_path)
    shutil.copytree(crowd.photos, tmp_path / "photos")
    process = place.begin()
    gone, replaced, cut, empty = sorted((tmp_path / "photos").iterdir())[-4:]
    gone.unlink()
    replaced.write_bytes((tmp_path / "photos" / "00003.jpg").read_bytes())
    os.truncate(cut, cut.stat().st_size // 2)
    os.truncate(empty, 0)
    assert wait_for_end(process).returncode == ExitCode.INCOMPLETE
    rows = place.rows()
    assert place.counts()["found"] == len(rows) == crowd.number
    reasons = [rows[f"photos/{photo.name}"]["error"].split(":")[0] for photo in (gone, cut, empty)]
    assert reasons == ["vanished", "truncated", "empty"]
    same = rows["photos/00003.jpg"]
    assert rows[f"photos/{replaced.name}"] == same | {"path": f"photos/{replaced.name}"}
    # What was changed after discovery is known as what was read, so it is not read again.
    counts = place.label()
    assert (counts["found"], counts["labelled_now"]) == (crowd.number - 1, 2)
