"""Labels in XMP sidecars, and taking them out again."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from PIL import Image

from batch.applying.apply_report import TWICE
from batch.applying.selection import Selection
from batch.applying.sidecar_action import SHARED
from batch.applying.steps import DAMAGED
from batch.applying.transfer import CHANGED, FOLDER_GONE, GONE, UNREADABLE
from batch.errors import ExitCode, ReportError
from batch.options import SidecarName, SidecarOptions
from batch.xmp import FaceRegion, SidecarContent, update_sidecar
from tests.support.applying import (
    list_files,
    make_row,
    run_apply,
    run_undo,
    save_samples,
    write_report,
)
from tests.support.sidecars import read_keywords

ROOT = "expression"
FULL = SidecarOptions()
STEM = SidecarOptions(SidecarName.STEM)
CAT, CUP = "photos/a/chelsea.png", "photos/b/coffee.png"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_samples(tmp_path / "photos")
    return tmp_path


def write(place: Path, cat: str = "happy", **values: str) -> Path:
    rows = [make_row(place, CAT, label=cat, **values), make_row(place, CUP, label="sad")]
    return write_report(place / "r.csv", rows)


def keywords(sidecar: Path, root: str = ROOT) -> tuple[str, ...]:
    return read_keywords(sidecar.read_bytes(), root)


def make_foreign(sidecar: Path) -> bytes:
    """Write a sidecar with a keyword of another program."""
    data = update_sidecar(None, SidecarContent(("cat",), "animals", None, 300, 200))
    sidecar.write_bytes(data)
    return data


def test_labels_become_keywords_beside_the_photos(place: Path) -> None:
    summary = run_apply(write(place), sidecars=FULL)

    assert summary.done == {("write", "happy"): 1, ("write", "sad"): 1}
    assert keywords(place / f"{CAT}.xmp") == ("happy",)
    assert keywords(place / f"{CUP}.xmp") == ("sad",)
    assert not stat.S_IMODE((place / f"{CAT}.xmp").stat().st_mode) & 0o111


def test_a_second_run_reads_no_photo_and_no_sidecar(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)
    monkeypatch.setattr("batch.applying.sidecar_action.verify", pytest.fail)
    monkeypatch.setattr("batch.applying.sidecar_action.read_sidecar", pytest.fail)

    assert run_apply(report, sidecars=FULL).unchanged == 2


def test_a_new_label_replaces_the_keyword(place: Path) -> None:
    run_apply(write(place), sidecars=FULL)

    summary = run_apply(write(place, cat="sad"), sidecars=FULL)

    assert (summary.done, summary.unchanged) == ({("write", "sad"): 1}, 1)
    assert keywords(place / f"{CAT}.xmp") == ("sad",)
    run_undo(place / "r.csv")
    assert keywords(place / f"{CAT}.xmp") == ("happy",)


def test_a_new_root_replaces_the_old_one(place: Path) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)

    run_apply(report, sidecars=SidecarOptions(keyword_root="mood|face"))

    assert keywords(place / f"{CAT}.xmp", "mood|face") == ("happy",)
    assert keywords(place / f"{CAT}.xmp") == ()


def test_sidecars_of_other_programs_are_kept_and_restored(place: Path) -> None:
    foreign = make_foreign(place / f"{CAT}.xmp")
    (place / f"{CAT}.xmp").chmod(0o600)
    report = write(place)

    run_apply(report, sidecars=FULL)
    assert keywords(place / f"{CAT}.xmp") == ("happy",)
    assert keywords(place / f"{CAT}.xmp", "animals") == ("cat",)
    assert stat.S_IMODE((place / f"{CAT}.xmp").stat().st_mode) == 0o600

    run_undo(report)
    assert (place / f"{CAT}.xmp").read_bytes() == foreign
    assert not (place / f"{CUP}.xmp").exists()


def test_undo_takes_out_only_our_keywords_if_others_changed_the_sidecar(place: Path) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)
    sidecar = place / f"{CAT}.xmp"
    edited = update_sidecar(
        sidecar.read_bytes(), SidecarContent(("cat",), "animals", None, 300, 200)
    )
    sidecar.write_bytes(edited)

    summary = run_undo(report)

    assert summary.failed == {}
    assert keywords(sidecar) == ()
    assert keywords(sidecar, "animals") == ("cat",)


def test_undo_notices_that_the_disk_of_sidecars_is_not_mounted(place: Path) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)
    (place / "photos").rename(place / "unmounted")

    assert run_undo(report).failed == {FOLDER_GONE: 2}
    (place / "unmounted").rename(place / "photos")

    assert run_undo(report).failed == {}
    assert [name for name in list_files(place) if ".xmp" in name] == []


def test_unusable_sidecars_are_left_and_named(place: Path) -> None:
    (place / f"{CAT}.xmp").write_text("<html>no XMP</html>")
    target = place / "elsewhere.xmp"
    make_foreign(target)
    (place / f"{CUP}.xmp").symlink_to(target)
    before = target.read_bytes()

    summary = run_apply(write(place), sidecars=FULL)

    assert summary.exit_code is ExitCode.INCOMPLETE
    assert summary.failed == {"has a sidecar that can't be used": 2}
    assert "not an XMP sidecar" in summary.named[0]
    assert "a symbolic link" in summary.named[1]
    assert target.read_bytes() == before
    (place / f"{CUP}.xmp").unlink()
    (place / f"{CUP}.xmp").mkdir()
    assert "not a regular file" in run_apply(write(place), sidecars=FULL).named[1]


def test_changed_and_missing_photos_get_no_sidecar(place: Path) -> None:
    report = write(place)
    shutil.copy(place / CUP, place / CAT)
    (place / CUP).unlink()

    summary = run_apply(report, sidecars=FULL)

    assert summary.failed == {CHANGED: 1, GONE: 1}
    assert [name for name in list_files(place) if ".xmp" in name] == []


def test_a_changed_photo_with_the_same_label_is_noticed(place: Path) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)
    shutil.copy(place / CUP, place / CAT)

    assert run_apply(report, sidecars=FULL).failed == {CHANGED: 1}
    assert run_apply(write(place), sidecars=FULL).unchanged == 2


def test_keywords_of_photos_that_do_not_match_any_more_stay_unless_pruned(place: Path) -> None:
    make_foreign(place / f"{CAT}.xmp")
    run_apply(write(place), sidecars=FULL)
    report = write(place, status="unsure")

    assert run_apply(report, sidecars=FULL).unmatched == 1
    assert keywords(place / f"{CAT}.xmp") == ("happy",)
    summary = run_apply(report, sidecars=FULL, prune=True)
    assert summary.done == {("clear", ROOT): 1}
    assert keywords(place / f"{CAT}.xmp") == ()
    assert keywords(place / f"{CAT}.xmp", "animals") == ("cat",)
    # A sidecar that had nothing else is removed.
    write_report(report, [make_row(place, CAT, label="sad", status="unsure")])
    run_apply(report, sidecars=FULL, prune=True)
    assert not (place / f"{CUP}.xmp").exists()
    run_undo(report)
    assert keywords(place / f"{CUP}.xmp") == ("sad",)


@pytest.mark.parametrize("is_edited", [False, True])
def test_the_keyword_of_a_moved_photo_can_still_be_removed(place: Path, is_edited: bool) -> None:
    report = write(place)
    run_apply(report, sidecars=FULL)
    run_apply(report, move_to=place / "out")
    moved = [make_row(place, f"out/happy/{CAT[7:]}"), make_row(place, f"out/sad/{CUP[7:]}")]
    moved[1]["label"] = "sad"
    sidecar = place / f"out/happy/{CAT[7:]}.xmp"
    before = sidecar.stat()

    found = run_apply(write_report(report, moved), sidecars=FULL)

    assert (found.done, found.unchanged) == ({}, 2)
    assert sidecar.stat() == before
    # Undoing this changes nothing, also if another program has changed the sidecar.
    if is_edited:
        content = SidecarContent(("cat",), "animals", None, 300, 200)
        sidecar.write_bytes(update_sidecar(sidecar.read_bytes(), content))
    assert run_undo(report).failed == {}
    assert keywords(sidecar) == ("happy",)
    run_apply(report, sidecars=FULL)
    moved[0]["status"] = "unsure"
    summary = run_apply(write_report(report, moved), sidecars=FULL, prune=True)
    assert summary.done == {("clear", ROOT): 1}
    assert sidecar.exists() is is_edited
    assert not is_edited or keywords(sidecar) == ()


def test_photos_without_a_label_get_a_keyword_only_for_an_answer(place: Path) -> None:
    rows = [
        make_row(place, CAT, label="", status="no_person"),
        make_row(place, CUP, label="", status="no_face"),
    ]
    report = write_report(place / "r.csv", rows)

    assert run_apply(report, sidecars=FULL).matching == 0
    summary = run_apply(
        report, sidecars=FULL, selection=Selection(statuses=("no_person", "no_face"))
    )

    assert keywords(place / f"{CAT}.xmp") == ("no_person",)
    assert summary.skipped == {"without a label for a keyword": 1}


def test_photos_of_one_stem_share_a_sidecar(place: Path) -> None:
    shutil.copy(place / CAT, place / "photos/a/chelsea.cr2")
    rows = [
        make_row(place, "photos/a/chelsea.cr2", label="sad"),
        make_row(place, CAT, label="happy"),
    ]
    report = write_report(place / "r.csv", rows)

    for _ in range(2):
        summary = run_apply(report, sidecars=STEM)
        assert summary.skipped == {SHARED: 1}
        assert keywords(place / "photos/a/chelsea.xmp") == ("sad",)
    planned = run_apply(report, sidecars=STEM, execute=False)
    assert (planned.skipped, planned.done) == ({SHARED: 1}, {})


@pytest.mark.parametrize("follows_run", [False, True])
@pytest.mark.parametrize("label", ["sad", "happy"])
def test_a_photo_that_is_gone_leaves_the_sidecar_to_another_of_its_stem(
    place: Path, label: str, follows_run: bool
) -> None:
    raw = shutil.copy(place / CAT, place / "photos/a/chelsea.cr2")
    sidecar = place / "photos/a/chelsea.xmp"
    rows = [
        make_row(place, "photos/a/chelsea.cr2", label=label),
        make_row(place, CAT, label="happy"),
    ]
    report = write_report(place / "r.csv", rows)
    options = {"sidecars": STEM, "prune": True, "follows_run": follows_run}
    run_apply(report, **options)
    Path(raw).unlink()
    write_report(report, rows[1:])
    mood = SidecarOptions(SidecarName.STEM, keyword_root="mood")

    planned = run_apply(report, execute=False, **options)
    summary = run_apply(report, **options)

    assert planned.done == summary.done
    assert summary.done == ({("write", "happy"): 1} if label == "sad" else {})
    assert keywords(sidecar) == ("happy",)
    assert run_apply(report, **options).done == {}
    # It can be removed later, and has no keyword of an earlier root.
    run_apply(report, **options | {"sidecars": mood})
    assert (keywords(sidecar), keywords(sidecar, "mood")) == ((), ("happy",))
    write_report(report, [make_row(place, CUP)])
    run_apply(report, **options)
    assert not sidecar.exists()


def test_a_run_gives_a_sidecar_that_was_cleared_to_another_of_its_stem(place: Path) -> None:
    shutil.copy(place / CAT, place / "photos/a/chelsea.cr2")
    rows = [make_row(place, "photos/a/chelsea.cr2", label="sad"), make_row(place, CAT)]
    report = write_report(place / "r.csv", rows)
    options = {"sidecars": STEM, "prune": True, "follows_run": True}
    run_apply(report, **options)
    rows[0]["status"] = "unsure"
    write_report(report, rows)
    assert run_apply(report, **options).done == {("clear", ROOT): 1}

    assert run_apply(report, **options).done == {("write", "happy"): 1}
    assert run_apply(report, **options).photos == 0  # nothing is looked at


def test_a_new_photo_of_a_stem_replaces_the_keyword_of_an_earlier_root(place: Path) -> None:
    raw = shutil.copy(place / CAT, place / "photos/a/chelsea.cr2")
    row = make_row(place, "photos/a/chelsea.cr2", label="sad")
    run_apply(write_report(place / "r.csv", [row]), sidecars=STEM)
    Path(raw).unlink()
    mood = SidecarOptions(SidecarName.STEM, keyword_root="mood")

    run_apply(write(place), sidecars=mood)

    sidecar = place / "photos/a/chelsea.xmp"
    assert (keywords(sidecar), keywords(sidecar, "mood")) == ((), ("happy",))


@pytest.mark.parametrize("names", [(FULL, STEM), (STEM, FULL)])
@pytest.mark.parametrize("follows_run", [False, True])
def test_labels_are_in_sidecars_of_one_name(
    place: Path, names: tuple[SidecarOptions, SidecarOptions], follows_run: bool
) -> None:
    sidecars = {FULL: place / f"{CAT}.xmp", STEM: place / "photos/a/chelsea.xmp"}
    before, after = names
    foreign = make_foreign(sidecars[before])
    run_apply(write(place), sidecars=before)

    report = write(place, cat="sad")
    planned = run_apply(report, sidecars=after, execute=False)
    summary = run_apply(report, sidecars=after, follows_run=follows_run)

    assert planned.done == summary.done == {("write", "sad"): 2, ("clear", ROOT): 2}
    assert keywords(sidecars[after]) == ("sad",)
    assert keywords(sidecars[before]) == ()
    assert keywords(sidecars[before], "animals") == ("cat",)
    assert run_apply(report, sidecars=after).unchanged == 2
    run_undo(report)
    assert keywords(sidecars[before]) == ("happy",)
    assert not sidecars[after].exists()
    run_undo(report)
    assert sidecars[before].read_bytes() == foreign


def test_sidecars_of_the_other_name_are_pruned_too(place: Path) -> None:
    run_apply(write(place), sidecars=FULL)
    report = write_report(place / "r.csv", [make_row(place, CAT)])

    assert run_apply(report, sidecars=STEM).unmatched == 1
    assert run_apply(report, sidecars=STEM, prune=True).done == {("clear", ROOT): 1}

    assert [name for name in list_files(place) if ".xmp" in name] == ["photos/a/chelsea.xmp"]


def test_a_photo_that_gets_no_sidecar_of_the_new_name_keeps_none_of_the_other(place: Path) -> None:
    shutil.copy(place / CAT, place / "photos/a/chelsea.cr2")
    paths = "photos/a/chelsea.cr2", CAT
    report = write_report(place / "r.csv", [make_row(place, path) for path in paths])
    run_apply(report, sidecars=FULL)

    summary = run_apply(report, sidecars=STEM)

    assert (summary.done["write", "happy"], summary.done["clear", ROOT]) == (1, 2)
    assert run_apply(report, sidecars=STEM).skipped == {SHARED: 1}


@pytest.mark.parametrize("name", ["sideways.jpg", "sideways.png"])
def test_faces_are_marked_where_they_are_in_the_stored_picture(name: str, place: Path) -> None:
    # 300 x 200 when upright; stored on its side, as cameras do.
    with Image.open(place / CAT) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        sideways = image.resize((300, 200)).transpose(Image.Transpose.ROTATE_90)
        sideways.save(place / "photos/a" / name, exif=exif)
    report = write_report(place / "r.csv", [make_row(place, f"photos/a/{name}")])

    run_apply(report, sidecars=SidecarOptions(faces=True))

    content = SidecarContent(
        ("happy",), ROOT, (FaceRegion("happy", 10, 20, 30, 40),), 300, 200, orientation=6
    )
    written = (place / f"photos/a/{name}.xmp").read_bytes()
    assert written == update_sidecar(None, content)


def test_a_region_follows_the_label_although_faces_are_not_asked_for(place: Path) -> None:
    run_apply(write(place), sidecars=SidecarOptions(faces=True))
    assert "expression|happy</mwg-rs" in (place / f"{CAT}.xmp").read_text()

    run_apply(write(place, cat="sad"), sidecars=FULL)

    written = (place / f"{CAT}.xmp").read_text()
    assert "expression|sad</mwg-rs" in written
    assert "happy" not in written


def test_each_face_of_a_report_per_face_is_marked(place: Path) -> None:
    rows = [
        make_row(place, CAT, label="happy", face="1"),
        make_row(place, CAT, label="sad", face="2", face_left="100.0"),
        make_row(place, CAT, label="sad", face="3", face_left="200.0", status="unsure"),
    ]
    report = write_report(place / "r.csv", rows, face=True)

    run_apply(report, sidecars=SidecarOptions(faces=True))

    written = (place / f"{CAT}.xmp").read_text()
    assert keywords(place / f"{CAT}.xmp") == ("happy", "sad")
    assert (written.count("expression|happy</mwg-rs"), written.count("expression|sad</mwg-rs")) == (
        1,
        1,
    )


def test_a_report_without_boxes_has_no_faces_to_mark(place: Path) -> None:
    report = write(place)
    report.write_text(report.read_text().replace("face_left", "left"))

    with pytest.raises(ReportError, match="no column face_left"):
        run_apply(report, sidecars=SidecarOptions(faces=True))


def test_labels_that_cannot_be_keywords_are_named(place: Path) -> None:
    summary = run_apply(write(place, cat="happy/sad"), sidecars=FULL)

    assert summary.failed == {"has a sidecar that can't be used": 1}
    assert "separate levels" in summary.named[0]


def test_a_sidecar_whose_earlier_bytes_are_damaged_stays(place: Path) -> None:
    make_foreign(place / f"{CAT}.xmp")
    report = write(place)
    run_apply(report, sidecars=FULL)
    written = (place / f"{CAT}.xmp").read_bytes()
    with sqlite3.connect(place / ".r.csv.applied") as database:
        database.execute("UPDATE operations SET before = x'00' WHERE before IS NOT NULL")
    database.close()

    summary = run_undo(report)

    assert summary.failed == {DAMAGED: 1}
    assert (place / f"{CAT}.xmp").read_bytes() == written
    assert not (place / f"{CUP}.xmp").exists()


@pytest.mark.parametrize("options", [FULL, STEM])
@pytest.mark.parametrize("path", ["/", "photos", "photos/..", "."])
def test_a_folder_gets_no_sidecar(place: Path, path: str, options: SidecarOptions) -> None:
    row = make_row(place, CAT) | {"path": path}
    report = write_report(place / "r.csv", [row])
    before = list_files(place)

    run_apply(report, sidecars=options, execute=False)
    for action in ({"sidecars": options}, {"copy_to": place / "out"}, {"move_to": place / "out"}):
        assert run_apply(report, **action).failed == {UNREADABLE: 1}
    assert set(list_files(place)) - set(before) == {".r.csv.applied"}
    assert set(list_files(place)) - set(before) == {".r.csv.applied"}


def test_a_second_row_of_a_photo_is_counted_and_not_mixed_in(place: Path) -> None:
    rows = [make_row(place, CAT, label=label) for label in ("happy", "sad")]

    summary = run_apply(write_report(place / "r.csv", rows), sidecars=FULL)

    assert summary.done == {("write", "happy"): 1}
    assert (summary.photos, summary.skipped) == (2, {TWICE: 1})
    assert keywords(place / f"{CAT}.xmp") == ("happy",)
