"""Unusual nightly runs: an unmounted disk, drift, and odd modification times."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch.errors import ExitCode
from tests.conftest import Command
from tests.support.abstaining import PAIR, save_abstaining
from tests.support.tiny_models import bright_model, save_model

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


def test_a_disk_that_is_unmounted_for_one_run_costs_no_labelling(
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


def test_drift_since_the_last_run_fails_on_demand(
    tmp_path: Path, command: Command, astronaut: Image.Image
) -> None:
    save_model(bright_model(), tmp_path / "bright.onnx")
    bright, dark = tmp_path / "bright", tmp_path / "dark"
    for folder, change in ((bright, 1.6), (dark, 0.4)):
        folder.mkdir()
        for n in range(130):
            picture = astronaut.resize((200 + n, 200 + n)).point(lambda v, c=change: int(v * c))
            picture.save(folder / f"{n}.jpg")
    run = ("-o", "r.csv", "-m", "bright.onnx", "--fail-on-drift", "--min-confidence", "0")
    assert command("bright", *run).returncode == ExitCode.OK
    ran = command("bright", "dark", *run)
    assert ran.returncode == ExitCode.DRIFTED
    assert "have drifted" in ran.stderr
    assert record(tmp_path)["published"]
    assert len(rows(tmp_path / "r.csv")) == 260
    ran = command("bright", "dark", *run, "--accept-drift")
    assert (ran.returncode, "warning" in ran.stderr) == (ExitCode.OK, False)
    assert "drift is accepted" in ran.stderr
    for photo in list(dark.iterdir()):
        Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(dark / f"2{photo.name}")
    ran = command("bright", "dark", *run)
    assert (ran.returncode, "warning" in ran.stderr) == (ExitCode.OK, False)
    assert record(tmp_path)["drift"]["from_last_run"] == pytest.approx(0, abs=0.05)
    # Other thresholds give other outcomes, which is no drift of the photos.
    ran = command("bright", "dark", *run[:4], "--fail-on-drift", "--min-confidence", "0.99")
    assert (ran.returncode, "warning" in ran.stderr) == (ExitCode.OK, False)


def test_a_camera_that_no_longer_shows_a_person_is_drift(tmp_path: Path, command: Command) -> None:
    save_abstaining(tmp_path)
    for folder, grey in (("bright", 200), ("black", 0)):
        (tmp_path / folder).mkdir()
        for n in range(130):
            Image.new("L", (20 + n, 20), grey).save(tmp_path / folder / f"{n}.png")
    run = ("-o", "r.csv", "-m", PAIR, "--fail-on-drift")
    assert command("bright", *run).returncode == ExitCode.OK
    assert record(tmp_path)["counts"]["by_status"]["ok"] == 130
    ran = command("bright", "black", *run)
    assert ran.returncode == ExitCode.DRIFTED
    assert "the shares of answers differ much from earlier runs" in ran.stderr
    assert record(tmp_path)["counts"]["by_status"]["no_person"] == 130
    assert record(tmp_path)["drift"]["from_last_run"] == 1


def test_odd_mtimes(many: Path, tmp_path: Path, command: Command) -> None:
    os.utime(many / "000.jpg", (0, -1e9))
    os.utime(many / "001.jpg", (0, 9.6e9))  # after 2262, where 64 bits of nanoseconds end
    assert command(*RUN).returncode == ExitCode.OK
    assert command(*RUN).returncode == ExitCode.OK
    assert counts(tmp_path) == (0, 60)
