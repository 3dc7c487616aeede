"""Copies, links and moves of photos into folders by label."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch.applying.folder_action import OTHER_ACTION
from batch.applying.operation_row import Operation
from batch.applying.operations import Operations
from batch.applying.selection import Selection
from batch.applying.transfer import CHANGED, FOLDER_GONE, FOREIGN, GONE, LAST_COPY, How
from batch.applying.undoing import NEWER, REPLACED
from batch.errors import ExitCode, OutputError, ReportError, UsageError
from tests.support.applying import (
    list_files,
    make_row,
    run_apply,
    run_undo,
    save_samples,
    write_report,
)

LABELS = {
    "photos/a/astronaut.png": "happy",
    "photos/a/chelsea.png": "sad",
    "photos/b/astronaut.png": "sad",
    "photos/b/coffee.png": "happy",
}
IN_FOLDERS = [
    "happy/a/astronaut.png",
    "happy/b/coffee.png",
    "sad/a/chelsea.png",
    "sad/b/astronaut.png",
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with photos and the report r.csv."""
    save_samples(tmp_path / "photos")
    return tmp_path


@pytest.fixture
def report(place: Path) -> Path:
    return write(place)


def write(place: Path, **labels: str) -> Path:
    """Write the report, with other labels for some stems of paths."""
    rows = [
        make_row(place, path, label=labels.get(Path(path).stem, label))
        for path, label in LABELS.items()
    ]
    return write_report(place / "r.csv", rows)


def digests(folder: Path) -> dict[str, str]:
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in list_files(folder)
    }


def test_a_dry_run_changes_nothing(place: Path, report: Path) -> None:
    summary = run_apply(report, copy_to=place / "out", execute=False)

    assert summary.done == {("copy", "happy"): 2, ("copy", "sad"): 2}
    assert not (place / "out").exists()
    assert not (place / ".r.csv.applied").exists()


def test_copies_have_the_bytes_mode_and_mtime_of_the_photos(place: Path, report: Path) -> None:
    photo = place / "photos/a/astronaut.png"
    os.utime(photo, ns=(1, 1_234_567_890_123_456_789))
    photo.chmod(0o640)
    before = digests(place / "photos")

    summary = run_apply(report, copy_to=place / "out")

    assert summary.done == {("copy", "happy"): 2, ("copy", "sad"): 2}
    assert list_files(place / "out") == IN_FOLDERS
    copy = (place / "out/happy/a/astronaut.png").stat()
    assert (copy.st_mtime_ns, copy.st_mode & 0o777) == (1_234_567_890_123_456_789, 0o640)
    assert sorted(digests(place / "out").values()) == sorted(before.values())
    assert digests(place / "photos") == before


def test_a_second_run_reads_and_changes_nothing(
    place: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_apply(report, copy_to=place / "out", link_to=place / "links")
    recorded = (place / ".r.csv.applied").read_bytes()
    monkeypatch.setattr("batch.applying.folder_action.verify", pytest.fail)
    monkeypatch.setattr("batch.applying.steps.verify", pytest.fail)
    monkeypatch.setattr("batch.applying.transfer.copy", pytest.fail)

    summary = run_apply(report, copy_to=place / "out", link_to=place / "links")

    assert (summary.unchanged, summary.done) == (8, {})
    assert (place / ".r.csv.applied").read_bytes() == recorded


def test_names_that_collide_are_numbered_and_keep_their_numbers(place: Path) -> None:
    report = write(place, astronaut="happy")
    out = place / "out"

    run_apply(report, copy_to=out, flat=True)
    first = digests(out)
    assert list(first) == [
        "happy/astronaut-2.png",
        "happy/astronaut.png",
        "happy/coffee.png",
        "sad/chelsea.png",
    ]
    # The first one is gone, and the rows are in another order.
    rows = [make_row(place, path, label="happy") for path in reversed(LABELS)]
    write_report(report, rows[:-1])
    summary = run_apply(report, copy_to=out, flat=True)

    assert (summary.unchanged, summary.unmatched) == (2, 1)
    assert first["happy/astronaut-2.png"] == digests(out)["happy/astronaut-2.png"]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_number_does_not_give_the_name_of_another_photo(place: Path, turn: int) -> None:
    (place / "photos/c").mkdir()
    shutil.copy(place / "photos/a/chelsea.png", place / "photos/c/astronaut-2.png")
    (place / "photos/c/astronaut-2.png.xmp").write_bytes(b"<x:xmpmeta/>")
    paths = [*LABELS, "photos/c/astronaut-2.png"][::turn]
    report = write_report(place / "r.csv", [make_row(place, path) for path in paths])
    whole = sorted(digests(place / "photos").values())

    assert run_apply(report, copy_to=place / "out", flat=True).failed == {}
    assert run_apply(report, copy_to=place / "out", flat=True).unchanged == 5
    assert run_apply(report, move_to=place / "moved", flat=True).failed == {}

    names = list_files(place / "moved/happy")
    assert sorted(digests(place / "moved").values()) == whole
    assert list_files(place / "out/happy") == [name for name in names if ".xmp" not in name]
    # The sidecar is beside its photo.
    (sidecar,) = (name for name in names if ".xmp" in name)
    cat = place / "moved/happy" / sidecar.removesuffix(".xmp")
    assert cat.read_bytes() == (place / "out/happy/chelsea.png").read_bytes()


def test_a_photo_is_not_moved_beside_the_sidecar_of_another(place: Path, report: Path) -> None:
    (place / "out/happy/b").mkdir(parents=True)
    (place / "out/happy/b/coffee.png.xmp").write_bytes(b"of another")
    (place / "photos/b/coffee.png.xmp").write_bytes(b"its own")

    assert run_apply(report, move_to=place / "out").failed == {}

    assert (place / "out/happy/b/coffee-2.png.xmp").read_bytes() == b"its own"
    assert (place / "out/happy/b/coffee-2.png").is_file()
    run_undo(report)
    assert list_files(place / "out") == ["happy/b/coffee.png.xmp"]


def test_a_file_of_others_is_never_replaced(place: Path, report: Path) -> None:
    (place / "out/happy/a").mkdir(parents=True)
    (place / "out/happy/a/astronaut.png").write_text("mine")

    run_apply(report, copy_to=place / "out")

    assert (place / "out/happy/a/astronaut.png").read_text() == "mine"
    assert (place / "out/happy/a/astronaut-2.png").is_file()
    run_undo(report)
    assert list_files(place / "out") == ["happy/a/astronaut.png"]


@pytest.mark.parametrize("how", [How.COPY, How.SYMBOLIC, How.HARD, None])
def test_a_new_label_moves_what_was_made_to_its_folder(
    place: Path, report: Path, how: How | None
) -> None:
    root = place / "out"
    options: dict[str, Any] = (
        {"move_to": root}
        if how is None
        else {"copy_to": root}
        if how is How.COPY
        else {"link_to": root, "link": how}
    )
    rows = [make_row(place, path, label=label) for path, label in LABELS.items()]
    run_apply(report, **options)
    inode = (root / "happy/b/coffee.png").lstat().st_ino
    rows[-1]["label"] = "sad"
    write_report(report, rows)

    summary = run_apply(report, **options)

    assert summary.done == {("rename", "sad"): 1}
    assert summary.unchanged == 3
    assert (root / "sad/b/coffee.png").lstat().st_ino == inode
    assert not (root / "happy/b").exists()
    run_undo(report)
    assert list_files(root) == IN_FOLDERS


def test_a_changed_photo_is_refused_and_then_replaced(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    photo = place / "photos/b/coffee.png"
    shutil.copy(place / "photos/a/chelsea.png", photo)

    stale = run_apply(report, copy_to=place / "out")
    assert (stale.failed, stale.exit_code) == ({CHANGED: 1}, ExitCode.INCOMPLETE)
    assert "coffee.png" in stale.named[0]

    summary = run_apply(write(place), copy_to=place / "out")
    assert summary.done == {("replace", "happy"): 1}
    assert (place / "out/happy/b/coffee.png").read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("how", [How.COPY, How.HARD, How.SYMBOLIC])
def test_undo_keeps_what_replaced_the_copy_of_a_changed_photo(
    place: Path, report: Path, how: How
) -> None:
    out = place / "out"
    options: dict[str, Any] = {"copy_to": out} if how is How.COPY else {"link_to": out, "link": how}
    run_apply(report, **options)
    photo = place / "photos/b/coffee.png"
    photo.unlink()
    shutil.copy(place / "photos/a/chelsea.png", photo)
    assert run_apply(write(place), **options).done == {("replace", "happy"): 1}

    planned = run_undo(report, execute=False)
    summary = run_undo(report)

    assert planned.failed == summary.failed == {REPLACED: 1}
    assert "coffee.png" in summary.named[0]
    assert (planned.done, summary.done) == ({}, {})
    assert (out / "happy/b/coffee.png").read_bytes() == photo.read_bytes()
    # It is still known, and the run before leaves it too.
    assert run_apply(report, **options).unchanged == 4
    assert run_undo(report).failed == {REPLACED: 1, NEWER: 1}
    assert list_files(out) == ["happy/b/coffee.png"]


def test_undo_makes_what_was_replaced_again_if_the_photo_is_the_same(
    place: Path, report: Path
) -> None:
    out = place / "out"
    run_apply(report, link_to=out, link=How.SYMBOLIC)
    assert run_apply(report, link_to=out, link=How.HARD).done.total() == 4

    planned = run_undo(report, execute=False)
    summary = run_undo(report)

    assert planned.done == summary.done == {("undo", "removals and replacements"): 4}
    assert (out / "happy/b/coffee.png").is_symlink()


def test_photos_that_changed_are_gone_or_unreadable_are_not_touched(place: Path) -> None:
    report = write(place)
    (place / "photos/a/astronaut.png").unlink()
    shutil.copy(place / "photos/a/chelsea.png", place / "photos/b/coffee.png")
    (place / "photos/a/chelsea.png").unlink()
    (place / "photos/a/chelsea.png").mkdir()
    before = list_files(place / "photos")

    actions: tuple[dict[str, Any], ...] = (
        {"copy_to": place / "copies"},
        {"link_to": place / "links", "link": How.HARD},
        {"move_to": place / "moved"},
    )
    for options in actions:
        summary = run_apply(report, **options)
        assert summary.failed == {GONE: 1, CHANGED: 1, "unreadable": 1}
        assert summary.done.total() == 1
        if "move_to" in options:
            run_undo(report)
        (root, *_) = options.values()
        assert [name for name in list_files(root) if "tmp" in name] == []
    assert list_files(place / "photos") == before


def test_a_report_without_digests_is_refused(place: Path, report: Path) -> None:
    text = report.read_text().replace("sha256", "notes")
    report.write_text(text)

    with pytest.raises(ReportError, match="no column sha256") as refused:
        run_apply(report, copy_to=place / "out")
    assert "label the photos again" in refused.value.remedy


def test_a_row_without_a_digest_is_refused(place: Path) -> None:
    rows = [make_row(place, path, sha256="") for path in LABELS]
    report = write_report(place / "r.csv", rows)

    summary = run_apply(report, copy_to=place / "out")

    assert summary.failed == {"without a sha256 in the report": 4}
    assert "label the photos again" in summary.named[0]


def test_missing_and_remote_photos_are_skipped(place: Path) -> None:
    rows = [
        make_row(place, "photos/a/astronaut.png", error="missing: not found in this run"),
        make_row(place, "zip://a.jpg::photos.zip", sha256="0" * 64),
        make_row(place, "s3://bucket/a.jpg", sha256="0" * 64),
        make_row(place, "photos/b/coffee.png"),
        make_row(place, "photos/a/chelsea.png"),
        make_row(place, "photos/b/coffee.png"),
    ]
    report = write_report(place / "r.csv", rows)

    summary = run_apply(report, copy_to=place / "out")

    assert summary.skipped == {
        "missing when the report was written": 1,
        "in an archive or store": 2,
        "in the report twice": 1,
    }
    assert (summary.done.total(), summary.exit_code) == (2, ExitCode.OK)


def test_photos_below_the_folder_are_not_copied_again(place: Path) -> None:
    report = write(place)
    run_apply(report, copy_to=place / "photos/by label")
    copied = [Path("photos/by label") / name for name in IN_FOLDERS]
    rows = [make_row(place, path) for path in (*map(Path, LABELS), *copied)]

    summary = run_apply(write_report(report, rows), copy_to=place / "photos/by label")

    assert summary.skipped == {"below the folder already": 4}
    assert len(list_files(place / "photos/by label")) == 4


def test_what_does_not_match_any_more_stays_unless_it_is_pruned(place: Path, report: Path) -> None:
    out = place / "out"
    run_apply(report, copy_to=out)
    only_sad = Selection(labels=("sad",))

    left = run_apply(report, copy_to=out, selection=only_sad)
    assert (left.unmatched, left.done) == (2, {})
    assert list_files(out) == IN_FOLDERS

    planned = run_apply(report, copy_to=out, selection=only_sad, prune=True, execute=False)
    pruned = run_apply(report, copy_to=out, selection=only_sad, prune=True)
    assert planned.done == pruned.done == {("remove", "happy"): 2}
    assert list_files(out) == IN_FOLDERS[2:]

    run_undo(report)
    assert list_files(out) == IN_FOLDERS
    assert run_apply(report, copy_to=out).unchanged == 4


def test_pruning_keeps_what_others_changed_and_last_copies(place: Path, report: Path) -> None:
    out = place / "out"
    run_apply(report, copy_to=out)
    (out / "happy/a/astronaut.png").write_bytes(b"edited")
    (place / "photos/b/coffee.png").unlink()

    summary = run_apply(report, copy_to=out, selection=Selection(labels=("sad",)), prune=True)

    assert summary.done == {}
    assert summary.skipped == {
        "changed by another program": 1,
        LAST_COPY: 1,
    }
    assert list_files(out) == IN_FOLDERS


@pytest.mark.parametrize("how", [How.COPY, How.HARD])
def test_the_last_bytes_of_a_photo_stay_if_another_has_its_name(
    place: Path, report: Path, how: How
) -> None:
    out = place / "out"
    options: dict[str, Any] = {"copy_to": out} if how is How.COPY else {"link_to": out, "link": how}
    run_apply(report, **options)
    kept = (out / "happy/a/astronaut.png").read_bytes()
    (place / "photos/a/astronaut.png").unlink()
    shutil.copy(place / "photos/b/coffee.png", place / "photos/a/astronaut.png")
    os.utime(place / "photos/b/coffee.png")
    only_sad = Selection(labels=("sad",))

    summary = run_apply(report, selection=only_sad, prune=True, **options)

    # The other photo was only touched.
    assert (summary.skipped, summary.done) == ({LAST_COPY: 1}, {("remove", "happy"): 1})
    run_undo(report)
    assert run_undo(report).failed == {LAST_COPY: 1}
    assert (out / "happy/a/astronaut.png").read_bytes() == kept


def test_a_hard_link_to_an_edited_photo_can_be_removed(place: Path, report: Path) -> None:
    run_apply(report, link_to=place / "out", link=How.HARD)
    (place / "photos/b/coffee.png").write_bytes(b"edited")

    assert run_undo(report).failed == {}
    assert (place / "photos/b/coffee.png").read_bytes() == b"edited"


def test_a_copy_that_was_edited_is_left_and_one_that_was_deleted_is_made_again(
    place: Path, report: Path
) -> None:
    out = place / "out"
    run_apply(report, copy_to=out)
    (out / "happy/a/astronaut.png").write_bytes(b"edited")
    (out / "happy/b/coffee.png").unlink()

    summary = run_apply(report, copy_to=out)

    assert summary.skipped == {"changed by another program": 1}
    assert summary.done == {("copy", "happy"): 1}
    assert (out / "happy/a/astronaut.png").read_bytes() == b"edited"


def test_a_copy_that_is_edited_just_before_it_is_renamed_is_kept(
    place: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / "out"
    run_apply(report, copy_to=out)
    write(place, coffee="sad")
    record = Operations.record_intents

    def edit(operations: Operations, steps: Iterable[Operation]) -> list[Operation]:
        (out / "happy/b/coffee.png").write_bytes(b"edited")
        return record(operations, steps)

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "record_intents", edit)
        run_apply(report, copy_to=out)

    assert run_apply(report, copy_to=out).skipped == {"changed by another program": 1}
    run_undo(report)
    assert b"edited" in [(out / name).read_bytes() for name in list_files(out)]


@pytest.mark.parametrize("how", [How.SYMBOLIC, How.HARD])
def test_links_lead_to_the_photos(place: Path, report: Path, how: How) -> None:
    run_apply(report, link_to=place / "out", link=how)

    made = place / "out/happy/a/astronaut.png"
    assert made.is_symlink() is (how is How.SYMBOLIC)
    assert made.samefile(place / "photos/a/astronaut.png")
    run_undo(report)
    assert list_files(place / "out") == []
    assert len(list_files(place / "photos")) == 4


def test_a_file_system_without_reflinks_is_named(report: Path, other_disk: Path) -> None:
    with pytest.raises(OutputError, match="can't have reflinks") as refused:
        run_apply(report, link_to=other_disk, link=How.REFLINK)
    assert "--copy-to" in refused.value.remedy
    assert list(other_disk.iterdir()) == []
    with pytest.raises(OutputError, match="can't have reflinks"):
        run_apply(report, link_to=other_disk / "new", link=How.REFLINK)
    assert list(other_disk.iterdir()) == []


def test_hard_links_to_another_disk_are_refused(report: Path, other_disk: Path) -> None:
    with pytest.raises(OutputError, match="can't have hard links"):
        run_apply(report, link_to=other_disk, link=How.HARD)
    assert list_files(other_disk) == []


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if os.stat(folder).st_dev == tmp_path.stat().st_dev:  # noqa: PTH116
            pytest.skip("/dev/shm is on the same file system")
        yield Path(folder)


@pytest.mark.parametrize("crosses", [False, True], ids=["same disk", "other disk"])
def test_moved_photos_are_found_by_old_and_new_reports(
    place: Path, report: Path, other_disk: Path, crosses: bool
) -> None:
    root = other_disk / "out" if crosses else place / "out"
    before = sorted(digests(place / "photos").values())

    summary = run_apply(report, move_to=root)

    assert summary.done == {("move", "happy"): 2, ("move", "sad"): 2}
    assert list_files(place / "photos") == []
    assert list_files(root) == IN_FOLDERS
    assert sorted(digests(root).values()) == before
    # By the old report, and by one of a run that found the photos at their new places.
    assert run_apply(report, move_to=root).unchanged == 4
    rows = [make_row(place, root / name, label=name.split("/")[0]) for name in IN_FOLDERS]
    again = run_apply(write_report(report, rows), move_to=root)
    assert (again.unchanged, again.done, again.failed) == (4, {}, {})

    run_undo(report)
    assert sorted(digests(place / "photos").values()) == before
    assert list_files(root) == []


def test_a_moved_photo_takes_its_sidecar_along(place: Path, report: Path) -> None:
    sidecar = place / "photos/b/coffee.png.xmp"
    sidecar.write_bytes(b"<x:xmpmeta/>")

    run_apply(report, move_to=place / "out")
    assert (place / "out/happy/b/coffee.png.xmp").read_bytes() == b"<x:xmpmeta/>"
    # Another program changes it, and the label changes.
    (place / "out/happy/b/coffee.png.xmp").write_bytes(b"<x:xmpmeta>edited</x:xmpmeta>")
    row = make_row(place, "out/happy/b/coffee.png", label="sad")
    summary = run_apply(write_report(report, [row]), move_to=place / "out")

    assert summary.done == {("rename", "sad"): 1, ("move sidecar", "sad"): 1}
    assert "sad/b/coffee.png.xmp" in list_files(place / "out")
    run_undo(report)
    run_undo(report)
    assert sidecar.read_bytes() == b"<x:xmpmeta>edited</x:xmpmeta>"
    assert list_files(place / "out") == []


def test_a_sidecar_stays_with_a_photo_that_is_not_moved(place: Path, report: Path) -> None:
    photo = place / "photos/b/coffee.png"
    Path(f"{photo}.xmp").write_bytes(b"<x:xmpmeta/>")
    Path(f"{place / 'photos/a/chelsea.png'}.xmp").write_bytes(b"<x:xmpmeta>cat</x:xmpmeta>")
    labelled = photo.read_bytes()
    photo.write_bytes(b"changed")

    summary = run_apply(report, move_to=place / "out")

    assert summary.failed == {CHANGED: 1}
    assert summary.done["move sidecar", "sad"] == 1
    assert list_files(place / "photos") == ["b/coffee.png", "b/coffee.png.xmp"]
    # Nor is it moved back without its photo.
    photo.write_bytes(labelled)
    assert run_apply(report, move_to=place / "out").done["move sidecar", "happy"] == 1
    moved = place / "out/happy/b/coffee.png"
    moved.write_bytes(b"changed")
    assert run_undo(report).failed == {FOREIGN: 1}
    assert list_files(place / "photos") == []
    assert Path(f"{moved}.xmp").read_bytes() == b"<x:xmpmeta/>"


def test_a_sidecar_that_a_kill_left_behind_is_moved_to_its_photo(place: Path, report: Path) -> None:
    sidecar = place / "photos/b/coffee.png.xmp"
    run_apply(report, move_to=place / "out")
    sidecar.parent.mkdir(parents=True, exist_ok=True)
    sidecar.write_bytes(b"<x:xmpmeta/>")

    summary = run_apply(report, move_to=place / "out")

    assert summary.done == {("move sidecar", "happy"): 1}
    assert (place / "out/happy/b/coffee.png.xmp").read_bytes() == b"<x:xmpmeta/>"
    # That of a new photo with the old name is not.
    shutil.copy(place / "out/sad/a/chelsea.png", place / "photos/b/coffee.png")
    sidecar.write_bytes(b"<x:xmpmeta/>")
    (place / "out/happy/b/coffee.png.xmp").unlink()
    run_apply(report, move_to=place / "out")
    assert sidecar.exists()


def test_a_moved_photo_that_was_edited_and_labelled_again_can_be_moved_back(
    place: Path, report: Path
) -> None:
    run_apply(report, move_to=place / "out")
    moved = place / "out/happy/b/coffee.png"
    moved.write_bytes((place / "out/sad/a/chelsea.png").read_bytes())
    stale = make_row(place, "out/happy/b/coffee.png", sha256="0" * 64)
    assert run_apply(write_report(report, [stale]), move_to=place / "out").failed == {CHANGED: 1}

    row = make_row(place, "out/happy/b/coffee.png", label="sad")
    summary = run_apply(write_report(report, [row]), move_to=place / "out")

    assert summary.done == {("rename", "sad"): 1}
    run_undo(report)
    run_undo(report)
    assert (place / "photos/b/coffee.png").is_file()
    assert list_files(place / "out") == []


def test_photos_can_be_moved_within_their_own_folder(place: Path, report: Path) -> None:
    run_apply(report, move_to=place / "photos")

    assert list_files(place / "photos") == IN_FOLDERS
    rows = [make_row(place, f"photos/{name}", label=name.split("/")[0]) for name in IN_FOLDERS]
    assert run_apply(write_report(report, rows), move_to=place / "photos").unchanged == 4


def test_undo_leaves_what_others_changed(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    (place / "out/happy/a/astronaut.png").write_bytes(b"edited")
    (place / "out/happy/b/coffee.png").unlink()  # nothing is left to undo

    summary = run_undo(report)

    assert summary.failed == {"changed by another program": 1}
    assert "astronaut.png" in summary.named[0]
    assert list_files(place / "out") == ["happy/a/astronaut.png"]
    assert run_undo(report).failed == {FOREIGN: 1}
    (place / "out/happy/a/astronaut.png").unlink()
    assert run_undo(report).failed == {}
    with pytest.raises(UsageError, match="nothing to undo"):
        run_undo(report)


def test_undo_is_repeated_after_a_failure(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "copies")
    run_apply(report, move_to=place / "out")
    (place / "out").rename(place / "unmounted")

    # The earlier run is not touched before the later one was tried twice.
    assert run_undo(report).failed == {FOLDER_GONE: 4}
    assert list_files(place / "copies") == IN_FOLDERS
    (place / "unmounted").rename(place / "out")
    (place / "photos/b/coffee.png").write_bytes(b"new")
    assert run_undo(report).failed.total() == 1
    (place / "photos/b/coffee.png").unlink()
    summary = run_undo(report)

    assert (summary.done, summary.failed) == ({("undo", "moves"): 1}, {})
    assert list_files(place / "photos") == sorted(name[7:] for name in LABELS)
    assert list_files(place / "out") == []
    assert list_files(place / "copies") == IN_FOLDERS
    run_undo(report)
    assert list_files(place / "copies") == []


def test_undo_notices_that_a_disk_is_not_mounted(place: Path, report: Path) -> None:
    disk, unmounted = place / "disk", place / "unmounted"
    disk.mkdir()
    run_apply(report, copy_to=disk / "out")
    run_apply(report, copy_to=disk / "out", prune=True, selection=Selection(labels=("sad",)))
    disk.rename(unmounted)
    disk.mkdir()

    assert run_undo(report).failed == {FOLDER_GONE: 2}
    summary = run_undo(report)

    assert summary.failed == {FOLDER_GONE: 6}
    assert str(disk / "out") in summary.named[0]
    assert list_files(disk) == []
    disk.rmdir()
    unmounted.rename(disk)
    run_undo(report)
    assert list_files(disk / "out") == IN_FOLDERS
    run_undo(report)
    assert list_files(disk / "out") == []


def test_another_photo_with_the_old_name_is_no_photo_moved_back(place: Path, report: Path) -> None:
    run_apply(report, move_to=place / "out")
    (place / "out/happy/b/coffee.png").rename(place / "elsewhere.png")
    (place / "photos/b/coffee.png").write_bytes(b"new")
    (place / "out/sad/a/chelsea.png").rename(place / "photos/a/chelsea.png")

    assert run_undo(report).failed == {GONE: 1}

    (place / "elsewhere.png").rename(place / "out/happy/b/coffee.png")
    (place / "photos/b/coffee.png").unlink()
    assert run_undo(report).failed == {}
    assert (place / "photos/b/coffee.png").is_file()


def test_what_can_not_be_undone_does_not_keep_the_run_before(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "copies")
    run_apply(report, copy_to=place / "out")
    for name in IN_FOLDERS:
        (place / "out" / name).write_bytes(b"edited")
    run_undo(report)
    assert list_files(place / "copies") == IN_FOLDERS

    assert run_undo(report).failed == {FOREIGN: 4}

    assert list_files(place / "copies") == []


def test_undo_removes_the_folders_that_were_made_and_no_others(place: Path, report: Path) -> None:
    (place / "mine").mkdir()
    (place / "kept").mkdir()
    run_apply(report, copy_to=place / "out", link_to=place / "mine")
    run_apply(report, move_to=place / "moved")
    for _ in range(2):
        run_undo(report)
    assert not (place / "out").exists()
    assert not (place / "moved").exists()
    assert list((place / "mine").iterdir()) == []

    # Another folder of the same name, and one with a file of others.
    run_apply(report, copy_to=place / "out", link_to=place / "links")
    (place / "links/note.txt").touch()
    shutil.rmtree(place / "out")
    (place / "kept").rename(place / "out")
    run_undo(report)
    assert list_files(place / "links") == ["note.txt"]
    assert (place / "out").is_dir()


def test_a_folder_that_was_removed_as_it_was_empty_is_made_again(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    run_apply(report, copy_to=place / "out", prune=True, selection=Selection(statuses=("unsure",)))
    assert not (place / "out").exists()

    assert run_undo(report).failed == {}

    assert list_files(place / "out") == IN_FOLDERS
    run_undo(report)
    assert not (place / "out").exists()


def test_a_run_that_fills_nothing_leaves_no_folder(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out", selection=Selection(statuses=("unsure",)))

    assert not (place / "out").exists()


def test_undo_takes_the_runs_back_one_by_one(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    run_apply(report, link_to=place / "links")
    run_apply(report, link_to=place / "links")  # does nothing, so there is nothing to undo

    run_undo(report)
    assert list_files(place / "links") == []
    assert list_files(place / "out") == IN_FOLDERS
    run_undo(report)
    assert list_files(place / "out") == []
    # The same again, under the same names.
    run_apply(report, copy_to=place / "out")
    assert list_files(place / "out") == IN_FOLDERS


def test_undo_does_not_take_another_name_of_a_moved_photo_for_a_copy(
    place: Path, report: Path
) -> None:
    run_apply(report, move_to=place / "out")
    shutil.rmtree(place / "photos/b")
    (place / "photos/b").symlink_to(place / "out/happy/b")

    assert run_undo(report).failed.total() == 1

    assert (place / "out/happy/b/coffee.png").is_file()


def test_undo_does_not_overwrite_a_new_photo_of_the_same_name(place: Path, report: Path) -> None:
    run_apply(report, move_to=place / "out")
    (place / "photos/a").mkdir(parents=True, exist_ok=True)
    (place / "photos/a/astronaut.png").write_bytes(b"new")

    summary = run_undo(report)

    assert summary.failed.total() == 1
    assert (place / "photos/a/astronaut.png").read_bytes() == b"new"
    assert (place / "out/happy/a/astronaut.png").is_file()


def test_strange_names_and_labels_stay_below_the_folder(place: Path) -> None:
    names = [b"new\nline.png", b"\xff\xfe.png", "grüße 😀.png".encode(), b"-rf.png", b"=1.png"]
    rows = []
    for name in names:
        path = Path(os.fsdecode(b"photos/" + name))
        shutil.copy(place / "photos/a/chelsea.png", place / path)
        rows.append(make_row(place, path, label="../../etc"))
    rows.append(make_row(place, "photos/a/../b/coffee.png", label=".."))
    report = write_report(place / "r.csv", rows)
    report.write_text(report.read_text().replace("p_happy", "p_.."))

    run_apply(report, copy_to=place / "out")

    made = sorted(map(os.fsencode, list_files(place / "out")))
    assert made == sorted([b"%2E./b/coffee.png", *(b"%2E.%2F..%2Fetc/" + name for name in names)])
    run_undo(report)
    assert list_files(place / "out") == []


def test_a_folder_that_cannot_be_made_is_named(place: Path, report: Path) -> None:
    with pytest.raises(OutputError, match=r"/gone/out can't be made, as .*/gone; create it first"):
        run_apply(report, copy_to=place / "gone" / "out")
    (place / "file").touch()
    with pytest.raises(OutputError, match="not a folder"):
        run_apply(report, copy_to=place / "file")


def test_unknown_labels_are_refused(place: Path, report: Path) -> None:
    with pytest.raises(UsageError, match="has no label hapy") as refused:
        run_apply(report, copy_to=place / "out", selection=Selection(labels=("hapy",)))
    assert "happy, sad" in refused.value.remedy
    with pytest.raises(UsageError, match="neither is a status") as refused:
        run_apply(report, copy_to=place / "out", selection=Selection(labels=("neither",)))
    assert "--status neither" in refused.value.remedy


def test_moving_goes_with_no_other_action(place: Path, report: Path) -> None:
    with pytest.raises(UsageError, match="--move-to and another action"):
        run_apply(report, move_to=place / "out", copy_to=place / "copies")


@pytest.mark.parametrize("name", ["out", "./out", "a/../out", "same"])
def test_copies_and_links_need_two_folders(place: Path, report: Path, name: str) -> None:
    (place / "same").symlink_to("out")

    with pytest.raises(UsageError, match="name the same folder"):
        run_apply(report, copy_to=place / "out", link_to=Path(f"{place}/{name}"))

    assert not (place / "out").exists()


def test_a_copy_is_not_replaced_by_a_link_nor_a_link_by_a_copy(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    run_apply(report, link_to=place / "links")
    none = Selection(labels=("sad",), min_confidence=1.0)

    linked = run_apply(report, link_to=place / "out")
    copied = run_apply(report, copy_to=place / "links")
    pruned = run_apply(report, link_to=place / "out", selection=none, prune=True)

    assert linked.skipped == copied.skipped == {OTHER_ACTION: 4}
    assert (linked.done, copied.done, pruned.done) == ({}, {}, {})
    assert not (place / "out/happy/b/coffee.png").is_symlink()
    assert (place / "links/happy/b/coffee.png").is_symlink()


def test_the_paths_of_subfolders_begin_below_the_common_folder(place: Path, report: Path) -> None:
    run_apply(report, copy_to=place / "out")
    (place / "more").mkdir()
    shutil.copy(place / "photos/a/chelsea.png", place / "more/cat.png")
    rows = [make_row(place, path, label=label) for path, label in LABELS.items()]
    write_report(report, [make_row(place, "more/cat.png"), *rows])

    summary = run_apply(report, copy_to=place / "out")

    # The copies go where they would be if they were made now.
    assert summary.done == {("copy", "happy"): 1, ("rename", "happy"): 2, ("rename", "sad"): 2}
    assert list_files(place / "out") == [
        "happy/more/cat.png",
        *(f"{name.split('/')[0]}/photos/{name.split('/', 1)[1]}" for name in IN_FOLDERS),
    ]
