"""What `batch-label apply` says: counts, files that are left, and hints."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.applying.summary import Summary
from batch.options import SidecarName, SidecarOptions
from tests.support.applying import (
    list_files,
    make_row,
    run_apply,
    run_undo,
    save_samples,
    write_report,
)

PATHS = ("photos/a/astronaut.png", "photos/b/coffee.png")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos."""
    save_samples(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place: Path, *paths: str, **values: str) -> Path:
    return write_report(place / "r.csv", [make_row(place, path, **values) for path in paths])


def describe(summary: Summary) -> str:
    return "\n".join(summary.describe())


def test_one_is_counted_in_the_singular(place: Path) -> None:
    report = write(place, PATHS[0])

    text = describe(run_apply(report, sidecars=SidecarOptions()))
    assert "1 sidecar written (happy 1)\n1 photo in the report, 1 matches" in text
    assert "1 operation undone" in describe(run_undo(report))
    run_apply(report, copy_to=place / "out")
    text = describe(run_apply(write(place, PATHS[1]), copy_to=place / "out"))
    assert "1 does not match any more and stays" in text


def test_an_undo_says_which_run_it_takes_back(place: Path) -> None:
    report = write(place, *PATHS)
    run_apply(report, copy_to=place / "out", sidecars=SidecarOptions())
    run_apply(report, move_to=place / "moved")

    planned = describe(run_undo(report, execute=False))
    assert "would undo 4 operations (moves 4)\n  undo moved/happy/b/coffee.png\n" in planned
    for where in ("moves to moved", "copies and links in out, sidecars"):
        planned = describe(run_undo(report, execute=False))
        assert planned.startswith("would undo the run of 20")
        assert f"({where})\n" in planned
        assert f"({where})\n" in describe(run_undo(report))


def test_labels_that_are_removed_from_sidecars_are_told_as_that(place: Path) -> None:
    report = write(place, *PATHS)
    run_apply(report, sidecars=SidecarOptions())
    by_stem = SidecarOptions(sidecar_name=SidecarName.STEM)

    planned = describe(run_apply(report, execute=False, sidecars=by_stem))
    assert (
        "would remove labels from sidecars of 2 photos (below the keyword expression 2)" in planned
    )
    done = describe(run_apply(report, sidecars=by_stem))
    assert "labels removed from 2 sidecars (below the keyword expression 2)\n" in done
    assert "2 sidecars written (happy 2)" in done
    # Sidecars of both names are one thing to a reader.
    assert "(sidecars)\n" in describe(run_undo(report))


def test_photos_that_are_all_gone_get_hints(place: Path) -> None:
    report = write(place, *PATHS)

    text = describe(run_apply(report, photos=place / "photos", copy_to=place / "out"))
    assert "2 failed (2 gone): photos/photos/a/astronaut.png: gone; " in text
    assert "all photos are gone: if the relative paths" in text
    assert "name it with --photos" in text

    # Moved back after the report named the new places.
    run_apply(report, move_to=place / "moved")
    moved = [f"moved/{name}" for name in list_files(place / "moved")]
    report = write(place, *moved)
    run_undo(report)
    assert "moved back by --undo, label them again" in describe(
        run_apply(report, copy_to=place / "out")
    )
    rows = [make_row(place, path, sha256="0" * 64) for path in moved]
    write_report(report, [*rows, make_row(place, PATHS[0])])
    text = describe(run_apply(report, copy_to=place / "out"))
    assert "must be labelled again" in text
    assert "all photos are gone" not in text


def test_files_that_are_left_are_named_relative_to_the_current_folder(place: Path) -> None:
    report = write(place, *PATHS)
    run_apply(report, copy_to=place / "out")
    (place / "out/happy/a/astronaut.png").write_bytes(b"edited")

    text = describe(run_apply(report, copy_to=place / "out"))

    assert "left: out/happy/a/astronaut.png (changed by another program)" in text
    (place / PATHS[1]).unlink()
    report = write(place, *PATHS, status="unsure")
    text = describe(run_apply(report, copy_to=place / "out", prune=True))
    assert (
        "out/happy/b/coffee.png (kept, as the photo it was made from is gone or has changed)"
        in text
    )
    text = describe(run_undo(report))
    assert "failed" in text
    assert str(place) not in text


def test_a_report_without_a_match_gets_counts_by_status(place: Path) -> None:
    rows = [
        make_row(place, PATHS[0], status="unsure", face="1"),
        make_row(place, PATHS[0], status="unsure", face="2"),
        make_row(place, PATHS[1], status="no_face", label="", face=""),
    ]
    report = write_report(place / "r.csv", rows, face=True)

    text = describe(run_apply(report, sidecars=SidecarOptions(faces=True)))

    assert "2 photos in the report, 0 match; 0 done already" in text
    assert "no photo matches; photos by status: no_face 1, unsure 1; see --status" in text


@pytest.mark.parametrize("flat", [True, False])
def test_folders_that_disturb_the_next_run_get_a_warning(place: Path, flat: bool) -> None:
    report = write(place, *PATHS)

    inside = run_apply(report, copy_to=place / "photos/sorted", flat=flat, execute=False)
    assert "warning: photos/sorted is inside photos" in describe(inside)
    outside = run_apply(report, move_to=place / "moved", flat=flat, execute=False)
    assert "warning: photos that are moved out of photos are missing" in describe(outside)
    for fine in (
        run_apply(report, copy_to=place / "copies", flat=flat, execute=False),
        run_apply(report, move_to=place / "photos", flat=flat),
    ):
        assert fine.done
        assert "warning" not in describe(fine)
