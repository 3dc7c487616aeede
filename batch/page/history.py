"""Earlier reports of the same photos: what they said, and what changed since the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from batch.page.gather import PageRow, Totals, label_cells
from batch.path_text import path_text
from batch.reading.diff import Change, check_comparable, classify_change
from batch.reading.pairs import open_pairs
from batch.reading.saved import SavedReport, SavedRow, open_saved_report
from batch.recording.run_record import local_record_file, read_record

# Photos that are gone are named up to here, and counted beyond.
MAX_NAMED_GONE = 1_000


@dataclass(frozen=True)
class Edition:
    """A report as it was at some time: its name, when it was published, and its sums."""

    name: str
    when: datetime
    totals: Totals


@dataclass
class Changes:
    """What changed from one report to the next.

    ``counts`` has each change, ``earlier`` what the earlier one said, by the number of the later one's
    row, ``gone`` the first paths of those that are in the earlier one alone.
    """

    since: Edition
    counts: Counter[Change] = field(default_factory=Counter)
    earlier: dict[int, tuple[Change, SavedRow | None]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)


def read_editions(reports: Sequence[Path], now: SavedReport) -> dict[Path, Edition]:
    """Read earlier reports, and put them in the order of their times.

    Raises:
        ReportError: one is missing, no report, or damaged.
        UsageError: one can't be compared with ``now``.
    """
    read = {}
    for report in reports:
        with open_saved_report(report) as saved:
            check_comparable(saved, now)
            totals = Totals(label_cells(now), saved.abstain)
            for row in saved.rows():
                if not row.missing:
                    totals.add(row)
        read[report] = Edition(path_text(Path(report.name)), find_publish_time(report), totals)
    return dict(sorted(read.items(), key=lambda item: item[1].when))


def find_publish_time(report: Path) -> datetime:
    """Tell when a report was published: as its run's record says, else when its file changed."""
    record = read_record(local_record_file(report))
    if record and record.published:
        return record.ended
    return datetime.fromtimestamp(report.stat().st_mtime, UTC)


def find_changes(
    old: Path, since: Edition, new: Path, kept: Mapping[tuple[str, int | None], PageRow]
) -> Changes:
    """Find what changed from an ``old`` report to a ``new`` one.

    ``kept`` has the rows to tell it of, by path and face.

    Raises:
        ReportError: one of the two is damaged, or has a photo twice.
        OutputError: the temporary file for the comparison can't be written.
    """
    changes = Changes(since)
    with open_saved_report(old) as before, open_saved_report(new) as after, open_pairs() as pairs:
        pairs.load("old", before)
        pairs.load("new", after)
        for pair in pairs.find_changed():
            change = classify_change(pair)
            changes.counts[change] += 1
            if pair.new is None:
                if pair.old is not None and len(changes.gone) < MAX_NAMED_GONE:
                    changes.gone.append(pair.old.path)
                continue
            entry = kept.get((pair.new.path, pair.new.face))
            if entry is not None:
                changes.earlier[entry.number] = change, pair.old
    return changes
