"""Matches the rows of two reports by path or digest, in a temporary database on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from batch.errors import OutputError, ReportError
from batch.reading.moves import find_moves
from batch.reading.saved import SavedReport, SavedRow
from batch.reports.readers import REMEDY

# KiB of database pages in memory; SQLite writes more to a temporary file.
CACHE_KIB = 16_384
# The fields of a row that are kept.
_FIELDS = ("path", "status", "label", "confidence", "face", "digest")
_SIDES = ("old", "new")
_VALUES = ", ".join(f"{side}.{field}" for side in _SIDES for field in _FIELDS)
SELECT_CHANGED = (
    f"SELECT {_VALUES} FROM new LEFT JOIN moves ON moves.new = new.number"
    # The pair of a moved row, else the row of the same path.
    " LEFT JOIN old ON old.number = ifnull(moves.old, (SELECT same.number FROM old AS same"
    " WHERE same.path = new.path AND same.matched_face = new.matched_face))"
    " WHERE old.number IS NULL OR moves.old IS NOT NULL OR old.status <> new.status"
    " OR old.label IS NOT new.label OR old.digest <> new.digest ORDER BY new.number"
)
SELECT_GONE = (
    f"SELECT {_VALUES} FROM old LEFT JOIN new USING (path, matched_face)"
    " WHERE new.path IS NULL AND NOT EXISTS (SELECT 1 FROM moves WHERE moves.old = old.number)"
    " ORDER BY old.number"
)


class Pair(NamedTuple):
    """The rows of the same photo or face in two reports; None if a report has no such row."""

    old: SavedRow | None
    new: SavedRow | None

    @property
    def is_moved(self) -> bool:
        """Whether the photo has another path in the new report."""
        return bool(self.old and self.new and self.old.path != self.new.path)

    @property
    def is_relabelled(self) -> bool:
        """Whether both reports have the row, with different statuses or labels."""
        return bool(self.old and self.new and self.old[1:3] != self.new[1:3])

    @property
    def same_bytes(self) -> bool | None:
        """Whether the file is the same; None if that is not known, or a report lacks the row."""
        if not (self.old and self.new and self.old.digest and self.new.digest):
            return None
        return self.old.digest == self.new.digest


@contextmanager
def open_pairs() -> Iterator[Pairs]:
    """Open an empty set of pairs, in a temporary file that is removed at the end.

    Raises:
        OutputError: the temporary file can't be written.
    """
    # The empty name is a temporary database, which SQLite writes to disk when the cache is full.
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("BEGIN")
        yield Pairs(database)
    except sqlite3.DatabaseError as error:
        raise OutputError(
            f"the temporary file for the comparison can't be written ({error})",
            "free some space in the folder for temporary files, or name another in TMPDIR",
        ) from error
    finally:
        database.close()


class Pairs:
    """The rows of an old and a new report, matched by path and face.

    Photos that only one of them has are matched by digest, as ``find_moves`` describes. A row
    without a face is matched as face 1 (``matched_face``), so that a photo that failed and then has
    a face is one pair. Rows that were kept for missing photos are ignored.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._per_face = False

    def load(self, side: str, report: SavedReport) -> int:
        """Load all rows of a report as the ``old`` or the ``new`` side.

        Returns:
            The number of rows.

        Raises:
            ReportError: a row is damaged, or a photo or face is a duplicate.
        """
        self._per_face |= report.per_face
        rows = (_to_values(row) for row in report.rows() if not row.missing)
        self._database.execute(
            f"CREATE TABLE {side} (number INTEGER PRIMARY KEY, path TEXT, status TEXT, label TEXT,"
            " confidence REAL, face INTEGER, digest BLOB, matched_face INTEGER)"
        )
        names = f"{', '.join(_FIELDS)}, matched_face"
        self._database.executemany(
            f"INSERT INTO {side} ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows
        )
        try:
            self._database.execute(f"CREATE UNIQUE INDEX {side}_key ON {side} (path, matched_face)")
        except sqlite3.IntegrityError:
            raise self._duplicate_error(side, report) from None
        return int(self._database.execute(f"SELECT count(*) FROM {side}").fetchone()[0])

    def find_changed(self) -> Iterator[Pair]:
        """Yield the pairs with different statuses, labels, paths or bytes, and unmatched rows.

        They are in the new report's order; rows of the old report alone follow, in its order.
        """
        find_moves(self._database, self._per_face)
        for query in (SELECT_CHANGED, SELECT_GONE):
            for values in self._database.execute(query):
                yield Pair(_to_row(values[: len(_FIELDS)]), _to_row(values[len(_FIELDS) :]))

    def _duplicate_error(self, side: str, report: SavedReport) -> ReportError:
        path, face = self._database.execute(
            f"SELECT path, face FROM {side} GROUP BY path, matched_face HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        which = path if face is None else f"face {face} of {path}"
        return ReportError(f"{report.display_name} has {which} twice", REMEDY)


def _to_values(row: SavedRow) -> tuple[str | float | bytes | None, ...]:
    face = row.face or 1
    return row.path, row.status, row.label, row.confidence, row.face, row.digest, face


def _to_row(values: tuple[Any, ...]) -> SavedRow | None:
    path, status, label, confidence, face, digest = values
    return path and SavedRow(path, status, label, confidence, face, digest=digest)
