"""Runs of the command as real processes, with their photos, reports and records."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from tests.conftest import REPOSITORY
from tests.support.tiny_models import bright_model, save_model

MODEL = "bright.onnx"
# One worker, so that a run takes about as long on any number of cores.
BASE_ARGUMENTS = ("label", "-m", MODEL, "--provider", "cpu", "--workers", "1")
REPORT = "r.csv"
JOURNAL = ".r.csv.journal"
TIMEOUT_SECONDS = 60.0
SIDE = 96


def make_photos(folder: Path, number: int, first: int = 0) -> Path:
    """Save small, different JPEGs: faces of any brightness and cups of coffee."""
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    portrait = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 400, 300))  # type: ignore[no-untyped-call]
    cup = Image.fromarray(skimage.data.coffee()).crop((150, 50, 450, 350))  # type: ignore[no-untyped-call]
    faces, cups = ([_set_brightness(p, n / 8) for n in range(4, 20)] for p in (portrait, cup))
    for number_of_photo in range(first, first + number):
        photo_bytes = _encode_jpeg((cups if number_of_photo % 7 == 3 else faces), number_of_photo)
        (folder / f"{number_of_photo:05}.jpg").write_bytes(photo_bytes)
    return folder


def _set_brightness(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture.resize((SIDE, SIDE))).enhance(factor)


def _encode_jpeg(pictures: list[Image.Image], number: int) -> bytes:
    photo = BytesIO()
    # The comment makes the bytes unique even if the pixels are not.
    pictures[number % len(pictures)].save(
        photo, "JPEG", quality=60 + number % 37, comment=f"{number}"
    )
    return photo.getvalue()


@dataclass(frozen=True)
class RunFolder:
    """A folder in which the command runs, with the model ``bright.onnx`` in it."""

    folder: Path

    def __post_init__(self) -> None:
        save_model(bright_model(), self.folder / MODEL)

    def start(
        self, *args: str | Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Start to label; ``before`` are words before the command, such as ``nohup``."""
        return self.start_command(*BASE_ARGUMENTS, *args, before=before, **environment)

    def start_command(
        self, *args: str | Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Start any command of the program."""
        return self._start([*before, sys.executable, "-m", "batch", *map(str, args)], environment)

    def start_script(self, script: str, *args: str) -> subprocess.Popen[str]:
        """Start a Python script, such as one that changes the program before it calls it."""
        return self._start([sys.executable, "-c", script, *args], {})

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def command(
        self, *args: str | Path, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run any command of the program; fail on a traceback."""
        return wait_for_end(self.start_command(*args, before=before))

    def run(
        self, *args: str | Path, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Label to the end; fail on a traceback."""
        return wait_for_end(self.start(*args, before=before, **environment))

    def label(self, *args: str | Path) -> dict[str, Any]:
        """Label the folder ``photos`` successfully; return the counts of the run record."""
        ran = self.run("photos", "-o", REPORT, *args)
        assert ran.returncode in (0, 3), ran.stderr
        return self.counts()

    def begin(self, *args: str | Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start to label the folder ``photos``; return once there are rows in the journal."""
        process = self.start("photos", "-o", REPORT, *args, before=before)
        wait_for(lambda: has_uncommitted_rows(self.journal), process)
        return process

    @property
    def report(self) -> Path:
        return self.folder / REPORT

    @property
    def journal(self) -> Path:
        return self.folder / JOURNAL

    def record(self) -> dict[str, Any]:
        """Return the record of the last run on ``REPORT``."""
        record: dict[str, Any] = json.loads((self.folder / f"{REPORT}.run.json").read_bytes())
        return record

    def counts(self) -> dict[str, Any]:
        """Return the counts of a finished run, and assert that they are consistent."""
        counts: dict[str, Any] = self.record()["counts"]
        assert counts["found"] == counts["labelled_now"] + counts["reused"]
        assert counts["found"] == sum(counts["by_status"].values())
        assert counts["by_status"]["failed"] == sum(counts["by_reason"].values())
        return counts

    def rows(self, name: str = REPORT) -> dict[str, dict[str, str]]:
        """Return the rows of a report by path."""
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return {row["path"]: row for row in csv.DictReader(file)}


@dataclass(frozen=True)
class BusyPhotos:
    """Photos that keep a run busy for a known time.

    Attributes:
        photos: the folder of the photos.
        number: the number of photos.
        report: the report of an uninterrupted run.
        startup: seconds of a run that reads one photo and labels none.
    """

    photos: Path
    number: int
    report: bytes
    startup: float

    @classmethod
    def make_for(cls, folder: Path, seconds: float) -> BusyPhotos:
        """Make enough photos for a run of ``seconds``, after timing a few hundred."""
        few = 300
        place = RunFolder(folder)
        photos = make_photos(folder / "photos", few)
        place.label()
        stages = place.record()["seconds"]
        once = sum(stages[stage] for stage in ("read", "decode", "faces", "crop", "classify")) / few
        number = max(few, math.ceil(seconds / once))
        make_photos(photos, number - few, first=few)
        place.label()
        os.utime(photos / "00000.jpg")  # so that a run reads one photo and writes the report
        started = time.monotonic()
        assert place.label()["labelled_now"] == 0
        return cls(photos, number, place.report.read_bytes(), time.monotonic() - started)

    def place(self, folder: Path) -> RunFolder:
        """Make a run folder that contains these photos."""
        (folder / "photos").symlink_to(self.photos)
        return RunFolder(folder)


def wait_for_end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process to end; fail on a traceback."""
    stdout, stderr = process.communicate(timeout=2 * TIMEOUT_SECONDS)
    assert "Traceback" not in stderr, stderr
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill_run(process: subprocess.Popen[str]) -> bool:
    """Kill a run; return whether it was still running."""
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition while a run is in progress."""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the run ended too early:\n{wait_for_end(process).stderr}")
        assert time.monotonic() < give_up
        time.sleep(0.001)


def has_uncommitted_rows(journal: Path) -> bool:
    """Tell whether the journal of a run has rows that are not committed yet."""
    try:
        # The rollback journal of SQLite is larger than its header once a page is changed.
        return journal.with_name(f"{journal.name}-journal").stat().st_size > 4096
    except FileNotFoundError:
        return False


def find_drafts(folder: Path, name: str) -> set[Path]:
    """Find the drafts of a report, in progress or left by a killed process."""
    return set(folder.glob(f".{name}.batch-label-*.tmp"))


def count_journal_rows(journal: Path, aside: Path) -> int:
    """Count the rows that a killed run left in its journal, in a copy that must be sound."""
    if not journal.exists():
        return 0
    beside = journal.with_name(f"{journal.name}-journal")
    for file in (journal, beside):
        copy = aside / file.name
        copy.unlink(missing_ok=True)
        if file.exists():
            shutil.copy(file, copy)
    database = sqlite3.connect(aside / journal.name)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'photos'"
        if not database.execute(tables).fetchone()[0]:
            return 0
        count: int = database.execute("SELECT count(*) FROM photos").fetchone()[0]
        return count
    finally:
        database.close()


def unprivileged_prefix() -> tuple[str, ...]:
    """Return words before a command that drop root's power over file permissions."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root bypasses file permissions, and setpriv is not installed")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def list_children(pid: int) -> list[int]:
    """List the IDs of the running children of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
