"""The journal's tables, and the statements that run on them."""

from __future__ import annotations

APPLICATION_ID = 0x424C4A4E
VERSION = 3

# `stamp` is the time of change in nanoseconds or, where a store gives one, the ETag as a text: it
# tells more than a time. `ctime_ns` and `inode` are NULL if no file system keeps them. `checksum`
# is that of the other columns: see `checksum_of`.
TABLES = {
    "photos": """CREATE TABLE photos (
    path BLOB PRIMARY KEY, size INTEGER, stamp, ctime_ns INTEGER, inode INTEGER, digest BLOB,
    basis BLOB NOT NULL, failed INTEGER NOT NULL, row TEXT NOT NULL, checksum BLOB NOT NULL
) WITHOUT ROWID""",
    "photos_by_digest": (
        "CREATE INDEX photos_by_digest ON photos (digest) WHERE digest IS NOT NULL"
    ),
    "notes": """CREATE TABLE notes (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum BLOB NOT NULL
)""",
}
SCHEMA = f"""
{";".join(TABLES.values())};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
PHOTO = "path, size, stamp, ctime_ns, inode, digest, basis, failed, row, checksum"
# Tables of this run alone, in a file that SQLite removes: memory stays the same for any number.
OF_THIS_RUN = """
CREATE TEMP TABLE found (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER, stamp,
    ctime_ns INTEGER, inode INTEGER, failure TEXT
);
CREATE TEMP TABLE pending (position INTEGER PRIMARY KEY, cause TEXT NOT NULL);
"""
ADD_PHOTO = f"INSERT OR REPLACE INTO photos ({PHOTO}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The index is partial: it is used for `=` alone, not for `IS`.
KNOWN = f"""
SELECT {PHOTO} FROM photos WHERE digest = ? AND basis = ? AND NOT failed LIMIT 1
"""
# Why a file is pending, NULL if it is not. Files that failed are tried again. `IS NOT` also tells a
# value from none; `<>` does not, as an unknown inode is not another one.
CAUSE = """CASE
    WHEN photos.path IS NULL THEN 'new'
    WHEN failed THEN 'failed'
    WHEN basis IS NOT :basis THEN 'basis'
    WHEN photos.size IS NOT found.size OR photos.stamp IS NOT found.stamp THEN 'changed'
    WHEN :all THEN 'verify'
    WHEN NOT :ignore_inode
        AND (photos.ctime_ns <> found.ctime_ns OR photos.inode <> found.inode) THEN 'inode'
END"""
PENDING = f"""
INSERT INTO pending SELECT position, {CAUSE} AS cause FROM found LEFT JOIN photos USING (path)
WHERE cause IS NOT NULL ORDER BY position
"""
CAUSES = "SELECT cause, count(*) FROM pending GROUP BY cause"
NEXT_PENDING = """
SELECT position, path, failure, size, stamp FROM pending JOIN found USING (position)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
NEXT_ROWS = """
SELECT position, photos.* FROM found JOIN photos USING (path)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
LOOKED_EVERYWHERE = (
    "EXISTS (SELECT 1 FROM found) AND NOT EXISTS (SELECT 1 FROM found WHERE failure IS NOT NULL)"
)
# Files of other shards are not looked for. A `CASE`, as that asks for the shard only of the few.
MISSING = "CASE WHEN path IN (SELECT path FROM found) THEN 0 ELSE in_shard(path) END"
NEXT_MISSING = f"""
SELECT path, {PHOTO} FROM photos
WHERE path > :after AND NOT failed AND basis IS :basis AND {MISSING} ORDER BY path LIMIT :chunk
"""
# All there is, in the order that the table keeps.
ALL_PHOTOS = f"SELECT {PHOTO} FROM photos"
ALL_NOTES = "SELECT name, value, checksum FROM notes"
