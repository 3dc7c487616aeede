"""What the record of a run says, in words for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batch.limits import duration_text
from batch.page.gather import BINS, STATUS_TEXTS, PageRow, Totals
from batch.page.history import Changes, Edition
from batch.page.thumbnails import PagePicture
from batch.path_text import printable_text
from batch.reading.diff import CHANGE_MEANINGS, Change
from batch.reading.saved import SavedRow
from batch.recording.drift import Drift
from batch.recording.run_record import RunRecord, local_record_file, read_record
from batch.records import Abstain, Source, Status
from batch.reports.columns import PIXEL_DECIMALS, PROBABILITY_DECIMALS

Fact = tuple[str, str]


def describe_run(report: Path) -> tuple[Sequence[Fact], Sequence[str]]:
    """Tell of a report's last run in pairs of a name and a value, and what to beware of.

    Both are empty without a record, or where it is damaged: see ``read_record``.
    """
    record = read_record(local_record_file(report))
    if record is None:
        return (), ()
    try:
        return [(name, value) for name, value in _list_facts(record) if value], _list_warnings(
            record
        )
    except (TypeError, ValueError, AttributeError):  # values that no run writes
        return (), ()


def time_text(moment: datetime) -> str:
    """Write a time for people, in UTC and to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _list_warnings(record: RunRecord) -> list[str]:
    warnings = list(record.drift.warnings) if record.drift else []
    if not record.published:
        ended = f"The last run, of {time_text(record.started)}, published no report"
        warnings.insert(0, f"{ended} ({record.outcome}): this is an earlier one's.")
    if record.error:
        warnings.append(record.error)
    return warnings


def _list_facts(record: RunRecord) -> Iterator[Fact]:
    counts = record.counts
    yield "Run", f"{time_text(record.started)}, {record.outcome.value.replace('_', ' ')}"
    yield "Took", duration_text(max(1, round(record.seconds.wall)))
    yield "Photos of", ", ".join(map(printable_text, record.inputs))
    yield "Found", f"{counts.found:,} files, {counts.left_out:,} skipped"
    known = f", {counts.reused:,} from earlier runs or photos of the same bytes"
    yield "Labelled", f"{counts.labelled_now:,} now{known if counts.reused else ''}"
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
    far = (("earlier runs", drift.from_last_run), ("the training data", drift.from_model))
    shares = [f"{share:.1%} from {what}" for what, share in far if share is not None]
    return ", ".join(shares)


# == All that the page's script is told, as one JSON object: columns, not rows, to keep it small.


@dataclass(frozen=True)
class Content:
    """What a page shows.

    ``digest`` is the report's SHA-256, in hexadecimal; ``reasons`` counts failures; ``pictures``
    has those of rows, by their numbers.
    """

    title: str
    digest: str
    per_face: bool
    totals: Totals
    reasons: Mapping[str, int]
    entries: Sequence[PageRow]
    editions: Sequence[Edition] = ()
    changes: Changes | None = None
    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    pictures: Mapping[int, PagePicture] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give it as the script reads it; pictures are apart, as ``picture_files`` has them."""
        labels = self.totals.labels
        return {
            "title": self.title,
            "digest": self.digest,
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
            "changed": _changed_rows_json(self.changes, self.entries),
            "rows": _rows_json(self.entries, labels),
            "pictures": [
                [index, *(round(side, 1) for side in picture.view), picture.note]
                for index, picture in self._list_pictures()
            ],
        }

    def picture_files(self) -> list[bytes]:
        """Give the pictures' files in the order of ``pictures``, empty where there is none."""
        return [picture.data for _, picture in self._list_pictures()]

    def _list_pictures(self) -> Iterable[tuple[int, PagePicture]]:
        for index, entry in enumerate(self.entries):
            if entry.number in self.pictures:
                yield index, self.pictures[entry.number]


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
    }


def _changed_rows_json(changes: Changes | None, entries: Sequence[PageRow]) -> list[list[Any]]:
    """Give the rows that changed, by their index: the change, and what was said before."""
    if changes is None:
        return []
    kept = [
        (i, *changes.earlier[e.number])
        for i, e in enumerate(entries)
        if e.number in changes.earlier
    ]
    return [
        [index, change, _answer_text(old) if old and change != Change.NEW else ""]
        for index, change, old in kept
    ]


def _answer_text(row: SavedRow) -> str:
    return row.label or STATUS_TEXTS[Status(row.status)]


def _rows_json(entries: Sequence[PageRow], labels: Sequence[str]) -> dict[str, Any]:
    """Lay the rows out in columns; -1 and empty stand for what a row does not have."""
    numbers = {label: number for number, label in enumerate(labels)}
    folders: dict[str, int] = {}
    split = [entry.row.path.rpartition("/") for entry in entries]
    return {
        "folder": [
            folders.setdefault(f"{folder}{mark}", len(folders)) for folder, mark, _ in split
        ],
        "folders": list(folders),
        "name": [name for _, _, name in split],
        "status": [list(Status).index(Status(entry.row.status)) for entry in entries],
        "label": [-1 if e.row.label is None else numbers[e.row.label] for e in entries],
        "confidence": [
            -1 if e.row.confidence is None else round(e.row.confidence * 10**PROBABILITY_DECIMALS)
            for e in entries
        ],
        "source": [
            -1 if e.source is None else list(Source).index(Source(e.source)) for e in entries
        ],
        "face": [e.row.face or 0 for e in entries],
        "box": [
            [] if e.box is None else [round(side * 10**PIXEL_DECIMALS) for side in e.box]
            for e in entries
        ],
        "missing": [i for i, e in enumerate(entries) if e.row.missing],
        "error": [[i, e.error] for i, e in enumerate(entries) if e.error],
    }
