"""Finds moved and renamed photos: pairs rows that only one of two reports has, by SHA-256."""

from __future__ import annotations

import sqlite3

from batch.location import split_member
from batch.records import Status

# What decides between several photos with the same bytes: columns that must be equal, from the
# closest to the loosest. Photos that are equal in them are paired in the order of their reports.
COPY_KEYS = (("name", "parent"), ("name",), ("folder",), ())

# The rows of a photo that the other report does not have. Faces of a photo have its digest, so its
# first row stands for it. A photo that failed is not paired: it has no answer to compare.
_ONLY_IN = (
    "SELECT digest, number FROM {side} WHERE digest IS NOT NULL AND matched_face = 1"
    f" AND status <> '{Status.FAILED}'"
    " AND NOT EXISTS (SELECT 1 FROM {other} WHERE {other}.path = {side}.path)"
)
FIND_GONE = f"INSERT INTO only_old {_ONLY_IN.format(side='old', other='new')} ORDER BY digest"
FIND_ADDED = (
    f"INSERT INTO only_new {_ONLY_IN.format(side='new', other='old')}"
    " AND EXISTS (SELECT 1 FROM only_old WHERE only_old.digest = new.digest) ORDER BY digest"
)
PAIR_SINGLES = (
    "INSERT INTO moves SELECT min(number),"
    " (SELECT min(number) FROM only_old WHERE only_old.digest = only_new.digest)"
    " FROM only_new GROUP BY digest HAVING count(*) = 1"
    " AND (SELECT count(*) FROM only_old WHERE only_old.digest = only_new.digest) = 1"
)
_INTO_COPIES = (
    "INSERT INTO {side}_copies SELECT number, only_{side}.digest, name_of(path), parent_of(path),"
    " folder_of(path) FROM only_{side} CROSS JOIN {side} USING (number)"
    " WHERE NOT EXISTS (SELECT 1 FROM moves WHERE moves.{side} = only_{side}.number)"
)
FIND_OLD_COPIES = (
    f"{_INTO_COPIES.format(side='old')}"
    " AND EXISTS (SELECT 1 FROM only_new WHERE only_new.digest = only_old.digest)"
)
FIND_NEW_COPIES = _INTO_COPIES.format(side="new")
PAIR_OTHER_FACES = (
    "INSERT INTO moves SELECT new.number, old.number FROM moves"
    " CROSS JOIN old AS old_first ON old_first.number = moves.old"
    " CROSS JOIN new AS new_first ON new_first.number = moves.new"
    " CROSS JOIN new ON new.path = new_first.path AND new.matched_face > 1"
    " CROSS JOIN old ON old.path = old_first.path AND old.matched_face = new.matched_face"
)


def find_moves(database: sqlite3.Connection, per_face: bool) -> None:
    """Create and fill the table ``moves``: pairs of numbers of a row of ``new`` and of ``old``.

    A photo that is only in the old report and one only in the new report with the same bytes are a
    pair. Of several photos with the same bytes, those with the same file name are paired first,
    then those in the same folder. The cost is that of sorting the unmatched photos.

    Args:
        database: has the tables ``old`` and ``new`` of ``Pairs``.
        per_face: whether photos may have several rows; these are paired by face.
    """
    database.execute("CREATE TABLE moves (new INTEGER PRIMARY KEY, old INTEGER NOT NULL UNIQUE)")
    for side in ("old", "new"):
        database.execute(
            f"CREATE TABLE only_{side} (digest BLOB, number INTEGER, PRIMARY KEY (digest, number))"
            " WITHOUT ROWID"
        )
    if database.execute(FIND_GONE).rowcount == 0:
        return
    database.execute(FIND_ADDED)
    database.execute(PAIR_SINGLES)
    _pair_copies(database)
    if per_face:
        database.execute(PAIR_OTHER_FACES)
    for table in ("only_old", "only_new", "old_copies", "new_copies"):
        database.execute(f"DROP TABLE {table}")  # later queries reuse the space


def split_path(path: str) -> tuple[str, str]:
    """Split a path as a report has it into folder and name; a folder may be inside an archive."""
    member = split_member(path) if "://" in path else None
    archive, inside = member or ("", path.removeprefix("./"))  # in front of a formula
    folder, _, name = inside.rpartition("/")
    return f"{archive}/{folder}" if member else folder, name


def _pair_copies(database: sqlite3.Connection) -> None:
    """Pair photos whose bytes several unmatched photos of a report have."""
    parts = {
        "name_of": lambda path: split_path(path)[1],
        "folder_of": lambda path: split_path(path)[0],
        "parent_of": lambda path: split_path(path)[0].rpartition("/")[2],
    }
    for name, function in parts.items():
        database.create_function(name, 1, function, deterministic=True)
    for side in ("old", "new"):
        database.execute(
            f"CREATE TABLE {side}_copies (number INTEGER PRIMARY KEY, digest BLOB, name TEXT,"
            " parent TEXT, folder TEXT)"
        )
    if database.execute(FIND_OLD_COPIES).rowcount == 0:
        return
    database.execute(FIND_NEW_COPIES)
    for keys in COPY_KEYS:
        database.execute(pair_copies_by(keys))
        for side in ("old", "new"):
            database.execute(
                f"DELETE FROM {side}_copies"
                f" WHERE EXISTS (SELECT 1 FROM moves WHERE moves.{side} = {side}_copies.number)"
            )


def pair_copies_by(keys: tuple[str, ...]) -> str:
    """Make the statement that pairs copies that are equal in some columns, in their order."""
    same = ", ".join(("digest", *keys))
    old, new = (
        f"(SELECT number, {same}, row_number() OVER (PARTITION BY {same} ORDER BY number) AS turn"
        f" FROM {side}_copies) AS {side}"
        for side in ("old", "new")
    )
    return (
        f"INSERT INTO moves SELECT new.number, old.number FROM {new} JOIN {old}"
        f" USING ({same}, turn)"
    )
