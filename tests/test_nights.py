"""One night after the other, as a scheduler sees them: real processes, photos and signals."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch.errors import ExitCode
from tests.conftest import REPOSITORY, Command
from tests.tiny_models import bright_model, save

KILLS = 12
JOURNAL = ".r.csv.journal"
RUN = ("many", "-o", "r.csv", "-m", "happy-sad")


@pytest.fixture
def many(tmp_path: Path, astronaut: Image.Image) -> Path:
    """Sixty different photos of one face."""
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(60):
        crop = astronaut.crop((0, 0, 400 + n, 400 + n))
        crop.save(folder / f"{n:03}.jpg", quality=60 + n % 30)
    return folder


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "batch", *args, "--workers", "1", "--batch-size", "4"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(folder: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((folder / "r.csv.run.json").read_text())
    return run


def counts(folder: Path) -> tuple[int, int]:
    """Files that the last run labelled, and those whose rows it reused."""
    found = record(folder)["counts"]
    assert found["found"] == found["labelled_now"] + found["reused"]
    assert found["found"] == sum(found["by_status"].values())
    return found["labelled_now"], found["reused"]


def undisturbed(folder: Path, *more: str) -> bytes:
    """The report of a run that knows of no earlier one."""
    output = folder / "fresh.csv"
    with start(folder, "many", "-o", str(output), "-m", "happy-sad", "--fresh", *more) as process:
        process.communicate()
    return output.read_bytes()


def wait_for_rows(folder: Path, least: int) -> None:
    """Wait until the journal has some rows on disk."""
    while True:
        try:
            with sqlite3.connect(f"file:{folder / JOURNAL}?mode=ro", uri=True) as database:
                if database.execute("SELECT count(*) FROM photos").fetchone()[0] >= least:
                    return
        except sqlite3.OperationalError:  # not there yet, or being committed to
            pass
        time.sleep(0.02)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_report(
    many: Path, tmp_path: Path
) -> None:
    wanted = undisturbed(tmp_path)
    chance = random.Random(20261124)
    kills = 0
    while kills < KILLS:
        for name in ("r.csv", JOURNAL, f"{JOURNAL}-journal"):
            (tmp_path / name).unlink(missing_ok=True)
        while True:
            with start(tmp_path, *RUN) as process:
                try:
                    process.wait(timeout=chance.uniform(0.1, 1.5))
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
            kills += 1
            assert not (tmp_path / "r.csv").exists() or (tmp_path / "r.csv").read_bytes() == wanted
        assert process.returncode == ExitCode.OK
        assert (tmp_path / "r.csv").read_bytes() == wanted
        assert sum(counts(tmp_path)) == 60


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.TERMINATED),
        (signal.SIGHUP, ExitCode.HUNG_UP),
    ],
)
def test_a_signal_keeps_what_is_done_and_the_old_report(
    many: Path, tmp_path: Path, command: Command, number: signal.Signals, code: ExitCode
) -> None:
    for n in range(60, 200):
        shutil.copy(many / "000.jpg", many / f"{n:03}.jpg")
        with (many / f"{n:03}.jpg").open("ab") as file:
            file.write(bytes([n % 256, n // 256]))
    (tmp_path / "r.csv").write_text("the old report\n")
    with start(tmp_path, *RUN) as process:
        wait_for_rows(tmp_path, 1)
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == code, said
    assert "run the same command again to go on" in said
    assert (tmp_path / "r.csv").read_text() == "the old report\n"
    assert record(tmp_path)["outcome"] == "interrupted"
    assert command(*RUN).returncode == ExitCode.OK
    labelled, reused = counts(tmp_path)
    assert labelled > 0
    assert reused > 0
    assert (tmp_path / "r.csv").read_bytes() == undisturbed(tmp_path)


def test_only_what_is_new_or_changed_is_labelled(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command(*RUN)
    assert counts(tmp_path) == (60, 0)
    command(*RUN)
    assert counts(tmp_path) == (0, 60)
    (many / "010.jpg").unlink()
    (many / "011.jpg").rename(many / "moved.jpg")
    shutil.copy(many / "012.jpg", many / "copied.jpg")
    Image.open(many / "000.jpg").resize((300, 300)).save(many / "013.jpg")
    Image.open(many / "000.jpg").resize((310, 310)).save(many / "new.jpg")
    command(*RUN)
    assert counts(tmp_path) == (2, 59)
    assert (tmp_path / "r.csv").read_bytes() == undisturbed(tmp_path)
    assert "many/010.jpg" not in {row["path"] for row in rows(tmp_path / "r.csv")}


def test_what_failed_is_tried_again(many: Path, tmp_path: Path, command: Command) -> None:
    whole = (many / "005.jpg").read_bytes()
    (many / "005.jpg").write_bytes(whole[:2000])
    assert command(*RUN).returncode == ExitCode.INCOMPLETE
    assert command(*RUN).returncode == ExitCode.INCOMPLETE
    assert counts(tmp_path) == (1, 59)
    (many / "005.jpg").write_bytes(whole)
    assert command(*RUN).returncode == ExitCode.OK
    assert (tmp_path / "r.csv").read_bytes() == undisturbed(tmp_path)


def test_bytes_that_changed_behind_size_and_time_are_seen_on_demand(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command(*RUN)
    photo = many / "020.jpg"
    before, dark = photo.stat(), bytearray(photo.read_bytes())
    dark[-200:-100] = bytes(100)
    photo.write_bytes(dark)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    command(*RUN)
    assert counts(tmp_path) == (0, 60)
    command(*RUN, "--verify-hash")
    assert counts(tmp_path) == (1, 59)


def test_rows_of_photos_that_are_gone_are_kept_on_demand(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command(*RUN)
    old = {row["path"]: row for row in rows(tmp_path / "r.csv")}
    for name in ("030.jpg", "007.jpg"):
        (many / name).unlink()
    command(*RUN, "--keep-missing")
    kept = rows(tmp_path / "r.csv")
    assert [row["path"] for row in kept[-2:]] == ["many/007.jpg", "many/030.jpg"]
    assert kept[-1] == old["many/030.jpg"] | {"error": "missing: not found in this run"}
    assert record(tmp_path)["counts"]["missing"] == 2
    command(*RUN)
    command(*RUN, "--keep-missing")
    assert len(rows(tmp_path / "r.csv")) == 58


def test_a_disk_that_is_away_for_a_night_costs_no_labelling(
    many: Path, tmp_path: Path, command: Command
) -> None:
    (many / "sub").mkdir()
    for n in range(20):
        (many / f"{n:03}.jpg").rename(many / "sub" / f"{n:03}.jpg")
    command(*RUN)
    (many / "sub").rename(tmp_path / "away")
    (many / "sub").symlink_to(tmp_path / "nowhere")
    assert command(*RUN, "--follow-symlinks").returncode == ExitCode.INCOMPLETE
    (many / "sub").unlink()
    (tmp_path / "away").rename(many / "sub")
    command(*RUN)
    assert counts(tmp_path) == (0, 60)


def test_everything_is_labelled_anew_where_answers_may_differ(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command(*RUN)
    for more in (["--min-confidence", "0.99"], ["-m", "people"], ["--fresh", "-m", "people"]):
        command(*RUN, *more)
        assert counts(tmp_path) == (60, 0)
    command(*RUN, "-m", "people", "--batch-size", "1", "--workers", "2")
    assert counts(tmp_path) == (0, 60)


def test_another_form_of_the_report_needs_no_labelling(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command("many", "-o", "r.csv", "-m", "happy-sad", "--state", "known")
    for name, more in (("r.csv", ["--per-face"]), ("r.jsonl", [])):
        command("many", "-o", name, "-m", "happy-sad", "--state", "known", *more)
        run = json.loads((tmp_path / f"{name}.run.json").read_text())
        assert run["counts"]["labelled_now"] == 0
    assert rows(tmp_path / "r.csv")[0]["face"] == "1"
    assert not (tmp_path / JOURNAL).exists()


def spoil_garbage(journal: Path) -> None:
    journal.write_bytes(random.Random(1).randbytes(50_000))


def spoil_middle(journal: Path) -> None:
    data = bytearray(journal.read_bytes())
    data[4096:-4096] = bytes(len(data) - 8192)
    journal.write_bytes(data)


def spoil_end(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:6000])


def spoil_version(journal: Path) -> None:
    with sqlite3.connect(journal) as database:
        database.execute("PRAGMA user_version = 0")


def spoil_table(journal: Path) -> None:
    with sqlite3.connect(journal) as database:
        database.execute("DROP TABLE photos")


def spoil_rows(journal: Path) -> None:
    with sqlite3.connect(journal) as database:
        database.execute("UPDATE photos SET row = '{}'")


@pytest.mark.parametrize(
    "spoil",
    [spoil_garbage, spoil_middle, spoil_end, spoil_version, spoil_table, spoil_rows],
)
def test_a_damaged_journal_is_put_aside_and_built_anew(
    many: Path, tmp_path: Path, command: Command, spoil: Any
) -> None:
    command(*RUN)
    wanted = (tmp_path / "r.csv").read_bytes()
    spoil(tmp_path / JOURNAL)
    spoilt = (tmp_path / JOURNAL).read_bytes()
    ran = command(*RUN)
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert "can't be used" in ran.stderr
    assert (tmp_path / f"{JOURNAL}.broken").read_bytes() == spoilt
    assert counts(tmp_path) == (60, 0)
    assert (tmp_path / "r.csv").read_bytes() == wanted


def test_what_is_no_journal_is_left_alone(many: Path, tmp_path: Path, command: Command) -> None:
    photo = many / "000.jpg"
    before = photo.read_bytes()
    ran = command(*RUN, "--state", photo)
    assert ran.returncode == ExitCode.FAILED
    assert "is no journal" in ran.stderr
    assert photo.read_bytes() == before
    ran = command(*RUN, "--state", "many")
    assert ran.returncode == ExitCode.FAILED
    assert "journal" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_second_run_waits_if_it_is_told_to(many: Path, tmp_path: Path, command: Command) -> None:
    hold = """
import sys
from batch.lock import locked
with locked("r.csv"):
    print(flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert command(*RUN).returncode == ExitCode.LOCKED
        with start(tmp_path, *RUN, "--wait") as ended:
            assert ended.stderr is not None
            assert "waiting" in ended.stderr.readline()
            ended.send_signal(signal.SIGTERM)
            assert ended.wait() == ExitCode.TERMINATED
        with start(tmp_path, *RUN, "--wait") as waiting:
            assert waiting.stderr is not None
            assert "waiting" in waiting.stderr.readline()
            holder.communicate()
            waiting.communicate()
    assert waiting.returncode == ExitCode.OK
    assert len(rows(tmp_path / "r.csv")) == 60


def test_a_limit_on_time_keeps_what_is_done(many: Path, tmp_path: Path, command: Command) -> None:
    for n in range(60, 2000):
        (many / f"{n:04}.jpg").write_bytes((many / "000.jpg").read_bytes() + n.to_bytes(2, "big"))
    ran = command(*RUN, "--time-limit", "1s")
    assert ran.returncode == ExitCode.TIME_IS_UP
    assert "the time limit 1s is over" in ran.stderr
    assert not (tmp_path / "r.csv").exists()
    assert record(tmp_path)["outcome"] == "time_is_up"
    for path in many.glob("????.jpg"):
        path.unlink()
    assert command(*RUN, "--time-limit", "1h").returncode == ExitCode.OK
    assert counts(tmp_path)[1] > 0


def test_too_many_failures_leave_the_old_report(
    many: Path, tmp_path: Path, command: Command
) -> None:
    command(*RUN)
    wanted = (tmp_path / "r.csv").read_bytes()
    for n in range(5):
        (many / f"{n:03}.jpg").write_bytes(b"")
    ran = command(*RUN, "--max-failures", "5%", "--metrics-file", "b.prom")
    assert ran.returncode == ExitCode.FAILED
    assert (
        "5 of 60 files failed, more than --max-failures 5% allows (most often empty" in ran.stderr
    )
    assert (tmp_path / "r.csv").read_bytes() == wanted
    assert "\nbatch_label_last_success" not in (tmp_path / "b.prom").read_text()
    assert command(*RUN, "--max-failures", "10%").returncode == ExitCode.INCOMPLETE


def test_the_log_is_json_on_demand(many: Path, command: Command) -> None:
    ran = command(*RUN, "--log-format", "json")
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [event["event"] for event in events][:2] == ["opened", "found"]
    assert events[-1]["event"] == "summary"
    assert events[-1]["labelled_now"] == 60
    (error,) = map(json.loads, command("nowhere", "--log-format", "json").stderr.splitlines())
    assert (error["level"], error["exit_code"]) == ("error", ExitCode.USAGE)


def test_drift_since_the_last_run_fails_on_demand(
    tmp_path: Path, command: Command, astronaut: Image.Image
) -> None:
    save(bright_model(), tmp_path / "bright.onnx")
    bright, dark = tmp_path / "bright", tmp_path / "dark"
    for folder, change in ((bright, 1.6), (dark, 0.4)):
        folder.mkdir()
        for n in range(130):
            picture = astronaut.resize((200 + n, 200 + n)).point(lambda v, c=change: int(v * c))
            picture.save(folder / f"{n}.jpg")
    run = ("-o", "r.csv", "-m", "bright.onnx", "--fail-on-drift", "--min-confidence", "0")
    assert command("bright", *run).returncode == ExitCode.OK
    ran = command("bright", "dark", *run)
    assert ran.returncode == ExitCode.FAILED
    assert "have drifted" in ran.stderr
    assert record(tmp_path)["published"]
    assert len(rows(tmp_path / "r.csv")) == 260


def test_odd_times_are_times_too(many: Path, tmp_path: Path, command: Command) -> None:
    os.utime(many / "000.jpg", (0, -1e9))
    os.utime(many / "001.jpg", (0, 9.6e9))  # after 2262, where 64 bits of nanoseconds end
    assert command(*RUN).returncode == ExitCode.OK
    assert command(*RUN).returncode == ExitCode.OK
    assert counts(tmp_path) == (0, 60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk is refused")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_the_run_and_the_next_goes_on(
    many: Path, tmp_path: Path, command: Command, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(150_000))
    run = ("many", "-o", small_disk / "r.csv", "-m", "happy-sad")
    ran = command(*run)
    assert ran.returncode == ExitCode.FAILED
    assert "free some space" in ran.stderr
    assert "Traceback" not in ran.stderr
    ballast.unlink()
    assert command(*run).returncode == ExitCode.OK
    assert (small_disk / "r.csv").read_bytes() == undisturbed(tmp_path)


def test_a_folder_that_goes_away_in_mid_run_is_no_traceback(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with start(tmp_path, "many", "-o", "out/r.csv", "-m", "happy-sad") as process:
        while not (out / JOURNAL).exists():
            time.sleep(0.01)
        shutil.rmtree(out, ignore_errors=True)
        _, said = process.communicate()
    assert process.returncode == ExitCode.FAILED
    assert "Traceback" not in said
    assert "can't be written" in said


def test_photos_that_change_under_its_hands_have_their_rows(many: Path, tmp_path: Path) -> None:
    with start(tmp_path, *RUN) as process:
        assert process.stderr is not None
        while "found" not in process.stderr.readline():
            pass
        (many / "059.jpg").unlink()
        (many / "058.jpg").write_bytes(b"no photo any more")
        process.communicate()
    assert process.returncode == ExitCode.INCOMPLETE
    found = {row["path"]: row["error"].split(":")[0] for row in rows(tmp_path / "r.csv")}
    assert len(found) == 60
    assert found["many/059.jpg"] == "vanished"
    assert found["many/058.jpg"] == "not_an_image"
