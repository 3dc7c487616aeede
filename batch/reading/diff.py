"""Two reports' rows brought together by path, on disk and not in memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, NamedTuple

from batch.errors import OutputError, ReportError, UsageError
from batch.files.lock import hold_lock
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import guard_cell, path_text
from batch.reading.readers import REMEDY
from batch.reading.saved import SavedReport, SavedRow, open_saved_report
from batch.records import Status
from batch.reports.columns import PROBABILITY_DECIMALS
from batch.reports.dataset_place import check_outside_datasets
from batch.reports.formats import Column, ColumnKind, Record, Value, open_writer
from batch.reports.output import check_not_input, describe_output, publish_output
from batch.reports.report import check_output, report_format

# KiB of pages that SQLite keeps in memory; what is more goes to a temporary file.
CACHE_KIB = 16_384
# The fields of a row that are kept, in the order in which a `SavedRow` takes them.
_FIELDS = ("path", "status", "label", "confidence", "face")
_SIDES = ("old", "new")


class Pair(NamedTuple):
    """What two reports say of the same photo or face; None where one says nothing."""

    old: SavedRow | None
    new: SavedRow | None


class Pairs:
    """The rows of an old and a new report, each with the other report's row of the same photo.

    Faces are matched by their number, and a photo without faces counts as its first one, so
    that a photo which failed and then has a face is one pair. Rows that were kept for photos
    that are gone count as not there. Raises ``OutputError`` where the temporary file can't
    be written.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def load(self, side: str, report: SavedReport) -> int:
        """Take all rows of a report as the ``old`` or the ``new`` side, and count them.

        Raises:
            ReportError: it has a damaged row, or the same photo or face twice.
        """
        rows = (_to_values(row) for row in report.rows() if not row.missing)
        self._database.execute(
            f"CREATE TABLE {side} (number INTEGER PRIMARY KEY, path TEXT, status TEXT, label TEXT,"
            " confidence REAL, face INTEGER, mate INTEGER)"
        )
        names = f"{', '.join(_FIELDS)}, mate"
        self._database.executemany(f"INSERT INTO {side} ({names}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        try:
            self._database.execute(f"CREATE UNIQUE INDEX {side}_key ON {side} (path, mate)")
        except sqlite3.IntegrityError:
            raise self._duplicate_error(side, report) from None
        return self._count(f"SELECT count(*) FROM {side}")

    def find_changed(self) -> Iterator[Pair]:
        """Give the pairs whose status or label differ.

        They come in the new report's order, and at last what is gone, in the old one's.
        """
        yield from self._pairs(
            "FROM new LEFT JOIN old USING (path, mate) WHERE old.path IS NULL"
            " OR old.status <> new.status OR old.label IS NOT new.label ORDER BY new.number"
        )
        yield from self._pairs(
            "FROM old LEFT JOIN new USING (path, mate) WHERE new.path IS NULL ORDER BY old.number"
        )

    def _pairs(self, where: str) -> Iterator[Pair]:
        names = ", ".join(f"{side}.{field}" for side in _SIDES for field in _FIELDS)
        for values in self._database.execute(f"SELECT {names} {where}"):
            sides = values[: len(_FIELDS)], values[len(_FIELDS) :]
            yield Pair(*(None if side[0] is None else SavedRow(*side) for side in sides))

    def _duplicate_error(self, side: str, report: SavedReport) -> ReportError:
        path, face = self._database.execute(
            f"SELECT path, face FROM {side} GROUP BY path, mate HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        which = path if face is None else f"face {face} of {path}"
        return ReportError(f"{report.display_name} has {which} twice", REMEDY)

    def _count(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])


@contextmanager
def open_pairs() -> Iterator[Pairs]:
    """Open an empty set of pairs, in a temporary file that goes away with it.

    Raises:
        OutputError: the temporary file can't be written.
    """
    # The empty name stands for a file of SQLite's own, which is only made where memory ends.
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("BEGIN")
        yield Pairs(database)
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        raise OutputError(
            f"the temporary file for the comparison can't be written ({error})",
            "free some space in the folder for temporary files, or name another in TMPDIR",
        ) from error
    finally:
        database.close()


def _to_values(row: SavedRow) -> tuple[str, str, str | None, float | None, int | None, int]:
    return row.path, row.status, row.label, row.confidence, row.face, row.face or 1


# == What changed between two reports: photos that are new, gone, relabelled, failed or healed.

# Kinds of relabelling that the summary names; the list has them all.
MAX_NAMED_CHANGES = 5
_MAX_SHOWN_CHARS = 300  # characters of labels in a message


class Change(StrEnum):
    """What became of a photo, or of a face, between two reports."""

    NEW = "new"
    GONE = "gone"
    RELABELLED = "relabelled"
    FAILED = "failed"
    HEALED = "healed"


CHANGE_MEANINGS = {
    Change.NEW: "in the new report alone",
    Change.GONE: "in the old report alone, or kept as missing in the new one",
    Change.RELABELLED: "another label or status, and failed in neither",
    Change.FAILED: "failed, and did not before",
    Change.HEALED: "did not fail, and did before",
}


@dataclass(frozen=True)
class Comparison:
    """How two reports differ, in numbers.

    ``old`` and ``new`` count the rows that were compared, ``changes`` has each change,
    ``relabelled`` counts the relabelled rows by what they said in the old and in the new
    report.
    """

    old: int
    new: int
    per_face: bool
    changes: Mapping[Change, int]
    relabelled: Mapping[tuple[str, str], int]

    @property
    def is_different(self) -> bool:
        """Whether anything changed."""
        return any(self.changes.values())

    @property
    def unchanged(self) -> int:
        """Rows of the new report that say what the old one's said."""
        return self.new - sum(self.changes.values()) + self.changes[Change.GONE]

    def describe(self, old: str, new: str) -> Iterator[str]:
        """Say it to people; ``old`` and ``new`` are the reports."""
        noun = "faces and photos without one" if self.per_face else "photos"
        before, after = path_text(parse_location(old)), path_text(parse_location(new))
        yield f"{before}: {self.old} {noun}; {after}: {self.new}"
        counts = (f"{count} {change}" for change, count in self.changes.items())
        yield f"{', '.join(counts)}; {self.unchanged} unchanged"
        order = sorted(self.relabelled.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{was} -> {now}: {n}" for (was, now), n in order[:MAX_NAMED_CHANGES]]
        others = sum(count for _, count in order[MAX_NAMED_CHANGES:])
        if shown:
            yield f"relabelled {', '.join([*shown, *([f'others: {others}'] if others else [])])}"


def diff_columns(per_face: bool) -> tuple[Column, ...]:
    """Name the columns of the list of changes; that of faces has one more."""
    face = (Column("face", ColumnKind.INT32),) if per_face else ()
    sides = (
        (
            Column(f"{side}_status"),
            Column(f"{side}_label"),
            Column(f"{side}_confidence", ColumnKind.FLOAT, PROBABILITY_DECIMALS),
        )
        for side in ("old", "new")
    )
    return (
        Column("change"),
        Column("path"),
        *face,
        *(column for three in sides for column in three),
    )


def diff(old: str, new: str, output: str, stdout: BinaryIO) -> Comparison:
    """Compare two reports and write the list of what changed to ``output``.

    The list is in the new report's order, and what is gone comes last, in the old one's. Its
    format is that of the output's suffix; ``-``, which is ``stdout``, has CSV.

    Raises:
        ReportError: one of the two is missing, no report, or damaged.
        UsageError: they can't be compared, or the output is one of them.
        LockedError: another process writes the list.
        OutputError: the list can't be written.
    """
    report_format(output)  # a dataset is for reports alone
    check_output(output)
    check_not_input(output, "one of the two to compare", old, new)
    check_outside_datasets(output, parse_location(old), parse_location(new))
    with (
        hold_lock(output),
        open_saved_report(old) as before,
        open_saved_report(new) as after,
        open_pairs() as pairs,
    ):
        check_comparable(before, after)
        counts = pairs.load("old", before), pairs.load("new", after)
        per_face = before.per_face or after.per_face
        changes: Counter[Change] = Counter()
        relabelled: Counter[tuple[str, str]] = Counter()
        with _open_list(output, per_face, stdout) as write:
            for pair in pairs.find_changed():
                change = classify_change(pair)
                changes[change] += 1
                if change is Change.RELABELLED and pair.old and pair.new:
                    relabelled[_outcome_text(pair.old), _outcome_text(pair.new)] += 1
                write(_to_record(change, pair, per_face))
    every = {change: changes[change] for change in Change}
    return Comparison(*counts, per_face, every, dict(relabelled))


def classify_change(pair: Pair) -> Change:
    """Name what became of a photo whose status or label is not what it was."""
    if pair.old is None or pair.new is None:
        return Change.NEW if pair.old is None else Change.GONE
    if Status.FAILED in (pair.old.status, pair.new.status):
        return Change.FAILED if pair.new.status == Status.FAILED else Change.HEALED
    return Change.RELABELLED


@contextmanager
def _open_list(output: str, per_face: bool, stdout: BinaryIO) -> Iterator[Callable[[Record], None]]:
    """Give what writes a record, and publish the list when the block is through."""
    with publish_output(output, stdout) as stream:
        with translate_write_errors(describe_output(output)):
            writer = open_writer(report_format(output), stream, diff_columns(per_face))

        def write(record: Record) -> None:
            with translate_write_errors(describe_output(output)):
                writer.write(record)

        yield write
        with translate_write_errors(describe_output(output)):
            writer.finish()


def check_comparable(old: SavedReport, new: SavedReport) -> None:
    """Refuse what has no answer: labels that are not the same mean other things.

    Raises:
        UsageError: the reports can't be compared.
    """
    if old.labels is None or new.labels is None:
        return  # no rows, so everything is new or gone
    if old.per_face != new.per_face:
        by_face, other = (old, new) if old.per_face else (new, old)
        raise UsageError(
            f"{by_face.display_name} has a row a face, {other.display_name} a row a photo",
            "compare two reports that were both made with --per-face, or both without",
        )
    if set(old.labels) != set(new.labels):
        raise UsageError(
            f"{old.display_name} has the labels {', '.join(old.labels)[:_MAX_SHOWN_CHARS]}, "
            f"{new.display_name} has {', '.join(new.labels)[:_MAX_SHOWN_CHARS]}",
            "compare reports of models with the same labels",
        )


def _outcome_text(row: SavedRow) -> str:
    if row.label is None:
        return row.status
    return row.label if row.status == Status.OK else f"{row.label} ({row.status})"


def _to_record(change: Change, pair: Pair, per_face: bool) -> dict[str, Value]:
    row = pair.new or pair.old
    assert row is not None
    # The reports may be anybody's, and the list is opened in a spreadsheet as they are.
    record: dict[str, Value] = {"change": change.value, "path": guard_cell(row.path, "./")}
    if per_face:
        record["face"] = row.face or (pair.old.face if pair.old else None)
    for side, side_row in zip(("old", "new"), pair, strict=True):
        record[f"{side}_status"] = side_row.status if side_row else None
        record[f"{side}_label"] = (
            guard_cell(side_row.label) if side_row and side_row.label else None
        )
        record[f"{side}_confidence"] = side_row.confidence if side_row else None
    return record
