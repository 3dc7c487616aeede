"""Checksums of the values that the journal keeps."""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import TypeAlias

# What SQLite keeps in a column.
SqlValue: TypeAlias = int | str | bytes | None

CHECKSUM_BYTES = 8


def checksum_of(*values: SqlValue) -> bytes:
    """Digest a row's values and their kinds: 8 bytes of BLAKE2b (RFC 7693).

    SQLite finds damage to its own structure, but not to the values in it.
    """
    return blake2b(repr(values).encode(errors="replace"), digest_size=CHECKSUM_BYTES).digest()


def checksum_of_fresh(checksum: bytes, *values: SqlValue) -> bytes:
    """Give the checksum of a row without its basis; what was damaged stays damaged."""
    *file, _, failed, row = values
    if checksum_of(*values) != checksum:
        return checksum
    return checksum_of(*file, b"", failed, row)


def failure_key(path: bytes, size: SqlValue, stamp: SqlValue, digest: SqlValue) -> bytes:
    """Tell a file that failed from others, and from what it is once it changes: 32 bytes.

    By its bytes where they are known. Empty files have the same, and are told by their paths.
    """
    if isinstance(digest, bytes) and size != 0:
        return digest
    return sha256(repr((path, size, stamp)).encode()).digest()


# == The journal's tables, and the statements that run on them.

APPLICATION_ID = 0x424C4A4E
JOURNAL_VERSION = 4

# `stamp` is the time of change in nanoseconds or, where a store gives one, the ETag as a text: it
# tells more than a time. `ctime_ns` and `inode` are NULL if no file system keeps them. `checksum`
# is that of the other columns: see `checksum_of`.
_ROW = """
    path BLOB PRIMARY KEY, size INTEGER, stamp, ctime_ns INTEGER, inode INTEGER, digest BLOB,
    basis BLOB NOT NULL, failed INTEGER NOT NULL, row BLOB NOT NULL, checksum BLOB NOT NULL
"""
TABLES = {
    "photos": f"CREATE TABLE photos ({_ROW}) WITHOUT ROWID",
    # By size first, as few photos have the size of another one: only those may be copies. By the
    # basis next and without those that failed, so that of many copies only one is looked at.
    "photos_by_content": (
        "CREATE INDEX photos_by_content ON photos (size, basis, digest) "
        "WHERE digest IS NOT NULL AND NOT failed"
    ),
    # The last answers of photos that can't be read now: they need no new labels once they can.
    "unreadable": f"CREATE TABLE unreadable ({_ROW}) WITHOUT ROWID",
    "unreadable_by_content": (
        "CREATE INDEX unreadable_by_content ON unreadable (size, basis, digest)"
    ),
    "notes": """CREATE TABLE notes (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL
)""",
    # Paths that no published report has had.
    "arrivals": "CREATE TABLE arrivals (path BLOB PRIMARY KEY) WITHOUT ROWID",
    # Failures that were accepted, by `failure_key`. One that is damaged counts as not accepted.
    "accepted": "CREATE TABLE accepted (failure BLOB PRIMARY KEY) WITHOUT ROWID",
}
SCHEMA = f"""
{";".join(TABLES.values())};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {JOURNAL_VERSION};
"""
PHOTO = "path, size, stamp, ctime_ns, inode, digest, basis, failed, row, checksum"
PHOTO_COLUMNS = PHOTO.split(", ")
# Tables of this run alone, in a file that SQLite removes: memory stays the same for any number.
RUN_TABLES = """
CREATE TEMP TABLE found (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER, stamp,
    ctime_ns INTEGER, inode INTEGER, failure BLOB
);
CREATE TEMP TABLE pending (position INTEGER PRIMARY KEY, cause TEXT NOT NULL);
CREATE TEMP TABLE gone (path BLOB PRIMARY KEY, kept INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TEMP TABLE moved (digest BLOB PRIMARY KEY) WITHOUT ROWID;
"""
# Once the table is full, as that takes a fraction of the time.
INDEX_FOUND = "CREATE INDEX temp.found_by_path ON found (path)"
ADD_PHOTO = f"INSERT OR REPLACE INTO photos ({PHOTO}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The index is partial: it is used for a digest that is `=` something, but not `IS`.
_SAME_BYTES = "size IS :size AND basis = :basis AND digest = :digest"
FIND_KNOWN = f"""
SELECT {PHOTO} FROM photos WHERE {_SAME_BYTES} AND NOT failed
UNION ALL SELECT {PHOTO} FROM unreadable WHERE {_SAME_BYTES} LIMIT 1
"""
KEEP_ANSWER = f"""
INSERT OR REPLACE INTO unreadable SELECT {PHOTO} FROM photos
WHERE path = ? AND NOT failed AND digest IS NOT NULL
"""
DROP_ANSWER = "DELETE FROM unreadable WHERE path = ?"
# Why a file is pending, NULL if it is not. Files that failed are tried again. `IS NOT` also tells a
# value from none; `<>` does not, as an unknown inode is not another one.
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
INSERT INTO pending SELECT position, {CAUSE_EXPRESSION} AS cause FROM found LEFT JOIN photos USING (path)
WHERE cause IS NOT NULL ORDER BY position
"""
COUNT_CAUSES = "SELECT cause, count(*) FROM pending GROUP BY cause"
# With whether a row is known of a photo of the same size.
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
# What a run finds for the first time. Of a journal's first run nothing can be gone or have moved.
INSERT_ARRIVALS = """
INSERT OR IGNORE INTO arrivals SELECT path FROM found LEFT JOIN photos USING (path)
WHERE photos.path IS NULL AND EXISTS (SELECT 1 FROM photos)
"""
# Files of other shards are not looked for. A `CASE`, as that asks for the shard only of the few.
FIND_GONE = """
INSERT INTO gone (path) SELECT path FROM photos
WHERE CASE WHEN EXISTS (SELECT 1 FROM found WHERE found.path = photos.path)
      THEN 0 ELSE in_shard(path) END
"""
# Bytes that lie in a new place. Those that lay in two places before did not move from one to the
# other.
FIND_MOVED = """
INSERT OR IGNORE INTO moved SELECT digest FROM arrivals CROSS JOIN photos USING (path)
WHERE digest IS NOT NULL
"""
_IS_GONE = """
NOT failed AND NOT EXISTS (SELECT 1 FROM moved WHERE moved.digest = photos.digest)
"""
# A `CROSS JOIN` searches the second table for each row of the first, of which there are few.
COUNT_GONE = f"""
SELECT count(*) FROM gone CROSS JOIN photos USING (path) WHERE NOT kept AND {_IS_GONE}
"""
NEXT_GONE = """
SELECT gone.path FROM gone CROSS JOIN photos USING (path)
WHERE gone.path > :after AND NOT kept
AND NOT EXISTS (SELECT 1 FROM moved WHERE moved.digest = photos.digest)
ORDER BY gone.path LIMIT :chunk
"""
MARK_KEPT = "UPDATE gone SET kept = 1 WHERE path = ?"
NEXT_MISSING = f"""
SELECT gone.path, {PHOTO.replace("path", "photos.path")} FROM gone CROSS JOIN photos USING (path)
WHERE gone.path > :after AND (kept OR (:all AND NOT failed)) ORDER BY gone.path LIMIT :chunk
"""
DELETE_GONE = "DELETE FROM photos WHERE path IN (SELECT path FROM gone WHERE NOT kept)"
# A fresh start: what is known stays for files that are gone, but no answer counts any more.
START_OVER = """
UPDATE photos SET basis = x'',
checksum = checksum_of(
    checksum, path, size, stamp, ctime_ns, inode, digest, basis, failed, row
)
WHERE in_shard(path)
"""
SELECT_FAILED = """
SELECT path, found.size, found.stamp, digest FROM found JOIN photos USING (path) WHERE failed
"""
INSERT_ACCEPTED = "INSERT OR IGNORE INTO accepted VALUES (?)"
IS_ACCEPTED = "SELECT 1 FROM accepted WHERE failure = ?"
DELETE_GONE_ANSWERS = "DELETE FROM unreadable WHERE path IN (SELECT path FROM gone WHERE NOT kept)"
# All there is, in the order that the tables keep.
ALL_PHOTOS = f"SELECT {PHOTO} FROM photos"
ALL_UNREADABLE = f"SELECT {PHOTO} FROM unreadable"
ALL_NOTES = "SELECT name, value, checksum FROM notes"
