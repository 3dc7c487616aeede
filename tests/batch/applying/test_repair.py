"""Repair of the record of operations, if files changed or their disk was away since the kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch.applying.operations import Operations
from batch.applying.transfer import FOREIGN, GONE
from batch.options import SidecarOptions
from batch.xmp import SidecarContent, update_sidecar
from tests.support.applying import (
    list_files,
    make_row,
    run_apply,
    run_undo,
    save_samples,
    write_report,
)
from tests.support.sidecars import read_keywords

CAT = "photos/a/chelsea.png"
XMP: dict[str, Any] = {"sidecars": SidecarOptions()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_samples(tmp_path / "photos")
    return tmp_path


def write(place: Path, label: str = "happy", path: str = CAT) -> Path:
    return write_report(place / "r.csv", [make_row(place, path, label=label)])


def run_until_killed(report: Path, **options: Any) -> None:
    """Apply a report as a process does that is killed before it records what it has done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operations, "complete", lambda *_: None)
        run_apply(report, **options)


def run_until_killed_before(report: Path, **options: Any) -> None:
    """Apply a report as a process does that is killed before it does what it intends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch.applying.apply_report.perform", lambda _: (None, None))
        run_until_killed(report, **options)


def swap(folder: Path, other: Path) -> None:
    """Exchange two folders; the first may be missing."""
    spare = folder.with_name("spare")
    if folder.exists():
        folder.rename(spare)
    other.rename(folder)
    if spare.exists():
        spare.rename(other)


def test_labels_in_sidecars_can_be_undone_after_a_run_without_their_disk(place: Path) -> None:
    report = write(place)
    run_until_killed(report, **XMP)
    (place / "photos").rename(place / "away")
    assert run_apply(report, **XMP).failed == {GONE: 1}
    (place / "away").rename(place / "photos")

    assert run_undo(report).failed == {}
    assert not (place / f"{CAT}.xmp").exists()


def test_labels_can_be_taken_out_of_a_sidecar_that_was_changed_after_a_kill(place: Path) -> None:
    report, sidecar = write(place), place / f"{CAT}.xmp"
    run_until_killed(report, **XMP)
    content = SidecarContent(("cat",), "animals", None, 300, 200)
    sidecar.write_bytes(update_sidecar(sidecar.read_bytes(), content))

    run_apply(report, **XMP)

    while read_keywords(sidecar.read_bytes(), "expression"):
        run_undo(report)
    assert read_keywords(sidecar.read_bytes(), "animals") == ("cat",)


@pytest.mark.parametrize("before", [True, False])
def test_a_sidecar_that_a_killed_run_did_not_write_is_written(place: Path, before: bool) -> None:
    report, sidecar = write(place), place / f"{CAT}.xmp"
    run_until_killed_before(report, **XMP)
    if before:
        content = SidecarContent(("cat",), "animals", None, 300, 200)
        sidecar.write_bytes(update_sidecar(None, content))

    assert run_apply(report, **XMP).done == {("write", "happy"): 1}
    assert read_keywords(sidecar.read_bytes(), "expression") == ("happy",)


def test_copies_can_be_undone_after_a_run_without_their_disk(place: Path) -> None:
    report, out, away = write(place), place / "out", place / "away"
    run_until_killed(report, copy_to=out)
    out.rename(away)
    run_apply(report, copy_to=out)
    swap(out, away)

    run_undo(report)
    swap(out, away)
    while list_files(out) or list_files(away):
        run_undo(report)
        swap(out, away)


def test_a_rename_that_was_not_done_is_done_when_the_disk_is_back(place: Path) -> None:
    report, out, away = write(place), place / "out", place / "away"
    run_apply(report, move_to=out)
    write_report(report, [{**make_row(place, "out/happy/chelsea.png"), "label": "sad"}])
    run_until_killed_before(report, move_to=out)
    out.rename(away)
    out.mkdir()
    assert run_apply(report, move_to=out).failed == {GONE: 1}
    swap(out, away)

    assert run_apply(report, move_to=out).done == {("rename", "sad"): 1}
    assert list_files(out) == ["sad/chelsea.png"]


@pytest.mark.parametrize("run", [run_until_killed, run_until_killed_before])
def test_a_killed_replacement_is_finished_and_can_be_undone(
    place: Path, run: Callable[..., None]
) -> None:
    """Renames and removals are recorded as intended first, as everything else is."""
    out, options = place / "out", {"copy_to": place / "out", **XMP, "prune": True}
    run_apply(write(place), **options)
    report = write(place, "sad")
    run(report, **options)
    run_apply(report, **options)
    assert list_files(out) == ["sad/chelsea.png"]
    assert read_keywords((place / f"{CAT}.xmp").read_bytes(), "expression") == ("sad",)

    report = write(place, path="photos/b/coffee.png")
    run(report, **options)
    run_apply(report, **options)
    assert list_files(out) == ["happy/coffee.png"]
    assert not (place / f"{CAT}.xmp").exists()

    while list_files(out):
        assert run_undo(report).failed == {}
    assert [name for name in list_files(place / "photos") if ".xmp" in name] == []


def test_a_copy_that_was_edited_after_a_killed_rename_is_kept(place: Path) -> None:
    out = place / "out"
    run_apply(write(place), copy_to=out)
    run_until_killed(write(place, "sad"), copy_to=out)
    copy = out / "sad/chelsea.png"
    copy.write_bytes(b"edited")

    summary = run_apply(write(place, path="photos/b/coffee.png"), copy_to=out, prune=True)

    assert summary.skipped == {FOREIGN: 1}
    assert copy.read_bytes() == b"edited"


def test_a_moved_photo_that_was_edited_after_a_kill_can_be_moved_back(place: Path) -> None:
    out = place / "out"
    run_until_killed(write(place), move_to=out)
    moved = out / "happy/chelsea.png"
    moved.write_bytes(moved.read_bytes() + b"edited")
    data = moved.read_bytes()

    run_apply(write(place, path="out/happy/chelsea.png"), move_to=out)

    assert run_undo(place / "r.csv").failed == {}
    assert (place / CAT).read_bytes() == data
    assert list_files(place / "out") == []
