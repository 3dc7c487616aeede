"""Runs that do not find known photos: deleted, moved, or on an unmounted disk."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from batch.errors import ExitCode
from batch.found import FoundFile
from batch.journal.missing import InputCoverage
from batch.records import Failure, Reason, Stage
from tests.support.object_store import Bucket, bucket, s3_server
from tests.support.runs import REPORT, RunFolder, make_photos, unprivileged_prefix

__all__ = ["bucket", "s3_server"]

NUMBER = 12
RUN = ("a", "b", "-o", REPORT)


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """Two labelled folders, the second with a folder in it."""
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "a", 2)
    make_photos(tmp_path / "b", NUMBER, first=100)
    make_photos(tmp_path / "b" / "disk", 3, first=200)
    assert place.run(*RUN).returncode == ExitCode.OK
    return place


def _unmount(folder: Path) -> None:
    folder.rename(folder.with_name(f".{folder.name}-off"))
    folder.mkdir()


def _mount(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.with_name(f".{folder.name}-off").rename(folder)


def _missing(place: RunFolder) -> list[str]:
    return [p for p, row in place.rows().items() if row["error"].startswith("missing: ")]


def _labels(place: RunFolder) -> dict[str, tuple[str, str]]:
    return {path: (row["label"], row["confidence"]) for path, row in place.rows().items()}


@pytest.mark.parametrize("folder", ["b", "b/disk"])
def test_photos_of_an_unmounted_disk_stay_in_the_report(place: RunFolder, folder: str) -> None:
    before, photos = _labels(place), place.folder / folder
    of_folder = {path for path in before if path.startswith(f"{folder}/")}
    _unmount(photos)
    (photos / ".keep").touch()
    for _ in range(2):  # as long as it is away
        ran = place.run(*RUN, "--quiet")
        assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
        told = f"{len(of_folder)} known photos missing, and still in the report: {folder} ("
        assert told in ran.stderr
        assert "mounted" in ran.stderr
        assert "--max-gone 0" in ran.stderr
        assert set(_missing(place)) == of_folder
        assert _labels(place) == before
        counts = place.counts()
        assert (counts["missing"], counts["away"], counts["gone"]) == (*[len(of_folder)] * 2, 0)
        assert place.record()["outcome"] == "incomplete"
    _mount(photos)
    assert place.run(*RUN).returncode == ExitCode.OK
    assert (place.counts()["labelled_now"], _missing(place)) == (0, [])


def test_an_input_without_photos_is_unavailable(place: RunFolder) -> None:
    _unmount(place.folder / "a")
    (place.folder / "a" / "READ ME.txt").write_text("the disk goes here")
    assert place.run(*RUN).returncode == ExitCode.INCOMPLETE
    assert _missing(place) == ["a/00000.jpg", "a/00001.jpg"]


def test_an_input_inside_of_another_does_not_count_as_empty(place: RunFolder) -> None:
    run = ("b", "b/disk", "-o", REPORT)
    assert place.run(*run).returncode == ExitCode.OK
    (place.folder / "b/disk/00200.jpg").unlink()
    assert place.run(*run).returncode == ExitCode.OK
    assert (place.counts()["gone"], place.counts()["missing"]) == (1, 0)
    _unmount(place.folder / "b" / "disk")
    assert place.run(*run).returncode == ExitCode.INCOMPLETE
    assert place.counts()["missing"] == 2


@pytest.mark.parametrize("way", ["remove", "option"])
def test_a_folder_that_was_emptied_on_purpose(place: RunFolder, way: str) -> None:
    _unmount(place.folder / "b" / "disk")
    if way == "remove":
        (place.folder / "b" / "disk").rmdir()
    ran = place.run(*RUN, *(("--max-gone", "0") if way == "option" else ()))
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert "3 gone" in ran.stderr
    assert place.run(*RUN).returncode == ExitCode.OK
    assert (place.counts()["missing"], len(place.rows())) == (0, NUMBER + 2)


def test_photos_that_were_moved_are_not_missing(place: RunFolder) -> None:
    for photo in (place.folder / "b" / "disk").iterdir():
        photo.rename(place.folder / "a" / photo.name)
    ran = place.run(*RUN)
    assert ran.returncode == ExitCode.OK, ran.stderr
    counts = place.counts()
    assert (counts["found"], counts["labelled_now"]) == (NUMBER + 5, 0)
    assert (counts["missing"], counts["gone"]) == (0, 0)
    # A copy that was there before does not mean that the other one has moved.
    shutil.copy(place.folder / "b/00100.jpg", place.folder / "b/disk/copy.jpg")
    assert place.run(*RUN).returncode == ExitCode.OK
    _unmount(place.folder / "b" / "disk")
    assert place.run(*RUN).returncode == ExitCode.INCOMPLETE
    assert _missing(place) == ["b/disk/copy.jpg"]


def test_a_folder_that_can_t_be_read_stays_in_the_report(place: RunFolder) -> None:
    (place.folder / "b" / "disk").chmod(0)
    try:
        # This holds with --max-gone 0, too.
        for more in ((), ("--max-gone", "0")):
            ran = place.run(*RUN, *more, before=unprivileged_prefix())
            assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
            assert "b/disk (3 photos: can't be read)" in ran.stderr
            assert len(_missing(place)) == 3
            assert place.rows()["b/disk"]["error"].startswith("unreadable: ")
    finally:
        (place.folder / "b" / "disk").chmod(0o755)
    (place.folder / "b" / "00100.jpg").unlink()
    assert place.run(*RUN).returncode == ExitCode.OK
    assert (place.counts()["labelled_now"], place.counts()["gone"]) == (0, 1)


@pytest.mark.parametrize("folder", ["a", "b/disk"])
def test_missing_and_empty_archives_stay_in_the_report(place: RunFolder, folder: str) -> None:
    archive = place.folder / folder / "more.zip"
    make_photos(place.folder / "packed", 2, first=300)
    with zipfile.ZipFile(archive, "w") as packed:
        for photo in (place.folder / "packed").iterdir():
            packed.write(photo, photo.name)
    run = (*RUN, f"{folder}/more.zip")
    assert place.run(*run).returncode == ExitCode.OK
    with zipfile.ZipFile(archive, "w"):
        pass
    assert place.run(*run).returncode == ExitCode.INCOMPLETE
    inside = [f"zip://00{n}.jpg::{folder}/more.zip" for n in (300, 301)]
    assert _missing(place) == inside
    archive.write_bytes(b"no archive")
    ran = place.run(*run)
    assert ran.returncode == ExitCode.INCOMPLETE
    assert f"{folder}/more.zip (2 photos: can't be read)" in ran.stderr
    assert _missing(place) == inside


@pytest.mark.parametrize("more", [(), ("--keep-missing",), ("--fresh",), ("--shard", "1/1")])
def test_nothing_found_at_all_keeps_the_earlier_report(place: RunFolder, more: tuple[str]) -> None:
    report = place.report.read_bytes()
    for name in ("a", "b"):
        _unmount(place.folder / name)
    for _ in range(2):
        ran = place.run(*RUN, *more, "--quiet")
        assert ran.returncode == ExitCode.FAILED
        assert "no photos found in a, b, but 17 photos were known" in ran.stderr
        assert "--max-gone 0" in ran.stderr
        assert place.report.read_bytes() == report
        assert not place.record()["published"]
    for name in ("a", "b"):
        _mount(place.folder / name)
    assert place.run(*RUN).returncode == ExitCode.OK
    assert place.counts()["labelled_now"] == (17 if "--fresh" in more else 0)


def test_an_empty_report_is_possible_with_max_gone_0(place: RunFolder) -> None:
    for name in ("a", "b"):
        _unmount(place.folder / name)
    ran = place.run(*RUN, "--max-gone", "0")
    assert ran.returncode == ExitCode.OK
    assert "warning: 0 photos found" in ran.stderr
    assert place.rows() == {}
    assert place.run(*RUN).returncode == ExitCode.OK  # there was nothing last time


def test_an_empty_folder_is_logged_for_a_streamed_report(place: RunFolder) -> None:
    (place.folder / "empty").mkdir()
    ran = place.run("empty", "--quiet")
    assert ran.returncode == ExitCode.OK
    assert "warning: 0 photos found" in ran.stderr


def test_a_prefix_without_photos_stays_in_the_report(place: RunFolder, bucket: Bucket) -> None:
    for photo in (place.folder / "a").iterdir():
        bucket.write(f"one/{photo.name}", photo.read_bytes())
        bucket.write(f"two/deep/{photo.name}", photo.read_bytes() + b"other")
    run = (bucket.url("one"), bucket.url("two/"), "-o", "s3.csv")
    assert place.run(*run).returncode == ExitCode.OK
    report = (place.folder / "s3.csv").read_text()
    bucket.write("two/.keep", b"")
    bucket.store.rm(f"{bucket.name}/two/deep", recursive=True)
    ran = place.run(*run)
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    assert f"{bucket.url('two')} (2 photos: no photos in it)" in ran.stderr
    assert (
        report.splitlines()[-1] + "missing: not found in this run"
        in (place.folder / "s3.csv").read_text()
    )
    # A prefix without any object is not there at all.
    kept = (place.folder / "s3.csv").read_text()
    bucket.store.rm(f"{bucket.name}/two/.keep")
    assert place.run(*run).returncode == ExitCode.USAGE
    assert (place.folder / "s3.csv").read_text() == kept


def test_coverage_has_inputs_and_failures_as_prefixes_of_paths() -> None:
    urls = ["s3://b/one/", "s3://b/two", "c.zip", "d/", ".", "file:///e"]
    failure = Failure(Path("x"), Stage.READ, Reason.UNREADABLE, "no")
    files = [
        *("s3://b/one/deep/a.jpg", "zip://in/a.jpg::c.zip", "/e/a.jpg"),
        *("d-not/a.jpg", "s3://b/two-not/a.jpg"),
    ]
    broken = FoundFile("s3://b/three/", failure=failure)
    coverage = InputCoverage([*map(FoundFile, files), broken], urls)
    for _ in range(2):
        assert [file.path for file in coverage] == [*files, broken.path]
        assert coverage.empty == {"s3://b/two", "d"}
        assert coverage.unreadable == {"s3://b/three"}


def _delete(place: RunFolder, number: int) -> None:
    for photo in sorted((place.folder / "b").glob("*.jpg"))[:number]:
        photo.unlink()


def test_more_photos_gone_than_allowed_publish_nothing_and_forget_nothing(place: RunFolder) -> None:
    report = place.report.read_bytes()
    _delete(place, 10)
    make_photos(place.folder / "a", 1, first=400)
    for _ in range(2):
        ran = place.run(*RUN)
        assert ran.returncode == ExitCode.FAILED, ran.stderr
        last = ran.stderr.splitlines()[-1]
        assert "10 of 17 known photos are gone, more than --max-gone 50% allows" in last
        assert "b/00100.jpg" in last
        assert "--max-gone 0" in last
        assert place.report.read_bytes() == report
    make_photos(place.folder / "b", 10, first=100)
    assert place.run(*RUN).returncode == ExitCode.OK
    assert place.counts()["labelled_now"] == 0


@pytest.mark.parametrize(
    ("limit", "deleted", "code"),
    [
        ("0", 12, ExitCode.OK),
        ("50%", 9, ExitCode.OK),  # so few are no disk
        ("90%", 12, ExitCode.OK),
        ("3", 3, ExitCode.OK),
        ("3", 4, ExitCode.FAILED),
    ],
)
def test_max_gone(place: RunFolder, limit: str, deleted: int, code: ExitCode) -> None:
    _delete(place, deleted)
    ran = place.run(*RUN, "--max-gone", limit)
    assert ran.returncode == code, ran.stderr
    # Kept rows do not count as gone.
    assert place.run(*RUN, "--max-gone", limit, "--keep-missing").returncode == ExitCode.OK


def test_photos_that_an_option_skips_are_not_unavailable(place: RunFolder) -> None:
    make_photos(place.folder / "c" / "deep", 1, first=500)
    run = ("a", "c", "-o", REPORT)
    assert place.run(*run).returncode == ExitCode.OK
    ran = place.run(*run, "--no-recursive")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert (place.counts()["missing"], len(place.rows())) == (0, 2)


def test_excluded_members_are_not_unavailable(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "raw", NUMBER)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for photo in sorted((tmp_path / "raw").iterdir()):
            archive.write(photo, f"raw/{photo.name}")
    make_photos(tmp_path / "a", 1)
    assert place.run("a", "x.zip", "-o", REPORT).returncode == ExitCode.OK
    ran = place.run("a", "x.zip", "-o", REPORT, "--exclude", "raw/")
    assert (ran.returncode, len(place.rows())) == (ExitCode.OK, 1), ran.stderr


def test_a_report_without_its_journal_is_guarded_as_well(place: RunFolder) -> None:
    before = place.report.read_bytes()
    place.journal.unlink()
    _unmount(place.folder / "b")
    ran = place.run(*RUN, "--quiet")
    assert (ran.returncode, place.report.read_bytes()) == (ExitCode.FAILED, before)
    assert f"the earlier report has {NUMBER + 5} photos and 2 were found" in ran.stderr
    _unmount(place.folder / "a")
    ran = place.run(*RUN, "--quiet")
    assert (ran.returncode, place.report.read_bytes()) == (ExitCode.FAILED, before)
    ran = place.run(*RUN, "--max-gone", "0")
    assert (ran.returncode, place.rows()) == (ExitCode.OK, {}), ran.stderr


@pytest.mark.parametrize("output", ["r.jsonl", "r.parquet", "results/"])
def test_a_report_of_each_format_is_guarded(place: RunFolder, output: str) -> None:
    command = ("a", "b", "-o", output, "--state", "j", "--quiet")
    first = place.run(*command)
    assert (first.returncode, first.stderr) == (ExitCode.OK, "")
    (place.folder / "j").unlink()
    _unmount(place.folder / "b")
    ran = place.run(*command)
    assert ran.returncode == ExitCode.FAILED
    assert f"the earlier report has {NUMBER + 5} photos and 2 were found" in ran.stderr


@pytest.mark.parametrize("output", ["r.xlsx", "r.csv"])
def test_an_earlier_report_that_cannot_be_read_is_named(place: RunFolder, output: str) -> None:
    if output == REPORT:
        place.report.write_text("path,status\n")
    else:
        (place.folder / "new").mkdir()
        for new in ("x.xlsx", "new/"):
            first = place.run("a", "-o", new, "--quiet")
            assert (first.returncode, first.stderr) == (ExitCode.OK, "")
        place.run("a", "-o", output)
    (place.folder / f".{output}.journal").unlink()
    ran = place.run("a", "-o", output, "--quiet")
    assert ran.returncode == ExitCode.OK
    assert f"report {output} " in ran.stderr
    assert "the run can't tell how many of its photos are gone" in ran.stderr

    (place.folder / f".{output}.journal").unlink()
    _unmount(place.folder / "a")
    if output == REPORT:
        place.report.write_text("path,status\n")
    whole = (place.folder / output).read_bytes()
    ran = place.run("a", "-o", output, "--quiet")
    assert ran.returncode == ExitCode.FAILED
    assert "but an earlier report can't be compared; no report is published" in ran.stderr
    assert (place.folder / output).read_bytes() == whole


def test_a_report_on_a_pipe_has_no_earlier_one(place: RunFolder) -> None:
    (place.folder / "empty").mkdir()
    ran = place.run("empty", "-o", "/dev/stdout", "--state", "new", "--quiet")
    assert (ran.returncode, "can't be compared" in ran.stderr) == (ExitCode.OK, False)
    assert "can't tell" not in ran.stderr


@pytest.mark.parametrize("output", ["r.csv", "r.xlsx", "results/"])
def test_the_first_report_in_a_store_is_compared_with_none(
    place: RunFolder, bucket: Bucket, output: str
) -> None:
    ran = place.run("a", "-o", bucket.url(output), "--quiet")
    assert (ran.returncode, ran.stderr) == (ExitCode.OK, "")


def test_a_list_that_is_cut_short_is_not_taken_for_another_command(place: RunFolder) -> None:
    listed, paths = place.folder / "list.txt", sorted(place.rows())
    command = ("list.txt", "-o", "l.csv")
    for number, code in ((len(paths), 0), (1, 1), (0, 1), (len(paths) - 1, 0)):
        listed.write_text("".join(f"{path}\n" for path in paths[:number]))
        assert place.run(*command).returncode == code, number


def test_a_folder_whose_files_all_failed_is_unavailable_when_empty(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "good", 1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"no photo")
    for _ in range(2):
        ran = place.run(".", "-o", REPORT)
        assert (ran.returncode, len(place.rows())) == (ExitCode.INCOMPLETE, 2), ran.stderr
        if not (tmp_path / ".bad-off").exists():
            _unmount(tmp_path / "bad")


@pytest.mark.parametrize("rest", ["@eaDir", "Thumbs.db"])
def test_files_of_file_managers_do_not_count(place: RunFolder, rest: str) -> None:
    _unmount(place.folder / "b" / "disk")
    (place.folder / "b" / "disk" / rest).mkdir()
    assert place.run(*RUN).returncode == ExitCode.INCOMPLETE
    assert place.counts()["away"] == 3


def test_an_input_that_is_no_longer_named_is_not_gone(place: RunFolder) -> None:
    ran = place.run("a", "-o", REPORT)
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert list(place.rows()) == ["a/00000.jpg", "a/00001.jpg"]
    ran = place.run(*RUN, "--no-recursive")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert len(place.rows()) == NUMBER + 2


def test_each_shard_knows_its_own_photos(place: RunFolder) -> None:
    report = place.folder / "shard.csv"

    def shard(number: int) -> dict[str, Any]:
        ran = place.run("a", "b", "-o", report.name, "--shard", f"{number}/2")
        assert ran.returncode in (ExitCode.OK, ExitCode.INCOMPLETE), ran.stderr
        run: dict[str, Any] = json.loads(report.with_name(f"{report.name}.run.json").read_bytes())
        return run

    first = [shard(number)["counts"]["found"] for number in (1, 2)]
    assert sum(first) == NUMBER + 5
    _unmount(place.folder / "b")
    for number in (1, 2):
        run = shard(number)
        assert run["exit_code"] == ExitCode.INCOMPLETE
        assert run["counts"]["found"] + run["counts"]["missing"] == first[number - 1]
    _mount(place.folder / "b")
    assert [shard(number)["counts"]["labelled_now"] for number in (1, 2)] == [0, 0]


@pytest.mark.parametrize("more", [("--min-confidence", "0.9"), ("--per-face",), ("--fresh",)])
def test_missing_rows_outlive_new_settings_and_fresh_starts(
    place: RunFolder, more: tuple[str, ...]
) -> None:
    (place.folder / "a" / "00000.jpg").unlink()
    for _ in range(2):
        assert place.run(*RUN, "--keep-missing", *more).returncode == ExitCode.OK
        assert _missing(place) == ["a/00000.jpg"]
    assert place.run(*RUN, *more).returncode == ExitCode.OK
    assert "a/00000.jpg" not in place.rows()
