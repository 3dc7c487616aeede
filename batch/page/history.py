"""Earlier reports of the same photos: their totals, and the changes since the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from batch.errors import ReportError, UsageError
from batch.log import count_text
from batch.page.gather import PageRow, Totals, label_cells
from batch.path_text import path_text
from batch.reading.diff import (
    Change,
    check_comparable,
    classify_change,
    explain_untold_moves,
)
from batch.reading.pairs import open_pairs
from batch.reading.saved import SavedReport, SavedRow, open_saved_report
from batch.recording.retention import find_history_folder, list_earlier
from batch.recording.run_record import local_record_file, read_record
from batch.reports.readers import translate_read_errors

# Most gone photos that are listed by path; further ones are only counted.
MAX_NAMED_GONE = 1_000
# Most kept reports that a page shows; reports given with --previous have no limit.
MAX_KEPT_REPORTS = 30


@dataclass(frozen=True)
class Edition:
    """A report in the history of a page: an earlier one, or the one that the page shows.

    Attributes:
        name: name of its file.
        when: when it was published, with a time zone.
        totals: counts over its rows.
    """

    name: str
    when: datetime
    totals: Totals


@dataclass
class Changes:
    """Changes between two reports.

    Attributes:
        since: the earlier report.
        counts: rows by kind of change.
        earlier: kind of change and earlier row, by row number in the later report.
        gone: paths that only the earlier report has, ``MAX_NAMED_GONE`` at most.
        note: why moves can't be told; empty if they can.
    """

    since: Edition
    counts: Counter[Change] = field(default_factory=Counter)
    earlier: dict[int, tuple[Change, SavedRow | None]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class KeptEditions:
    """The reports of a history folder that a page shows.

    Attributes:
        folder: the history folder.
        found: the number of reports in it, without the one that the page shows.
        editions: those that the page shows, by path, the oldest first.
        skipped: why each of the others of the last ``MAX_KEPT_REPORTS`` is not shown.
    """

    folder: Path
    found: int
    editions: Mapping[Path, Edition]
    skipped: Sequence[str]

    def describe(self) -> str:
        """Describe in one line what is shown; empty without a history."""
        shown, found = len(self.editions), count_text(self.found, "earlier report")
        return f"{shown} of {found} in {path_text(self.folder)} shown" if self.found else ""


def read_kept_editions(report: Path, now: SavedReport) -> KeptEditions:
    """Read the last reports in the history folder of a report.

    Args:
        report: the report that the page shows.
        now: the same report, open; reports that can't be compared with it are skipped.

    Raises:
        ReportError: the history folder can't be read.
    """
    folder = find_history_folder(report)
    with translate_read_errors(f"history {path_text(folder)}"):
        kept = list_earlier(report)
    editions, skipped = {}, []
    for path in kept[-MAX_KEPT_REPORTS:]:
        try:
            with translate_read_errors(f"report {path_text(path)}"):  # a run may have removed it
                editions[path] = _read_edition(path, now)
        except (ReportError, UsageError) as error:
            skipped.append(error.problem)
    return KeptEditions(folder, len(kept), editions, skipped)


def read_editions(reports: Sequence[Path], now: SavedReport) -> dict[Path, Edition]:
    """Read earlier reports, sorted by time of publication.

    Raises:
        ReportError: a file is missing, damaged, or not a report.
        UsageError: a report can't be compared with ``now``.
    """
    editions = {report: _read_edition(report, now) for report in reports}
    return dict(sorted(editions.items(), key=lambda item: item[1].when))


def _read_edition(report: Path, now: SavedReport) -> Edition:
    with open_saved_report(report) as saved:
        check_comparable(saved, now)
        totals = Totals(label_cells(now), saved.abstain)
        for row in saved.rows():
            if not row.missing:
                totals.add(row)
    return Edition(path_text(Path(report.name)), find_publish_time(report), totals)


def find_publish_time(report: Path) -> datetime:
    """Find when a report was published: from its run record, else from its modification time."""
    record = read_record(local_record_file(report))
    if record and record.published:
        return record.ended
    return datetime.fromtimestamp(report.stat().st_mtime, UTC)


def find_changes(
    old: Path, since: Edition, new: Path, kept: Mapping[tuple[str, int | None], PageRow]
) -> Changes:
    """Find the changes from an ``old`` report to a ``new`` one.

    Args:
        old: the earlier report.
        since: the earlier report as an edition.
        new: the later report.
        kept: the rows of the page, by path and face; only changes of these are recorded by row.

    Raises:
        ReportError: a report is damaged, or has a photo twice.
        OutputError: the temporary file for the comparison can't be written.
    """
    changes = Changes(since)
    with open_saved_report(old) as before, open_saved_report(new) as after, open_pairs() as pairs:
        changes.note = explain_untold_moves(
            (since.name, before), (path_text(Path(new.name)), after)
        )
        pairs.load("old", before)
        pairs.load("new", after)
        for pair in pairs.find_changed():
            change = classify_change(pair)
            if change is None:
                continue
            changes.counts[change] += 1
            if pair.new is None:
                if pair.old is not None and len(changes.gone) < MAX_NAMED_GONE:
                    changes.gone.append(pair.old.path)
                continue
            row = kept.get((pair.new.path, pair.new.face))
            if row is not None:
                changes.earlier[row.number] = change, pair.old
    return changes
