"""Cache of crops: the sample of a photo that an earlier command has decoded and cropped.

`train`, `export`, `gate` and `evaluate` read the same photos one after the other. A crop is used
again only if the file's path, size, times and inode are those from before it was read, the framing
and all code between file and pixels are the same, and its checksum is right. Files without a usable
crop are decoded. The cache is an SQLite database, so a killed command loses only its last
crops, and several commands can use it at once. One that is damaged or of another release is
replaced by an empty one. One that cannot be used costs only time. The database of another program
is never written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from batch.files.regular_file import open_regular
from batch.found import read_change_key
from batch.records import FileState
from batch.vision.basis import PREPROCESSING_VERSION
from batch.vision.detector_file import hash_detector
from trainer.datasets.dataset import Framing
from trainer.datasets.pixel_store import Pixels

CACHE_FILE = "crops.sqlite"
# 10 GB are the RGB samples of 160 pixels of 128,000 photos.
MAX_BYTES = 10_000_000_000
# Version of the trainer's own part between a file and its sample: raise it with every change to the
# crops of ``read_samples``.
CROP_VERSION = 1
WRITTEN_ROWS = 512
EVICTED_ROWS = 2048
BUSY_SECONDS = 30.0

# Marks the database as a crop cache; raise the version with every change to its tables.
APPLICATION_ID = 0x424C4352
SCHEMA_VERSION = 1
# First bytes of a database, and where its 4-byte application ID is. Source:
# https://www.sqlite.org/fileformat.html
SQLITE_MAGIC = b"SQLite format 3\0"
APPLICATION_ID_BYTES = slice(68, 72)
HEADER_BYTES = 100

# The pixels have a table of their own, so that noting the use of a crop does not rewrite them.
TABLES = {
    "crops": "CREATE TABLE crops (key BLOB PRIMARY KEY, digest TEXT NOT NULL, "
    "checksum INTEGER NOT NULL, used INTEGER NOT NULL, pixels_id INTEGER NOT NULL)",
    "crops_used": "CREATE INDEX crops_used ON crops (used)",
    "pixels": "CREATE TABLE pixels (id INTEGER PRIMARY KEY, pixels BLOB)",
}
FETCH = """
SELECT digest, checksum, pixels FROM crops JOIN pixels ON id = pixels_id WHERE key = ?
"""
# Results of SQLite that say nothing about the content of the database.
ENVIRONMENT_ERRORS = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)

logger = logging.getLogger(__name__)


class Crop(NamedTuple):
    """What is known of a file.

    Attributes:
        digest: SHA-256 of its bytes.
        pixels: uint8 [side, side, channels]; None if it shows no face.
    """

    digest: str
    pixels: Pixels | None


class ForeignDatabase(Exception):
    """The file is the database of another program."""


class UnknownTables(sqlite3.DatabaseError):
    """The database is a crop cache, but its tables are not those of this release."""


class CropCache:
    """Crops of one framing, in a database of all framings.

    Errors of the database turn the cache off, with a warning.
    """

    def __init__(self, folder: Path | None, framing: Framing, max_bytes: int = MAX_BYTES) -> None:
        self._path = (folder or Path()) / CACHE_FILE
        self._max_bytes = max_bytes
        self._shape = (framing.side, framing.side, framing.channels)
        self._basis = json.dumps(
            {
                "framing": asdict(framing),
                "crop": CROP_VERSION,
                "preprocessing": PREPROCESSING_VERSION,
                "detector": hash_detector(),
                "pillow": PIL.__version__,
            },
            sort_keys=True,
        )
        self._started = time.time_ns()  # crops used since then are not evicted
        self._used: list[bytes] = []
        self._pending: list[tuple[bytes, Crop]] = []
        self._refused = 0
        self._database: sqlite3.Connection | None = None
        if folder:
            with self._survive_errors():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._database = self._open()

    def __enter__(self) -> CropCache:
        return self

    def __exit__(self, *_: object) -> None:
        with self._survive_errors():
            if self._database:
                self._write()
                self._database.close()
                self._database = None
        if self._refused:
            logger.info("%s is full: %s crops are not stored", self._path, f"{self._refused:,}")

    def make_key(self, path: Path, state: FileState | None = None) -> bytes | None:
        """Make the key of a file from its state, read now by default; None if it can't be read."""
        if state is None:
            try:
                status = path.stat()
            except OSError:
                return None
            ctime_ns, inode = read_change_key(status)
            state = FileState(status.st_size, status.st_mtime_ns, ctime_ns=ctime_ns, inode=inode)
        identity = os.fsencode(path.absolute()).hex(), state.size, state.mtime_ns
        parts = json.dumps([*identity, state.ctime_ns, state.inode])
        return hashlib.sha256(f"{self._basis}{parts}".encode()).digest()

    def fetch(self, key: bytes | None) -> Crop | None:
        """Fetch the crop of a file by its key; None if there is none, or it is damaged."""
        found = None
        with self._survive_errors():
            if self._database and key:
                found = self._database.execute(FETCH, (key,)).fetchone()
        if not found or not key:
            return None
        digest, checksum, stored = found
        # SQLite keeps a value of any type in a column.
        if not isinstance(digest, str) or not isinstance(stored, bytes | None):
            return None
        if checksum != _compute_checksum(key, digest, stored):
            return None
        if stored and len(stored) != math.prod(self._shape):
            return None
        self._used.append(key)
        return Crop(digest, _to_pixels(stored, self._shape) if stored else None)

    def store(self, key: bytes, crop: Crop) -> None:
        """Store the crop of a file."""
        if self._database:
            self._pending.append((key, crop))
            if len(self._pending) >= WRITTEN_ROWS:
                with self._survive_errors():
                    self._write()

    def _write(self) -> None:
        """Write what waits, in one short transaction: another command may wait for its end."""
        database, pending, self._pending = self._database, self._pending, []
        assert database
        used, self._used = self._used, []
        with _transaction(database):
            database.executemany(
                "UPDATE crops SET used = ? WHERE key = ?", [(self._started, key) for key in used]
            )
            if pending and not self._make_room(database):
                self._refused += len(pending)
                return
            for key, crop in pending:
                stored = None if crop.pixels is None else crop.pixels.tobytes()
                checksum = _compute_checksum(key, crop.digest, stored)
                database.execute(
                    "DELETE FROM pixels WHERE id = (SELECT pixels_id FROM crops WHERE key = ?)",
                    (key,),
                )
                at = database.execute("INSERT INTO pixels (pixels) VALUES (?)", (stored,)).lastrowid
                values = (key, crop.digest, checksum, self._started, at)
                database.execute("INSERT OR REPLACE INTO crops VALUES (?, ?, ?, ?, ?)", values)

    def _open(self) -> sqlite3.Connection:
        """Open the database; one that is damaged or of another release is replaced by an empty one.

        Raises:
            ForeignDatabase: it is that of another program.
            OSError, sqlite3.Error: it can't be opened.
        """
        try:
            _check_own(self._path)
            return _connect(self._path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise
            self._discard(error)
            return _connect(self._path)

    def _discard(self, error: Exception) -> None:
        cause = str(error) if isinstance(error, UnknownTables) else f"is damaged ({error})"
        logger.warning("%s %s and starts anew", self._path, cause)
        for path in (self._path, self._path.with_name(f"{CACHE_FILE}-journal")):
            path.unlink(missing_ok=True)

    def _make_room(self, database: sqlite3.Connection) -> bool:
        """Evict crops that were not used for longest while the cache is full."""
        while _measure_bytes(database) > self._max_bytes:
            old = database.execute(
                "SELECT key, pixels_id FROM crops WHERE used < ? ORDER BY used LIMIT ?",
                (self._started, EVICTED_ROWS),
            ).fetchall()
            if not old:
                return False
            database.executemany("DELETE FROM crops WHERE key = ?", [(key,) for key, _ in old])
            database.executemany("DELETE FROM pixels WHERE id = ?", [(at,) for _, at in old])
        return True

    @contextmanager
    def _survive_errors(self) -> Iterator[None]:
        try:
            yield
        except ForeignDatabase:
            logger.warning(
                "%s is the database of another program, so photos are decoded again; move it away",
                self._path,
            )
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            database, self._database = self._database, None
            with suppress(sqlite3.Error):
                if database:
                    database.close()
            if _is_damage(error):
                with suppress(OSError):
                    self._discard(error)
                    return
            logger.warning(
                "%s can't be used (%s): all other photos are decoded again", self._path, error
            )


def _check_own(path: Path) -> None:
    """Check, without writing, that a file is missing, not a database, or a crop cache.

    Raises:
        ForeignDatabase: it is the database of another program.
        OSError: it is not a regular file, or can't be read.
        sqlite3.Error, UnicodeDecodeError: it is damaged.
    """
    try:
        with open_regular(path) as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        return
    written_by = header[APPLICATION_ID_BYTES]
    if not header.startswith(SQLITE_MAGIC) or written_by == APPLICATION_ID.to_bytes(4, "big"):
        return
    # An immutable database is opened without its journal, which would be applied to it.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        if _read_tables(database) != TABLES:
            raise ForeignDatabase


def _connect(path: Path) -> sqlite3.Connection:
    """Connect to a crop cache; a new one gets its tables.

    Raises:
        UnknownTables: the tables are not those of this release.
        sqlite3.Error, UnicodeDecodeError: it can't be opened, or is damaged.
    """
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    # A text that is not UTF-8 is a wrong value, whose checksum fails, and no error.
    database.text_factory = lambda text: text.decode(errors="replace")
    try:
        with _transaction(database):
            _prepare_tables(database)
    except (sqlite3.Error, UnicodeDecodeError):
        database.close()
        raise
    return database


def _prepare_tables(database: sqlite3.Connection) -> None:
    tables = _read_tables(database)
    if not tables:
        for statement in TABLES.values():
            database.execute(statement)
    marks = tuple(
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    # Caches of before the marks have zeros, and the same tables.
    if tables and (tables != TABLES or marks not in ((APPLICATION_ID, SCHEMA_VERSION), (0, 0))):
        raise UnknownTables("is of another release")
    if marks != (APPLICATION_ID, SCHEMA_VERSION):
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _read_tables(database: sqlite3.Connection) -> dict[str, str]:
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    return dict(database.execute(query).fetchall())


def _is_damage(error: Exception) -> bool:
    """Tell whether an error comes from the content of the database."""
    if isinstance(error, UnicodeDecodeError | UnknownTables):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF not in ENVIRONMENT_ERRORS


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Write in one transaction, whose lock is taken first.

    One that reads before it writes fails at once, without waiting, if another process also writes.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.rollback()
        raise
    database.commit()


def _measure_bytes(database: sqlite3.Connection) -> int:
    """Measure the bytes of a database without its free pages."""
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _compute_checksum(key: bytes, digest: str, stored: bytes | None) -> int:
    return zlib.crc32(stored or b"", zlib.crc32(digest.encode(), zlib.crc32(key)))


def _to_pixels(stored: bytes, shape: tuple[int, int, int]) -> Pixels:
    return np.frombuffer(stored, np.uint8).reshape(shape)
