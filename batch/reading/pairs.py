"""Matches the rows of two reports by path, in a temporary database on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from batch.errors import OutputError, ReportError
from batch.reading.saved import SavedReport, SavedRow
from batch.reports.readers import REMEDY

# KiB of database pages in memory; SQLite writes more to a temporary file.
CACHE_KIB = 16_384
# The fields of a row that are compared, in the order of `SavedRow`.
_FIELDS = ("path", "status", "label", "confidence", "face")
_SIDES = ("old", "new")


class Pair(NamedTuple):
    """The rows of the same photo or face in two reports; None if a report has no such row."""

    old: SavedRow | None
    new: SavedRow | None


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

    A row without a face is matched as face 1 (``matched_face``), so that a photo that failed and
    then has a face is one pair. Rows that were kept for missing photos are ignored.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def load(self, side: str, report: SavedReport) -> int:
        """Load all rows of a report as the ``old`` or the ``new`` side.

        Returns:
            The number of rows.

        Raises:
            ReportError: a row is damaged, or a photo or face is a duplicate.
        """
        rows = (_to_values(row) for row in report.rows() if not row.missing)
        self._database.execute(
            f"CREATE TABLE {side} (number INTEGER PRIMARY KEY, path TEXT, status TEXT, label TEXT,"
            " confidence REAL, face INTEGER, matched_face INTEGER)"
        )
        names = f"{', '.join(_FIELDS)}, matched_face"
        self._database.executemany(f"INSERT INTO {side} ({names}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        try:
            self._database.execute(f"CREATE UNIQUE INDEX {side}_key ON {side} (path, matched_face)")
        except sqlite3.IntegrityError:
            raise self._duplicate_error(side, report) from None
        return int(self._database.execute(f"SELECT count(*) FROM {side}").fetchone()[0])

    def find_changed(self) -> Iterator[Pair]:
        """Yield the pairs with different statuses or labels, and the rows without a pair.

        They are in the new report's order; rows of the old report alone follow, in its order.
        """
        yield from self._select(
            "FROM new LEFT JOIN old USING (path, matched_face) WHERE old.path IS NULL"
            " OR old.status <> new.status OR old.label IS NOT new.label ORDER BY new.number"
        )
        yield from self._select(
            "FROM old LEFT JOIN new USING (path, matched_face) WHERE new.path IS NULL"
            " ORDER BY old.number"
        )

    def _select(self, where: str) -> Iterator[Pair]:
        names = ", ".join(f"{side}.{field}" for side in _SIDES for field in _FIELDS)
        for values in self._database.execute(f"SELECT {names} {where}"):
            sides = values[: len(_FIELDS)], values[len(_FIELDS) :]
            yield Pair(*(None if side[0] is None else SavedRow(*side) for side in sides))

    def _duplicate_error(self, side: str, report: SavedReport) -> ReportError:
        path, face = self._database.execute(
            f"SELECT path, face FROM {side} GROUP BY path, matched_face HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        which = path if face is None else f"face {face} of {path}"
        return ReportError(f"{report.display_name} has {which} twice", REMEDY)


def _to_values(row: SavedRow) -> tuple[str, str, str | None, float | None, int | None, int]:
    return row.path, row.status, row.label, row.confidence, row.face, row.face or 1
