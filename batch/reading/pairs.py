"""Two reports' rows brought together by path, on disk and not in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from batch.errors import OutputError, ReportError
from batch.reading.readers import REMEDY
from batch.reading.saved import SavedReport, SavedRow

# KiB of pages that SQLite keeps in memory; what is more goes to a temporary file.
CACHE = 16_384
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
        rows = (_stored(row) for row in report.rows() if not row.missing)
        self._database.execute(
            f"CREATE TABLE {side} (number INTEGER PRIMARY KEY, path TEXT, status TEXT, label TEXT,"
            " confidence REAL, face INTEGER, mate INTEGER)"
        )
        names = f"{', '.join(_FIELDS)}, mate"
        self._database.executemany(f"INSERT INTO {side} ({names}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        try:
            self._database.execute(f"CREATE UNIQUE INDEX {side}_key ON {side} (path, mate)")
        except sqlite3.IntegrityError:
            raise self._twice(side, report) from None
        return self._count(f"SELECT count(*) FROM {side}")

    def changed(self) -> Iterator[Pair]:
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

    def _twice(self, side: str, report: SavedReport) -> ReportError:
        path, face = self._database.execute(
            f"SELECT path, face FROM {side} GROUP BY path, mate HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        which = path if face is None else f"face {face} of {path}"
        return ReportError(f"{report.called} has {which} twice", REMEDY)

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
        database.execute(f"PRAGMA cache_size = -{CACHE}")
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


def _stored(row: SavedRow) -> tuple[str, str, str | None, float | None, int | None, int]:
    return row.path, row.status, row.label, row.confidence, row.face, row.face or 1
