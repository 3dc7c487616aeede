"""What `make` does, with programs that only say how they were called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

Make = Callable[..., subprocess.CompletedProcess[str]]
# Prints its arguments, one a line, and ends as a test says.
STUB = """#!/bin/sh
echo "called: ${0##*/}"; printf '<%s>\\n' "$@"; exit ${STUB_EXIT_CODE:-0}
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Run make with an environment that seems to be installed."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("python", "batch-label", "trainer"):
        (venv / "bin" / name).write_text(STUB)
        (venv / "bin" / name).chmod(0o755)
    for name in ("label", "train"):
        (venv / f"{name}.done").touch()

    def run(*args: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        unset = {"NAME", "DATA", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        return subprocess.run(
            ["make", "--no-print-directory", f"VENV={venv}", *args],
            cwd=REPOSITORY,
            env={**environment, "HOME": "/home/anna", "STUB_EXIT_CODE": str(exit_code)},
            capture_output=True,
            text=True,
        )

    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return run


@pytest.mark.parametrize(
    ("photos", "given"),
    [
        ('Anna\'s photos/2026 "best"', 'Anna\'s photos/2026 "best"'),
        ("~/Pictures  raw", "/home/anna/Pictures  raw"),
        ("photos/*.jpg; true", "photos/*.jpg; true"),
    ],
)
def test_label_takes_any_path(make: Make, photos: str, given: str) -> None:
    ran = make("label", f"PHOTOS={photos}", "OUTPUT=it's here.csv")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[:4] == ["called: batch-label", f"<{given}>", "<-o>",
                                           "<it's here.csv>"]  # fmt: skip
    assert "report" not in ran.stdout, "the command names it"
    (again,) = (line for line in ran.stdout.splitlines() if line.startswith("Next time, run: "))
    told = subprocess.run(
        ["bash", "-c", again.partition(": ")[2]], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[1] == f"<{given}>"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "There is no new report"),
        (3, "The column error of results.csv says which files could not be read"),
        (6, "results.csv is published; see the messages above"),
    ],
)
def test_label_says_how_it_ended(make: Make, code: int, words: str) -> None:
    ran = make("label", "PHOTOS=photos", exit_code=code)
    assert ran.returncode == 2, "which make ends with, whatever its command did"
    assert words in ran.stdout
    assert f"batch-label ended with exit code {code}; make itself exits with 2" in ran.stdout
    assert f"Error {code}" in ran.stderr


def test_training_takes_any_path_and_leaves_shipped_models_alone(make: Make) -> None:
    ran = make("train", "export", "DATA=/data/Anna's photos/", "REVIEW=re view.csv")
    assert ran.returncode == 0, ran.stderr
    said = ["<--data>", "</data/Anna's photos/>",
            "<--review>", "<re view.csv>", "<--photos>", "<.>"]  # fmt: skip
    name = "Anna's-photos"
    lines = [line for line in ran.stdout.splitlines() if line.startswith("<")]
    assert lines == [
        "<train>", *said, "<--run>", f"<runs/{name}>",
        "<export>", *said, "<--run>", f"<runs/{name}>", "<--name>", f"<{name}>",
    ]  # fmt: skip


def test_train_export_and_gate_go_together(make: Make) -> None:
    ran = make("train", "export", "gate", "CANDIDATE=~/new one.onnx", "NAME=mine")
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("<")]
    assert lines[-9:] == [
        "<--name>", "<mine>", "<--output>", "</home/anna/new one.onnx>",
        "<gate>", "</home/anna/new one.onnx>", "<mine>", "<--run>", "<runs/mine>",
    ]  # fmt: skip
    ran = make("train", "export", "NAME=mine", "TRAIN=--epochs 5", "EXPORT=--risk 0.1")
    lines = [line for line in ran.stdout.splitlines() if line.startswith("<")]
    assert lines == [
        "<train>", "<--run>", "<runs/mine>", "<--epochs>", "<5>",
        "<export>", "<--run>", "<runs/mine>", "<--name>", "<mine>", "<--risk>", "<0.1>",
    ]  # fmt: skip
    ran = make("export", "gate", "NAME=mine")
    lines = [line for line in ran.stdout.splitlines() if line.startswith("<")]
    assert lines[-6:] == ["<--name>", "<mine>", "<gate>", "<mine>", "<--run>", "<runs/mine>"]


def test_options_of_a_command_that_does_not_run_are_refused(make: Make) -> None:
    for target, setting in (("export", "TRAIN=--risk 0.1"), ("train", "EXPORT=--risk 0.1")):
        ran = make(target, "NAME=mine", setting)
        assert ran.returncode == 2
        assert f"{setting.partition('=')[0]} is for `make " in ran.stderr
        assert "called" not in ran.stdout
