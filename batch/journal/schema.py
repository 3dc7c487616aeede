"""The tables of the journal, the statements on them, and the checksums of their rows."""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import TypeAlias

# A value of a column.
SqlValue: TypeAlias = int | str | bytes | None

CHECKSUM_BYTES = 8

APPLICATION_ID = 0x424C4A4E
JOURNAL_VERSION = 4

# `stamp` is the ETag as text if the store has one, as it is more reliable, else the mtime in
# nanoseconds. `ctime_ns` and `inode` are NULL for files that are not in a file system. `checksum`
# covers the other columns: see `compute_checksum`.
_ROW = """
    path BLOB PRIMARY KEY, size INTEGER, stamp, ctime_ns INTEGER, inode INTEGER, digest BLOB,
    basis BLOB NOT NULL, failed INTEGER NOT NULL, row BLOB NOT NULL, checksum BLOB NOT NULL
"""
TABLES = {
    "photos": f"CREATE TABLE photos ({_ROW}) WITHOUT ROWID",
    # Size comes first: only photos of equal size can be copies, and few have equal sizes. Then the
    # basis, and no failed rows, so that a query reads one row even of a photo with many copies.
    "photos_by_content": (
        "CREATE INDEX photos_by_content ON photos (size, basis, digest) "
        "WHERE digest IS NOT NULL AND NOT failed"
    ),
    # Last rows of photos that can't be read now, to reuse once they can.
    "unreadable": f"CREATE TABLE unreadable ({_ROW}) WITHOUT ROWID",
    "unreadable_by_content": (
        "CREATE INDEX unreadable_by_content ON unreadable (size, basis, digest)"
    ),
    "notes": """CREATE TABLE notes (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL
)""",
    # Paths that are not in a published report yet.
    "arrivals": "CREATE TABLE arrivals (path BLOB PRIMARY KEY) WITHOUT ROWID",
    # Accepted failures, by `compute_failure_key`. A damaged one counts as not accepted.
    "accepted": "CREATE TABLE accepted (failure BLOB PRIMARY KEY) WITHOUT ROWID",
}
SCHEMA = f"""
{";".join(TABLES.values())};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {JOURNAL_VERSION};
"""
PHOTO = "path, size, stamp, ctime_ns, inode, digest, basis, failed, row, checksum"
PHOTO_COLUMNS = PHOTO.split(", ")
# Tables of this run, in a temporary file, so that memory does not grow with the number of files.
RUN_TABLES = """
CREATE TEMP TABLE found (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER, stamp,
    ctime_ns INTEGER, inode INTEGER, failure BLOB
);
CREATE TEMP TABLE pending (position INTEGER PRIMARY KEY, cause TEXT NOT NULL);
CREATE TEMP TABLE missing (path BLOB PRIMARY KEY, kept INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TEMP TABLE moved (digest BLOB PRIMARY KEY) WITHOUT ROWID;
"""
# Run after the table is filled: faster than updating the index with each row.
INDEX_FOUND = "CREATE INDEX temp.found_by_path ON found (path)"
ADD_PHOTO = (
    f"INSERT OR REPLACE INTO photos ({PHOTO}) VALUES ({', '.join('?' * len(PHOTO_COLUMNS))})"
)
# SQLite uses the partial index for `digest =`, but not for `digest IS`.
_SAME_BYTES = "size IS :size AND basis = :basis AND digest = :digest"
FIND_KNOWN = f"""
SELECT {PHOTO} FROM photos WHERE {_SAME_BYTES} AND NOT failed
UNION ALL SELECT {PHOTO} FROM unreadable WHERE {_SAME_BYTES} LIMIT 1
"""
KEEP_UNREADABLE = f"""
INSERT OR REPLACE INTO unreadable SELECT {PHOTO} FROM photos
WHERE path = ? AND NOT failed AND digest IS NOT NULL
"""
DROP_UNREADABLE = "DELETE FROM unreadable WHERE path = ?"
# Why a file is pending, NULL if it is not. `IS NOT` treats NULL as a value; `<>` does not, since an
# unknown inode is not a changed one.
CAUSE_EXPRESSION = """CASE
    WHEN photos.path IS NULL THEN 'new'
    WHEN failed THEN 'failed'
    WHEN basis IS NOT :basis THEN 'basis'
    WHEN photos.size IS NOT found.size OR photos.stamp IS NOT found.stamp THEN 'changed'
    WHEN :all THEN 'verify'
    WHEN NOT :ignore_inode
        AND (photos.ctime_ns <> found.ctime_ns OR photos.inode <> found.inode) THEN 'inode'
END"""
INSERT_PENDING = f"""
INSERT INTO pending SELECT position, {CAUSE_EXPRESSION} AS cause
FROM found LEFT JOIN photos USING (path)
WHERE cause IS NOT NULL ORDER BY position
"""
COUNT_CAUSES = "SELECT cause, count(*) FROM pending GROUP BY cause"
# The last column: whether the row of a photo of the same size is known.
NEXT_PENDING = """
SELECT position, path, failure, size, stamp,
    EXISTS (
        SELECT 1 FROM photos WHERE photos.size IS found.size AND basis = :basis
        AND digest IS NOT NULL AND NOT failed
    ) OR EXISTS (
        SELECT 1 FROM unreadable WHERE unreadable.size IS found.size AND basis = :basis
    )
FROM pending JOIN found USING (position)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
NEXT_ROWS = """
SELECT position, found.size, found.stamp, photos.* FROM found JOIN photos USING (path)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
# Files found for the first time. Empty in a journal's first run: nothing can be missing yet.
INSERT_ARRIVALS = """
INSERT OR IGNORE INTO arrivals SELECT path FROM found LEFT JOIN photos USING (path)
WHERE photos.path IS NULL AND EXISTS (SELECT 1 FROM photos)
"""
# Only files of this shard. The `CASE` computes the shard only of files that were not found.
FIND_MISSING = """
INSERT INTO missing (path) SELECT path FROM photos
WHERE CASE WHEN EXISTS (SELECT 1 FROM found WHERE found.path = photos.path)
      THEN 0 ELSE in_shard(path) END
"""
# Digests of files that were found for the first time: a missing file with the digest has moved.
FIND_MOVED = """
INSERT OR IGNORE INTO moved SELECT digest FROM arrivals CROSS JOIN photos USING (path)
WHERE digest IS NOT NULL
"""
_HAS_MOVED = "EXISTS (SELECT 1 FROM moved WHERE moved.digest = photos.digest)"
# A `CROSS JOIN` makes SQLite search the second table for each row of the first, which is small.
COUNT_MISSING = f"""
SELECT count(*) FROM missing CROSS JOIN photos USING (path)
WHERE NOT kept AND NOT failed AND NOT {_HAS_MOVED}
"""
NEXT_MISSING_PATHS = f"""
SELECT missing.path FROM missing CROSS JOIN photos USING (path)
WHERE missing.path > :after AND NOT kept AND NOT {_HAS_MOVED}
ORDER BY missing.path LIMIT :chunk
"""
MARK_KEPT = "UPDATE missing SET kept = 1 WHERE path = ?"
NEXT_MISSING_ROWS = f"""
SELECT missing.path, {PHOTO.replace("path", "photos.path")}
FROM missing CROSS JOIN photos USING (path)
WHERE missing.path > :after AND (kept OR (:all AND NOT failed)) ORDER BY missing.path LIMIT :chunk
"""
DELETE_MISSING = "DELETE FROM photos WHERE path IN (SELECT path FROM missing WHERE NOT kept)"
# For a fresh start: no row is reused, but the rows of missing files are kept.
START_OVER = f"""
UPDATE photos SET basis = x'',
checksum = compute_checksum(checksum, {PHOTO.removesuffix(", checksum")})
WHERE in_shard(path)
"""
SELECT_FAILED = """
SELECT path, found.size, found.stamp, digest FROM found JOIN photos USING (path) WHERE failed
"""
INSERT_ACCEPTED = "INSERT OR IGNORE INTO accepted VALUES (?)"
IS_ACCEPTED = "SELECT 1 FROM accepted WHERE failure = ?"
DELETE_MISSING_UNREADABLE = (
    "DELETE FROM unreadable WHERE path IN (SELECT path FROM missing WHERE NOT kept)"
)
# All rows, in the order of their paths.
ALL_PHOTOS = f"SELECT {PHOTO} FROM photos"
ALL_UNREADABLE = f"SELECT {PHOTO} FROM unreadable"
ALL_NOTES = "SELECT name, value, checksum FROM notes"


def compute_checksum(*values: SqlValue) -> bytes:
    """Return the checksum of a row's values and their types: 8 bytes of BLAKE2b (RFC 7693).

    SQLite detects damage to its structure, but not to values.
    """
    return blake2b(repr(values).encode(errors="replace"), digest_size=CHECKSUM_BYTES).digest()


def compute_fresh_checksum(checksum: bytes, *values: SqlValue) -> bytes:
    """Return the checksum of a row once its basis is cleared; a wrong checksum stays wrong."""
    *file, _, failed, row = values
    if compute_checksum(*values) != checksum:
        return checksum
    return compute_checksum(*file, b"", failed, row)


def compute_failure_key(path: bytes, size: SqlValue, stamp: SqlValue, digest: SqlValue) -> bytes:
    """Return the key of a failed file in its present state: 32 bytes.

    It is the SHA-256 of the file if known, else of path, size and stamp. Empty files all have the
    same SHA-256, and are told apart by their paths.
    """
    if isinstance(digest, bytes) and size != 0:
        return digest
    return sha256(repr((path, size, stamp)).encode()).digest()
