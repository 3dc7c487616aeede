"""Earlier reports of the same photos: their totals, and the changes since the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

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
from batch.recording.run_record import local_record_file, read_record

# Most gone photos that are listed by path; further ones are only counted.
MAX_NAMED_GONE = 1_000


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


def read_editions(reports: Sequence[Path], now: SavedReport) -> dict[Path, Edition]:
    """Read earlier reports, sorted by time of publication.

    Raises:
        ReportError: a file is missing, damaged, or not a report.
        UsageError: a report can't be compared with ``now``.
    """
    editions = {}
    for report in reports:
        with open_saved_report(report) as saved:
            check_comparable(saved, now)
            totals = Totals(label_cells(now), saved.abstain)
            for row in saved.rows():
                if not row.missing:
                    totals.add(row)
        editions[report] = Edition(path_text(Path(report.name)), find_publish_time(report), totals)
    return dict(sorted(editions.items(), key=lambda item: item[1].when))


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
