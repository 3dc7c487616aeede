"""Dated copies of reports: their names, how they are made, and which of them are removed."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from batch.errors import OutputError
from batch.recording import retention
from batch.recording.retention import (
    check_history_names,
    find_history_folder,
    keep_record,
    keep_report,
    list_earlier,
    list_kept,
    remove_oldest,
)
from batch.reports.dataset import DatasetFile, encode_success

NOW = datetime(2026, 11, 30, 1, 3, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The time that dated names get, which a test may set."""
    times = [NOW]
    monkeypatch.setattr(retention, "utc_now", lambda: times[0])
    return times


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def publish(report: Path, text: str) -> Path:
    """Replace a report and its record as a run does."""
    for path in (report, report.with_name(f"{report.name}.run.json")):
        draft = path.with_name(f"{path.name}.draft")
        draft.write_text(text)
        draft.replace(path)
    return report


def publish_dataset(report: Path, text: str) -> Path:
    report.mkdir(exist_ok=True)
    for path in report.iterdir():
        path.unlink()
    part = DatasetFile("part-00000-0123456789ab.parquet", 1, len(text), text)
    (report / part.path).write_text(text)
    (report / "_SUCCESS").write_bytes(encode_success([part]))
    return report


def keep_many(report: Path, number: int) -> list[Path]:
    kept = []
    for count in range(number):
        kept.append(keep_report(publish(report, f"{count}"))[0])
        keep_record(report, kept[-1])
    return kept


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_report_and_its_record_are_kept_by_hard_links(
    report: Path, clock: list[datetime]
) -> None:
    kept, is_new = keep_report(publish(report, "one"))
    keep_record(report, kept)
    assert is_new
    assert kept == report.parent / "results.csv.history" / "results-2026-11-30T010312Z.csv"
    assert names(kept.parent) == [kept.name, f"{kept.name}.run.json"]
    assert kept.samefile(report)
    assert kept.with_name(f"{kept.name}.run.json").read_text() == "one"
    publish(report, "two")
    assert kept.read_text() == "one"


def test_the_same_bytes_are_kept_once(report: Path) -> None:
    first, _ = keep_report(publish(report, "one"))
    assert keep_report(report) == (first, False)
    publish(report, "one")  # another inode
    assert not first.samefile(report)
    assert keep_report(report) == (first, False)
    second, is_new = keep_report(publish(report, "two"))
    assert is_new
    third, is_new = keep_report(publish(report, "one"))
    assert is_new, "only the newest copy is compared"
    assert list_kept(report) == [first, second, third]


def test_reports_of_one_second_are_kept_in_their_order(report: Path, clock: list[datetime]) -> None:
    kept = keep_many(report, 3)
    assert [path.stem[-4:] for path in kept] == ["312Z", "313Z", "314Z"]
    assert list_kept(report) == kept


def test_a_clock_that_goes_back_changes_no_order(report: Path, clock: list[datetime]) -> None:
    (first,) = keep_many(report, 1)
    clock[0] = NOW - timedelta(days=400)
    second, _ = keep_report(publish(report, "later"))
    assert second.name == "results-2026-11-30T010313Z.csv"
    assert remove_oldest(report, 1) == (1, 0)
    assert list_kept(report) == [second]
    assert not first.exists()


def test_fewer_are_kept_if_the_number_is_lowered(report: Path) -> None:
    kept = keep_many(report, 30)
    assert remove_oldest(report, 30) == (0, 0)
    assert remove_oldest(report, 3) == (27, 0)
    assert list_kept(report) == kept[-3:]
    assert len(names(find_history_folder(report))) == 6, "with their records"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK])
def test_without_hard_links_a_copy_is_made(
    report: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_links(monkeypatch, number)
    publish(report, "one").chmod(0o640)
    os.utime(report, (1, 2))
    kept, _ = keep_report(report)
    keep_record(report, kept)
    assert not kept.samefile(report)
    assert kept.read_text() == "one"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert kept.stat().st_mtime == 2
    assert names(kept.parent) == [kept.name, f"{kept.name}.run.json"]
    assert keep_report(report) == (kept, False)


def test_a_full_disk_leaves_no_incomplete_copy(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = keep_many(report, 1)
    refuse_links(monkeypatch)

    def fill(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OutputError, match=r"results\.csv\.history.*No space left.*omit --keep"):
        keep_report(publish(report, "two"))
    assert names(first.parent) == [first.name, f"{first.name}.run.json"]


def test_drafts_of_killed_runs_are_removed(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_history_folder(report)
    folder.mkdir()
    left = folder / f".results.csv.batch-label-{'0' * 32}.tmp"
    left.write_text("half")
    foreign = folder / ".results.csv.tmp"
    foreign.write_text("not ours")
    kept, _ = keep_report(publish(report, "one"))
    assert names(folder) == [foreign.name, kept.name]


# What is not removed


def test_foreign_files_survive(report: Path, clock: list[datetime]) -> None:
    folder = find_history_folder(report)
    folder.mkdir()
    foreign = {
        "notes.txt",
        "results.csv",
        "results-2026-01-01.csv",
        "results-2026-01-01T000000Z.csv.bak",
        "results-2026-13-01T000000Z.csv",
        "other-2026-01-01T000000Z.csv",
        "results-2026-01-01T000000Z.parquet",
    }
    for name in foreign:
        (folder / name).write_text("mine")
    (folder / "results-2026-01-02T000000Z.csv").mkdir()
    (folder / "results-2026-01-03T000000Z.csv").symlink_to("notes.txt")
    kept = keep_many(report, 3)
    assert remove_oldest(report, 1) == (2, 0)
    assert list_kept(report) == kept[-1:]
    assert foreign < set(names(folder))
    assert (folder / "results-2026-01-02T000000Z.csv").is_dir()
    assert (folder / "results-2026-01-03T000000Z.csv").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_reports_survive_and_are_counted(report: Path) -> None:
    kept = keep_many(report, 4)
    os.chown(kept[0], 12345, -1)
    assert remove_oldest(report, 1) == (2, 1)
    assert list_kept(report) == [kept[0], kept[3]]


def test_a_copy_replaces_no_file(report: Path, clock: list[datetime]) -> None:
    folder = find_history_folder(report)
    folder.mkdir()
    taken = folder / "results-2026-11-30T010312Z.csv"
    taken.mkdir()
    kept, _ = keep_report(publish(report, "one"))
    assert kept.name == "results-2026-11-30T010313Z.csv"
    assert taken.is_dir()


def test_a_record_that_is_kept_is_not_replaced(report: Path) -> None:
    (kept,) = keep_many(report, 1)
    publish(report, "of a later run")
    keep_record(report, kept)
    assert kept.with_name(f"{kept.name}.run.json").read_text() == "0"


# Datasets


@pytest.mark.parametrize("links", [True, False])
def test_a_dataset_is_kept_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, clock: list[datetime]
) -> None:
    if not links:
        refuse_links(monkeypatch)
    report = publish_dataset(tmp_path / "results", "one")
    kept, is_new = keep_report(report)
    assert is_new
    assert kept == tmp_path / "results.history" / "results-2026-11-30T010312Z"
    assert names(kept) == names(report)
    assert all((kept / name).samefile(report / name) == links for name in names(kept))
    assert keep_report(report) == (kept, False)
    second, _ = keep_report(publish_dataset(report, "two"))
    assert remove_oldest(report, 1) == (1, 0)
    assert names(kept.parent) == [second.name]


def test_a_dataset_that_holds_other_files_survives(tmp_path: Path) -> None:
    report = tmp_path / "results"
    first, second, third = (
        keep_report(publish_dataset(report, text))[0] for text in ("one", "two", "three")
    )
    (first / "notes.txt").write_text("mine")
    assert remove_oldest(report, 1) == (1, 1)
    assert names(first) == ["_SUCCESS", "notes.txt", "part-00000-0123456789ab.parquet"]
    assert list_kept(report) == [first, third]
    assert not second.exists()


# Reading it back


def test_the_report_itself_is_not_an_earlier_one(report: Path) -> None:
    assert list_earlier(report) == []
    kept = keep_many(report, 3)
    assert list_earlier(report) == kept[:2]
    publish(report, "not kept")
    assert list_earlier(report) == kept


def test_a_link_to_a_report_has_the_reports_history(report: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "latest.csv"
    link.symlink_to(report)
    kept = keep_many(report, 2)
    assert list_earlier(link) == kept[:1]


def test_a_file_in_place_of_the_history_is_no_history(report: Path) -> None:
    find_history_folder(report).write_text("a file")
    assert list_earlier(publish(report, "one")) == []
    with pytest.raises(OutputError, match=r"results\.csv\.history"):
        keep_report(report)


def test_names_that_would_be_too_long_are_refused_before_the_run(tmp_path: Path) -> None:
    # "-2026-11-30T010312Z" and ".run.json" are 28 characters.
    check_history_names(tmp_path / f"{'r' * 223}.csv")
    with pytest.raises(OutputError, match="shorter name"):
        check_history_names(tmp_path / f"{'r' * 224}.csv")
