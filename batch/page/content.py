"""All that the page's script is told, as one JSON object: columns, not rows, to keep it small."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch.page.entries import Entry
from batch.page.facts import Fact, time_text
from batch.page.history import Changes, Edition
from batch.page.pictures import Picture
from batch.page.totals import BINS, STATUS_TEXTS, Totals
from batch.reading.diff import CHANGE_MEANINGS, Change
from batch.reading.saved import SavedRow
from batch.records import Abstain, Source, Status
from batch.reports.columns import PIXEL_DECIMALS, PROBABILITY_DECIMALS


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
    entries: Sequence[Entry]
    editions: Sequence[Edition] = ()
    changes: Changes | None = None
    facts: Sequence[Fact] = ()
    warnings: Sequence[str] = ()
    pictures: Mapping[int, Picture] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
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
            "totals": _totals(self.totals),
            "reasons": sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])),
            "editions": [_edition(edition, self.totals) for edition in self.editions],
            "changes": _changes(self.changes),
            "changed": _changed(self.changes, self.entries),
            "rows": _rows(self.entries, labels),
            "pictures": [
                [index, *(round(side, 1) for side in picture.view), picture.note]
                for index, picture in self._pictures()
            ],
        }

    def picture_files(self) -> list[bytes]:
        """Give the pictures' files in the order of ``pictures``, empty where there is none."""
        return [picture.data for _, picture in self._pictures()]

    def _pictures(self) -> Iterable[tuple[int, Picture]]:
        for index, entry in enumerate(self.entries):
            if entry.number in self.pictures:
                yield index, self.pictures[entry.number]


def _totals(totals: Totals) -> dict[str, Any]:
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


def _edition(edition: Edition, now: Totals) -> dict[str, Any]:
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


def _changes(changes: Changes | None) -> dict[str, Any] | None:
    if changes is None:
        return None
    return {
        "since": f"{changes.since.name}, {time_text(changes.since.when)}",
        "counts": [[c, changes.counts[c], meaning] for c, meaning in CHANGE_MEANINGS.items()],
        "gone": changes.gone,
    }


def _changed(changes: Changes | None, entries: Sequence[Entry]) -> list[list[Any]]:
    """Give the rows that changed, by their index: the change, and what was said before."""
    if changes is None:
        return []
    kept = [(i, *changes.was[e.number]) for i, e in enumerate(entries) if e.number in changes.was]
    return [
        [index, change, _words(old) if old and change != Change.NEW else ""]
        for index, change, old in kept
    ]


def _words(row: SavedRow) -> str:
    return row.label or STATUS_TEXTS[Status(row.status)]


def _rows(entries: Sequence[Entry], labels: Sequence[str]) -> dict[str, Any]:
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
