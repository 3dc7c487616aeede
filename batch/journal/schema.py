"""The journal's tables, and what is asked of them."""

from __future__ import annotations

APPLICATION_ID = 0x424C4A4E
VERSION = 1

# `mtime_ns` has the ETag instead, a text, where a store gives one: it tells more than a time.
SCHEMA = f"""
CREATE TABLE photos (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB,
    basis BLOB NOT NULL, failed INTEGER NOT NULL, row TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX photos_by_digest ON photos (digest) WHERE digest IS NOT NULL;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
# Tables of this run alone, in a file that SQLite removes: memory stays the same for any number.
OF_THIS_RUN = """
CREATE TEMP TABLE found (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER, mtime_ns INTEGER, failure TEXT
);
CREATE TEMP TABLE pending (position INTEGER PRIMARY KEY);
"""
# Files that failed are tried again. `IS NOT` also tells a value from none.
PENDING = """
INSERT INTO pending SELECT position FROM found LEFT JOIN photos USING (path)
WHERE :all OR photos.path IS NULL OR failed OR basis IS NOT :basis
   OR photos.size IS NOT found.size OR photos.mtime_ns IS NOT found.mtime_ns
ORDER BY position
"""
NEXT_PENDING = """
SELECT position, path, failure, size, mtime_ns FROM pending JOIN found USING (position)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
NEXT_ROWS = """
SELECT position, path, row FROM found JOIN photos USING (path)
WHERE position > :after ORDER BY position LIMIT :chunk
"""
LOOKED_EVERYWHERE = (
    "EXISTS (SELECT 1 FROM found) AND NOT EXISTS (SELECT 1 FROM found WHERE failure IS NOT NULL)"
)
# Files of other shards are not looked for. A `CASE`, as that asks for the shard only of the few.
MISSING = "CASE WHEN path IN (SELECT path FROM found) THEN 0 ELSE in_shard(path) END"
NEXT_MISSING = f"""
SELECT path, path, row FROM photos
WHERE path > :after AND NOT failed AND basis IS :basis AND {MISSING} ORDER BY path LIMIT :chunk
"""
