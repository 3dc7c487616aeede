"""Applying a report is killed, or its disk is full, at any system call that changes files."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.faults.shim import KILL, TEAR, Fault, build_shim, shim_environment
from tests.support.applying import (
    list_files,
    make_row,
    run_apply,
    run_undo,
    save_samples,
    write_report,
)

LABELS = ("happy", "sad")
ACTIONS = {
    "copy": ("--copy-to", "out"),
    "hard links": ("--link-to", "out", "--link", "hard"),
    "symbolic links": ("--link-to", "out"),
    "move": ("--move-to", "out"),
    "move to another disk": ("--move-to", "{disk}/out"),
}


@pytest.fixture(scope="module")
def shim() -> Path:
    built = build_shim()
    if built is None:
        pytest.skip("no C compiler that can build the shim")
    return built


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    save_samples(folder / "photos")
    rows = [
        make_row(folder, f"photos/{name}", label=LABELS[number % 2])
        for number, name in enumerate(list_files(folder / "photos"))
    ]
    write_report(folder / "r.csv", rows)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def start(place: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batch", "apply", "r.csv", *args],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def find_bytes(*folders: Path) -> dict[str, set[str]]:
    """Map the digests of all visible files to where they are."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for name in list_files(folder) if folder.is_dir() else ():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            found.setdefault(digest, set()).add(str(folder / name))
    return found


@pytest.mark.parametrize(
    ("action", "act"), [*((action, KILL) for action in ACTIONS), ("copy", TEAR)]
)
def test_a_kill_leaves_nothing_torn_and_the_next_run_finishes(
    shim: Path, place: Path, disk: Path, tmp_path: Path, action: str, act: str
) -> None:
    args = [arg.format(disk=disk) for arg in ACTIONS[action]]
    out = disk / "out" if "another disk" in action else place / "out"
    whole = find_bytes(place / "photos")
    log = tmp_path / "calls"
    template = tmp_path / "template"
    shutil.copytree(place, template)
    assert start(place, *args, "--yes", **shim_environment(shim, tmp_path, log)).returncode == 0
    calls = len(log.read_text().splitlines())
    expected = list_files(out)
    assert calls > 10

    # While it is recorded as intended, while it is done, and while it is recorded as done.
    for at in (calls // 3, calls // 2, calls - 3):
        for folder in (place, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, place)
        variables = shim_environment(shim, tmp_path, tmp_path / "log", Fault(act, at))
        killed = start(place, *args, "--yes", **variables)
        assert killed.returncode == -signal.SIGKILL
        # No photo is lost, and no visible file is torn.
        visible = {
            digest: {path for path in paths if ".batch-label-" not in path}
            for digest, paths in find_bytes(place / "photos", out).items()
        }
        assert {digest for digest, paths in visible.items() if paths} == set(whole)

        again = start(place, *args, "--yes")
        assert (again.returncode, again.stderr.count("failed")) == (0, 0), (at, again.stderr)
        assert list_files(out) == expected, at
        assert not list(place.glob(".r.csv.applied-*"))

        # Both runs are undone, one after the other.
        while start(place, "--undo", "--yes").returncode == 0:
            pass
        assert find_bytes(place / "photos") == whole
        assert list_files(out) == []


def test_a_move_that_was_killed_can_be_undone_after_a_run_without_its_disk(
    shim: Path, place: Path, disk: Path, tmp_path: Path
) -> None:
    out, away = disk / "out", disk / "away"
    args = ("--move-to", str(out), "--yes")
    whole = find_bytes(place / "photos")
    template, log = tmp_path / "template", tmp_path / "calls"
    shutil.copytree(place, template)
    assert start(place, *args, **shim_environment(shim, tmp_path, log)).returncode == 0
    calls = len(log.read_text().splitlines())
    for folder in (place, out):
        shutil.rmtree(folder)
    shutil.copytree(template, place)
    # All photos are moved, and not all moves are recorded as done.
    variables = shim_environment(shim, tmp_path, tmp_path / "log", Fault(KILL, calls - 3))
    assert start(place, *args, **variables).returncode == -signal.SIGKILL
    assert find_bytes(place / "photos") == {}
    out.rename(away)
    start(place, *args)
    shutil.rmtree(out, ignore_errors=True)
    away.rename(out)
    while start(place, "--undo", "--yes").returncode == 0:
        pass
    assert find_bytes(place / "photos") == whole


@pytest.mark.parametrize("at", [1, 4, 9])
def test_undoing_is_killed_and_then_finished(
    shim: Path, place: Path, tmp_path: Path, at: int, disk: Path
) -> None:
    whole = find_bytes(place / "photos")
    run_apply(place / "r.csv", move_to=disk / "out")
    variables = shim_environment(
        shim, tmp_path, tmp_path / "log", Fault(KILL, at, ("name", "open"))
    )

    assert start(place, "--undo", "--yes", **variables).returncode == -signal.SIGKILL
    run_undo(place / "r.csv")

    assert find_bytes(place / "photos") == whole
    assert list_files(disk / "out") == []


@pytest.mark.parametrize("at", range(1, 6))
def test_undoing_is_killed_before_the_copy_on_the_other_disk_is_removed(
    shim: Path, place: Path, tmp_path: Path, at: int, disk: Path
) -> None:
    (place / "photos/a/chelsea.png.xmp").write_bytes(b"<x:xmpmeta/>")
    whole = find_bytes(place / "photos")
    run_apply(place / "r.csv", move_to=disk / "out")
    variables = shim_environment(shim, disk, tmp_path / "log", Fault(KILL, at, ("name",)))

    assert start(place, "--undo", "--yes", **variables).returncode == -signal.SIGKILL
    assert run_undo(place / "r.csv").failed == {}

    assert find_bytes(place / "photos") == whole
    assert list_files(disk) == []


def test_a_full_disk_is_named_and_leaves_no_draft(shim: Path, place: Path, tmp_path: Path) -> None:
    (place / "out").mkdir()
    fault = Fault("ENOSPC", 2, ("write",), lasting=True)
    variables = shim_environment(shim, place / "out", tmp_path / "log", fault)

    ran = start(place, "--copy-to", "out", "--yes", **variables)

    assert ran.returncode == 1
    assert "No space left on device" in ran.stderr
    assert "free some space there or choose another folder" in ran.stderr
    assert [name for name in list_files(place / "out") if ".batch-label-" in name] == []
    assert run_apply(place / "r.csv", copy_to=place / "out").failed == {}
    assert len(list_files(place / "out")) == 4


def test_a_full_disk_of_the_record_changes_nothing(shim: Path, place: Path, tmp_path: Path) -> None:
    fault = Fault("ENOSPC", 1, ("write",), lasting=True)
    variables = shim_environment(shim, place, tmp_path / "log", fault)

    ran = start(place, "--copy-to", "out", "--yes", **variables)

    assert ran.returncode == 1
    assert "record of operations" in ran.stderr
    assert "No space left" in ran.stderr
    assert list_files(place / "out") == []
