"""The history of a report: a folder beside it, in which its last versions are kept.

``results.csv`` is kept as ``results.csv.history/results-2026-11-30T010312Z.csv``, with its run
record beside it. A published report is never changed in place, so a kept report is a hard link
where the file system has them. It is removed only if

- its name has the report's stem, a time and the report's suffix;
- its owner is that of the files which this process creates in the same folder;
- it is a regular file, or a folder that holds only a dataset; never a link.

The caller holds the lock of the report.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from batch.errors import OutputError, PublishedOnly
from batch.files.drafts import (
    DraftFolder,
    draft_pattern,
    draft_stem,
    find_owner,
    open_draft,
    remove_abandoned,
    remove_contents,
)
from batch.files.publish import digest_file, resolve_path, sync_folder
from batch.files.regular_file import open_folder
from batch.limits import utc_now
from batch.log import Event, Level, Log, count_text
from batch.os_errors import translate_write_errors
from batch.path_text import path_text
from batch.recording.run_record import local_record_file
from batch.reports.dataset import SUCCESS_FILE, is_dataset_name
from batch.reports.dataset_folder import check_holds_only_dataset, remove_dataset

HISTORY_SUFFIX = ".history"
_REMEDY = "omit --keep"
_TIME_FORMAT = "%Y-%m-%dT%H%M%SZ"
_TIME_PATTERN = r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z"


class Removal(NamedTuple):
    """What ``remove_oldest`` did.

    Attributes:
        removed: kept reports that were removed.
        foreign: kept reports that stay although they are too many: another user owns them, or they
            hold other files.
    """

    removed: int
    foreign: int


def update_history(report: Path, number: int, log: Log) -> Path:
    """Keep a published report, and remove the oldest so that ``number`` are left.

    Call it also if the report was up to date: it is not kept yet if an earlier run was killed.

    Returns:
        The kept report.

    Raises:
        PublishedOnly: the history can't be written.
    """
    folder = find_history_folder(report)
    try:
        kept, is_new = keep_report(report)
        removed, foreign = remove_oldest(report, number)
    except OutputError as error:
        raise PublishedOnly(
            f"the report {path_text(report)} is published, but its history can't be updated "
            f"({error})",
            "fix this, then run the same command again: no photo is labelled again",
        ) from error
    removal = f", {count_text(removed, 'older report')} removed" if removed else ""
    if is_new or removed:
        log(
            Event.KEPT,
            f"{'kept as' if is_new else 'already kept as'} {path_text(kept)}{removal}",
            kept=path_text(kept),
            removed=removed,
        )
    if foreign:
        log(
            Event.KEPT,
            f"{count_text(foreign, 'report')} too many in {path_text(folder)}: another user owns "
            "them, or they hold other files; remove them, or change their owner (chown)",
            Level.WARNING,
            foreign=foreign,
        )
    return kept


def find_history_folder(report: Path) -> Path:
    """Return the folder of a report's history: ``results.csv.history``."""
    report = resolve_path(report)
    return report.with_name(report.name + HISTORY_SUFFIX)


def check_history_names(report: Path) -> None:
    """Check before the run that the names of kept reports are not too long.

    Raises:
        OutputError: the file system refuses them.
    """
    report = resolve_path(report)
    # In the report's folder, as the history folder may not exist yet.
    longest = local_record_file(report.with_name(_make_name(report))).path
    with translate_write_errors(f"the history of report {path_text(report)}", _REMEDY):
        try:
            longest.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise


def list_kept(report: Path) -> list[Path]:
    """List the kept reports, the oldest first.

    Raises:
        OSError: the history folder can't be read.
    """
    report = resolve_path(report)
    is_dataset, found = report.is_dir(), []
    with (
        suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(find_history_folder(report)) as entries,
    ):
        for entry in entries:
            is_right_kind = entry.is_dir if is_dataset else entry.is_file
            if _parse_time(report, entry.name) and is_right_kind(follow_symlinks=False):
                found.append(Path(entry.path))
    return sorted(found)


def list_earlier(report: Path) -> list[Path]:
    """List the kept reports, the oldest first, without that of the report as it is now.

    Raises:
        OSError: the history folder can't be read.
    """
    kept = list_kept(report)
    return kept[:-1] if kept and _has_same_bytes(kept[-1], report) else kept


def keep_report(report: Path) -> tuple[Path, bool]:
    """Keep a published report, unless the newest kept report has the same bytes.

    Returns:
        The kept report, and whether it is new.

    Raises:
        OutputError: the copy can't be made. No incomplete copy gets its name.
    """
    report = resolve_path(report)
    folder = find_history_folder(report)
    with _translate_errors(folder):
        kept = list_kept(report)
        if kept and _has_same_bytes(kept[-1], report):
            return kept[-1], False
        folder.mkdir(exist_ok=True)
        target = folder / _make_name(report, _find_next_time(report))
        if report.is_dir():
            _keep_dataset(report, target)
        else:
            _keep_file(report, target)
        sync_folder(folder)
    return target, True


def keep_record(report: Path, kept: Path) -> None:
    """Keep the run record of a report beside the kept report, unless that has one.

    Raises:
        OutputError: the copy can't be made.
    """
    record, target = local_record_file(report).path, local_record_file(kept).path
    with _translate_errors(target.parent):
        if not os.path.lexists(target):
            _keep_file(record, target)


def remove_oldest(report: Path, number: int) -> Removal:
    """Remove the oldest kept reports, and their records, so that ``number`` are left.

    Raises:
        OutputError: one can't be removed.
    """
    report = resolve_path(report)
    folder = find_history_folder(report)
    with _translate_errors(folder):
        excess = list_kept(report)[:-number]
        if not excess:
            return Removal(0, 0)
        owner, removed = find_owner(folder), 0
        for kept in excess:
            if _is_own(kept, owner):
                _remove(kept, owner)
                removed += 1
        sync_folder(folder)
    return Removal(removed, len(excess) - removed)


def _translate_errors(folder: Path) -> AbstractContextManager[None]:
    return translate_write_errors(f"history {path_text(folder)}", _REMEDY, folder)


def _make_name(report: Path, when: datetime | None = None) -> str:
    return f"{report.stem}-{when or utc_now():{_TIME_FORMAT}}{report.suffix}"


def _parse_time(report: Path, name: str) -> datetime | None:
    """Parse the time in the name of a kept report; None for other names."""
    stem, suffix = re.escape(report.stem), re.escape(report.suffix)
    match = re.fullmatch(f"{stem}-({_TIME_PATTERN}){suffix}", name)
    if match:
        with suppress(ValueError):  # such as a 13th month
            return datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=UTC)
    return None


def _find_next_time(report: Path) -> datetime:
    """Return the time for the next name: now, or a second after the last if that is later.

    So names sort in the order of publication even if the clock was set back.
    """
    with os.scandir(find_history_folder(report)) as entries:
        times = [_parse_time(report, entry.name) for entry in entries]
    latest = max((time for time in times if time), default=None)
    now = utc_now()
    return now if latest is None else max(now, latest + timedelta(seconds=1))


def _has_same_bytes(kept: Path, report: Path) -> bool:
    one, other = (path / SUCCESS_FILE if path.is_dir() else path for path in (kept, report))
    try:
        status, other_status = one.stat(), other.stat()
    except OSError:
        return False
    if os.path.samestat(status, other_status):
        return True
    digest = digest_file(one) if status.st_size == other_status.st_size else None
    return digest is not None and digest == digest_file(other)


def _keep_dataset(report: Path, target: Path) -> None:
    """Link the files of a dataset into a hidden folder, which is renamed when it is complete."""
    stem = draft_stem(report)
    for abandoned in DraftFolder.take_over_abandoned(target.parent, stem):
        abandoned.remove(remove_contents)
    draft = DraftFolder.make(target.parent, stem)
    try:
        for file in report.iterdir():
            if is_dataset_name(file.name):
                _keep_file(file, draft.content / file.name)
        shutil.copystat(report, draft.content)
        sync_folder(draft.content)
        draft.content.rename(target)
    finally:
        draft.remove(remove_contents)


def _keep_file(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the file system has no links or the file another owner."""
    stem = draft_stem(source)
    remove_abandoned(target.parent, draft_pattern(stem))
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a copy tells whether the folder can be written at all
        path, stream = open_draft(target.parent, stem)
        with stream:
            try:
                with source.open("rb") as original:
                    shutil.copyfileobj(original, stream)
                stream.flush()
                shutil.copystat(source, path)
                os.fsync(stream.fileno())
                path.rename(target)
            except BaseException:
                with suppress(OSError):
                    path.unlink()
                raise


def _is_own(kept: Path, owner: int) -> bool:
    status = kept.lstat()
    if status.st_uid != owner:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return stat.S_ISREG(status.st_mode)
    try:
        check_holds_only_dataset(kept)
    except OutputError:
        return False
    return True


def _remove(kept: Path, owner: int) -> None:
    """Remove a kept report and, before it, its record: a report that stays is removed next time."""
    record = local_record_file(kept).path
    with suppress(FileNotFoundError):
        status = record.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_uid == owner:
            record.unlink()
    if not kept.is_dir():
        kept.unlink()
        return
    folder = open_folder(resolve_path(kept.parent))
    try:
        remove_dataset(kept.name, folder)
    finally:
        os.close(folder)
