"""`--xmp` in a run: sidecars are written after the report is published."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.files.lock import hold_lock
from tests.support.runs import RunFolder, make_photos
from tests.support.sidecars import read_keywords

RUN = ("photos", "-o", "r.csv", "--xmp", "--log-format", "json")


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 12)
    return RunFolder(tmp_path)


def find_keywords(place: RunFolder) -> dict[str, str]:
    """Map the photos with a keyword to it."""
    found = {}
    for sidecar in (place.folder / "photos").glob("*.xmp"):
        (keyword,) = read_keywords(sidecar.read_bytes(), "expression")
        found[f"photos/{sidecar.stem}"] = keyword
    return found


def find_labels(place: RunFolder) -> dict[str, str]:
    return {path: row["label"] for path, row in place.rows().items() if row["status"] == "ok"}


def find_event(stderr: str, name: str = "sidecars") -> dict[str, object] | None:
    events = map(json.loads, stderr.splitlines())
    return next((event for event in events if event["event"] == name), None)


def test_labels_are_written_and_then_only_what_changes(place: RunFolder) -> None:
    first = place.run(*RUN, "--min-confidence", "0")
    assert first.returncode == 0, first.stderr
    labels = find_labels(place)
    assert find_keywords(place) == labels
    event = find_event(first.stderr)
    assert event is not None
    assert (event["written"], event["cleared"]) == (len(labels), 0)

    # The sidecars are not counted as photos, and nothing is left to do.
    record = (place.folder / ".r.csv.applied").read_bytes()
    second = place.run(*RUN, "--min-confidence", "0")
    assert place.record()["up_to_date"]
    assert find_event(second.stderr) is None
    assert f"({len(labels)} sidecar)" in second.stderr
    assert (place.folder / ".r.csv.applied").read_bytes() == record

    make_photos(place.folder / "photos", 10, first=12)
    third = place.run(*RUN, "--min-confidence", "0")
    event = find_event(third.stderr)
    assert event is not None
    assert event["unchanged"] == len(labels)
    assert event["written"] == len(find_labels(place)) - len(labels) > 0
    assert find_keywords(place) == find_labels(place)

    # With another threshold some labels are unsure: their keywords are taken out.
    fourth = place.run(*RUN, "--min-confidence", "0.9")
    event = find_event(fourth.stderr)
    assert event is not None
    assert event["cleared"]
    assert find_keywords(place) == find_labels(place)
    assert len(find_labels(place)) < len(labels)


def test_a_sidecar_that_cannot_be_written_leaves_the_report_published(place: RunFolder) -> None:
    broken = place.folder / "photos" / "00000.jpg.xmp"
    broken.write_text("no XMP")

    ran = place.run(*RUN, "--min-confidence", "0")

    assert ran.returncode == ExitCode.PUBLISHED_ONLY
    error = find_event(ran.stderr, "error")
    assert error is not None
    assert "00000.jpg" in str(error["message"])
    assert "the report r.csv is published" in str(error["message"])
    record = place.record()
    assert (record["outcome"], record["published"]) == ("published_only", True)
    assert broken.read_text() == "no XMP"
    # It is tried again although the report is up to date.
    broken.unlink()
    again = place.run(*RUN, "--min-confidence", "0")
    assert again.returncode == 0
    assert find_keywords(place) == find_labels(place)


def test_another_process_that_applies_the_report_is_named(place: RunFolder) -> None:
    with hold_lock(str(place.folder / ".r.csv.applied")):
        ran = place.run(*RUN)

    assert ran.returncode == ExitCode.PUBLISHED_ONLY
    assert "another run is writing the record of operations" in ran.stderr


@pytest.mark.parametrize("args", [("-o", "r.xlsx", "--xmp"), ("--xmp",), ("--faces",)])
def test_reports_that_cannot_be_read_back_are_refused(
    place: RunFolder, args: tuple[str, ...]
) -> None:
    ran = place.run("photos", *args)

    assert ran.returncode == ExitCode.USAGE
    assert "--xmp" in ran.stderr
    assert not list(place.folder.glob("r.xlsx"))


def test_a_run_is_undone_by_apply(place: RunFolder) -> None:
    place.run(*RUN, "--min-confidence", "0")

    ran = place.command("apply", "r.csv", "--undo", "--yes")

    assert ran.returncode == 0, ran.stderr
    assert find_keywords(place) == {}
    # The next run writes them again.
    place.run(*RUN, "--min-confidence", "0")
    assert find_keywords(place) == find_labels(place)


def test_a_run_only_removes_keywords_that_runs_wrote_or_found(place: RunFolder) -> None:
    place.run("photos", "-o", "r.csv", "--min-confidence", "0")
    rows = place.rows().values()
    middle = statistics.median(float(row["confidence"]) for row in rows if row["label"])
    place.run("photos", "-o", "r.csv", "--min-confidence", f"{middle}")
    ok = find_labels(place)
    apply = ("apply", "r.csv", "--xmp", "--yes")
    asked_for = place.command(*apply, "--status", "ok", "--status", "unsure")
    written = find_keywords(place)
    assert len(written) > len(ok) > 0, asked_for.stderr

    ran = place.run(*RUN, "--min-confidence", f"{middle}")

    event = find_event(ran.stderr)
    assert event is not None
    assert event["cleared"] == 0
    skipped = {"kept, as apply wrote the keywords and no run did": len(written) - len(ok)}
    assert event["skipped"] == skipped
    assert find_keywords(place) == written
    # Those that the run found written are now the run's.
    place.run(*RUN, "--min-confidence", "1")
    assert not find_labels(place)
    assert find_keywords(place).keys() == written.keys() - ok.keys()


def test_all_faces_get_their_labels(place: RunFolder) -> None:
    ran = place.run(*RUN, "--per-face", "--faces", "--min-confidence", "0")

    assert ran.returncode == 0, ran.stderr
    sidecars = list((place.folder / "photos").glob("*.xmp"))
    assert sidecars
    assert any(b"mwg-rs:RegionList" in sidecar.read_bytes() for sidecar in sidecars)


def test_a_run_that_waits_for_locks_waits_for_a_process_that_applies_the_report(
    place: RunFolder,
) -> None:
    with hold_lock(str(place.folder / ".r.csv.applied")):
        process = place.start(*RUN, "--wait")
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any('"waiting"' in line and "applies this report" in line for line in lines)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert find_keywords(place) == find_labels(place)
