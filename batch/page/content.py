"""The data of a page: facts of the run in words, and one JSON object for the page's script.

Rows are stored as columns to keep the object small. ``data.js`` reads its keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch.limits import format_duration
from batch.log import escape_line
from batch.page.compact import pack_columns, pack_confidence
from batch.page.gather import BINS, STATUS_TEXTS, PageRow, Totals
from batch.page.history import Changes, Edition
from batch.page.recorded_answers import RecordedAnswers
from batch.page.thumbnails import PagePicture
from batch.path_text import path_text, printable_text
from batch.reading.diff import CHANGE_MEANINGS
from batch.reading.pairs import Pair
from batch.reading.saved import SavedRow
from batch.recording.drift import Drift
from batch.recording.run_record import Outcome, RunRecord, local_record_file, read_record
from batch.records import Abstain, Source, Status

Fact = tuple[str, str]


def describe_run(report: Path) -> tuple[Sequence[Fact], Sequence[str]]:
    """Describe the last run of a report by facts, pairs of name and value, and by warnings.

    Without a run record both are empty; if it can't be used, a warning says so.
    """
    file = local_record_file(report)
    record = read_record(file)
    if record is not None:
        # Values that no run writes, such as an infinite duration, are of the types of a record.
        with suppress(ValueError, OverflowError):
            facts = [(name, escape_line(value)) for name, value in _list_facts(record) if value]
            return facts, [*map(escape_line, _list_warnings(record))]
    elif not os.path.lexists(file.path):
        return (), ()
    name = path_text(Path(file.path.name))
    return (), [
        f"The run record {name} can't be read, is damaged, or is of another release: this page "
        "lacks the facts and the warnings of the last run."
    ]


def time_text(moment: datetime) -> str:
    """Format a time in UTC, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _list_warnings(record: RunRecord) -> list[str]:
    warnings = []
    if record.drift and record.outcome is not Outcome.DRIFTED:  # the error has them too
        warnings = [f"{warning}; {Drift.REMEDY}" for warning in record.drift.warnings]
    if not record.published:
        run = f"The last run, started {time_text(record.started)}, published no report"
        warnings.insert(0, f"{run} ({record.outcome}); this page shows an earlier report.")
    if record.error:
        warnings.append(record.error)
    return warnings


def _list_facts(record: RunRecord) -> Iterator[Fact]:
    counts = record.counts
    yield "Run", f"{time_text(record.started)}, {record.outcome.value.replace('_', ' ')}"
    yield "Duration", format_duration(max(1, round(record.seconds.wall)))
    yield "Inputs", ", ".join(map(printable_text, record.inputs))
    yield "Found", f"{counts.found:,} files, {counts.left_out:,} skipped"
    reused = f", {counts.reused:,} reused from earlier runs or identical files"
    yield "Labelled", f"{counts.labelled_now:,} now{reused if counts.reused else ''}"
    for name, count in (("Missing", counts.missing), ("Salvaged", counts.salvaged)):
        yield name, f"{count:,}" if count else ""
    yield "Models", ", ".join(f"{m.name} {m.version} ({m.sha256[:8]})" for m in record.models)
    devices = ", ".join(map(str, record.devices))
    yield "Provider", f"{record.provider or ''}{f', devices {devices}' if devices else ''}"
    versions = ((name, version) for name, version in record.versions.items() if version)
    yield "Software", ", ".join(f"{name} {version}" for name, version in versions)
    host = record.host
    yield "Machine", f"{host.name}, {host.system}, {host.cores} cores"
    yield "Drift", _drift_text(record.drift) if record.drift else ""


def _drift_text(drift: Drift) -> str:
    model = (
        "the training data (for information only: no folder has the shares of the training data)"
    )
    distances = (("earlier runs", drift.from_last_run), (model, drift.from_model))
    return ", ".join(
        f"{distance:.1%} from {name}" for name, distance in distances if distance is not None
    )


@dataclass(frozen=True)
class Content:
    """The data of a page.

    Attributes:
        title: name of the report.
        digest: SHA-256 of the report, in hexadecimal.
        series: identifies the report and its successors of the same path.
        per_face: whether the report has one row per face.
        totals: counts over all rows of the report.
        reasons: failures by reason.
        rows: the rows in the page.
        editions: earlier reports, then this one; empty without earlier reports.
        changes: changes since the last earlier report; None without one.
        facts: facts of the run, pairs of name and value.
        warnings: warnings of the run.
        pictures: pictures by row number.
        sample: indices of the rows of the random sample, in the order in which they are reviewed.
        chosen: indices of the rows that are chosen to learn from, likewise.
        recorded: answers of people that are already recorded.
        links: start of the links to the photos of each folder, in the order of the folders; empty
            texts for folders without links.
        unlinked: further rows without a link, by their index.
    """

    title: str
    digest: str
    series: str
    per_face: bool
    totals: Totals
    reasons: Mapping[str, int]
    rows: Sequence[PageRow]
    editions: Sequence[Edition] = ()
    changes: Changes | None = None
    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    pictures: Mapping[int, PagePicture] = field(default_factory=dict)
    sample: Sequence[int] = ()
    chosen: Sequence[int] = ()
    recorded: RecordedAnswers = field(default_factory=lambda: RecordedAnswers({}))
    links: Sequence[str] = ()
    unlinked: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """Convert to the object that the script reads; ``picture_files`` has the picture data."""
        labels = self.totals.labels
        return {
            "title": self.title,
            "reportDigest": self.digest,
            "series": self.series,
            "perFace": self.per_face,
            "labels": labels,
            "abstain": [*Abstain],
            "statuses": [*Status],
            "statusTexts": STATUS_TEXTS,
            "sources": [*Source],
            "facts": self.facts,
            "warnings": self.warnings,
            "totals": _totals_json(self.totals),
            "reasons": sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])),
            "editions": [_edition_json(edition, self.totals) for edition in self.editions],
            "changes": _changes_json(self.changes),
            "changed": _changed_rows_json(self.changes, self.rows),
            "rows": pack_columns(self.rows, labels),
            "sample": self.sample,
            "chosen": self.chosen,
            "recorded": _recorded_json(self.recorded),
            "forgotten": [
                [answers.mtime_ms, sorted(answers.by_row.items())]
                for answers in self.recorded.forgotten
            ],
            "links": self.links,
            "unlinked": self.unlinked,
            "pictures": [
                [index, *(round(side, 1) for side in picture.view), picture.note]
                for index, picture in self._list_pictures()
            ],
        }

    def picture_files(self) -> list[bytes]:
        """List the picture files in the order of ``pictures``; empty for rows with only a note."""
        return [picture.data for _, picture in self._list_pictures()]

    def _list_pictures(self) -> Iterable[tuple[int, PagePicture]]:
        for index, row in enumerate(self.rows):
            if row.number in self.pictures:
                yield index, self.pictures[row.number]


def _totals_json(totals: Totals) -> dict[str, Any]:
    return {
        "rows": totals.rows,
        "photos": totals.photos,
        "missing": totals.missing,
        "byStatus": {status: totals.by_status[status] for status in Status},
        "byLabel": [[label, totals.sure[label], totals.unsure[label]] for label in totals.labels],
        "byAbstain": [[name, totals.by_status[name]] for name in totals.abstain],
        "byConfidence": [
            [f"{part / BINS:.0%} to {(part + 1) / BINS:.0%}", sum(counts)]
            for part, counts in enumerate(zip(*totals.bins.values(), strict=True))
            if sum(counts)
        ],
        "meanConfidence": totals.mean_confidence,
    }


def _edition_json(edition: Edition, now: Totals) -> dict[str, Any]:
    totals = edition.totals
    shares = [[answer, totals.share(answer)] for answer in (*now.labels, *now.abstain)]
    return {
        "name": edition.name,
        "when": time_text(edition.when),
        "rows": totals.rows,
        "failed": totals.by_status[Status.FAILED],
        "meanConfidence": totals.mean_confidence,
        "shares": shares,
    }


def _changes_json(changes: Changes | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    return {
        "since": f"{changes.since.name}, {time_text(changes.since.when)}",
        "counts": [[c, changes.counts[c], meaning] for c, meaning in CHANGE_MEANINGS.items()],
        "gone": changes.gone,
        "note": changes.note,
    }


def _changed_rows_json(changes: Changes | None, rows: Sequence[PageRow]) -> list[list[Any]]:
    """List changed rows: index, change, and the earlier answer and path if they were others."""
    if changes is None:
        return []
    changed = []
    for index, row in enumerate(rows):
        if row.number in changes.earlier:
            change, old = changes.earlier[row.number]
            pair = Pair(old, row.saved)
            was = _answer_text(old) if old and pair.is_relabelled else ""
            changed.append([index, change, was, old.path if old and pair.is_moved else ""])
    return changed


def _answer_text(row: SavedRow) -> str:
    return row.label or STATUS_TEXTS[Status(row.status)]


def _recorded_json(recorded: RecordedAnswers) -> list[list[Any]]:
    """List recorded answers.

    Each has index, label, what the model said with which confidence, and whether the answer is
    recorded as one of the random sample.
    """
    return [
        [index, answer.label, answer.said, pack_confidence(answer.confidence), answer.is_random]
        for index, answer in sorted(recorded.by_row.items())
    ]
