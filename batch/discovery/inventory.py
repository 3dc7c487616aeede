"""The rows of S3 Inventory's three formats: CSV, Apache ORC and Apache Parquet."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote_plus

from batch.discovery.walk import CHECK_EVERY, check_every
from batch.errors import InputError
from batch.files.regular_file import open_regular
from batch.found import FoundFile, make_found
from batch.location import Location, Url, parse_location
from batch.options import OnSkip, Search
from batch.os_errors import describe_failed_access
from batch.path_text import path_text, printable_text
from batch.reports.tabular import ARROW_ERRORS, check_pyarrow
from batch.stopping import StopCheck, never_stop
from batch.stores.download import open_location

ROWS_PER_BATCH = 8_192
_REQUIRED_COLUMN = "key"
# As the formats spell them, without case and underscores: `IsLatest` and `is_latest`.
_COLUMNS = (
    "bucket", "key", "islatest", "isdeletemarker", "size", "lastmodifieddate", "etag",
)  # fmt: skip

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class InventoryRow(NamedTuple):
    """What an inventory says of one version of an object; ``mtime_ns`` is in nanoseconds."""

    bucket: str | None
    key: str
    latest: bool
    deleted: bool
    size: int | None
    mtime_ns: int | None
    etag: str | None


Reader = Callable[[BinaryIO, str], Iterator[InventoryRow]]


def read_csv(stream: BinaryIO, schema: str) -> Iterator[InventoryRow]:
    """Read gzipped CSV without a header, whose columns ``schema`` names; keys are URL-encoded.

    Raises:
        ValueError, OSError, EOFError: it is damaged.
    """
    names = [_normalise_name(name) for name in schema.split(",")]
    where = [names.index(name) if name in names else None for name in _COLUMNS]
    _check_columns(names)
    text = io.TextIOWrapper(gzip.GzipFile(fileobj=stream), encoding="utf-8", newline="")
    rows = csv.reader(text, strict=True)
    try:
        for row in rows:
            if len(row) != len(names):
                raise ValueError(f"line {rows.line_num}: {len(row)} fields, not {len(names)}")
            yield _row_from_texts(*(None if i is None else row[i] or None for i in where))
    except (csv.Error, zlib.error) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error


def read_orc(stream: BinaryIO, schema: str) -> Iterator[InventoryRow]:
    """Read ORC, a stripe at a time.

    Raises:
        ValueError, OSError: it is damaged.
    """
    check_pyarrow("this inventory")
    import pyarrow.orc

    file = pyarrow.orc.ORCFile(stream)
    wanted = _select_columns(file.schema.names)
    for stripe in range(file.nstripes):
        batch = file.read_stripe(stripe, columns=list(wanted.values()))
        for start in range(0, batch.num_rows, ROWS_PER_BATCH):
            yield from _rows_from_batch(batch.slice(start, ROWS_PER_BATCH), wanted)


def read_parquet(stream: BinaryIO, schema: str) -> Iterator[InventoryRow]:
    """Read Parquet, a few thousand rows at a time.

    Raises:
        ValueError, OSError: it is damaged.
    """
    check_pyarrow("this inventory")
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(stream)
    wanted = _select_columns(file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=list(wanted.values())):
        yield from _rows_from_batch(batch, wanted)


READERS: Mapping[str, Reader] = {"CSV": read_csv, "ORC": read_orc, "PARQUET": read_parquet}


def _select_columns(names: list[str]) -> dict[str, str]:
    """Give the columns that count, by their plain names."""
    spelled = {_normalise_name(name): name for name in names}
    _check_columns(list(spelled))
    return {name: spelled[name] for name in _COLUMNS if name in spelled}


def _rows_from_batch(batch: Any, wanted: Mapping[str, str]) -> Iterator[InventoryRow]:
    absent = [None] * batch.num_rows
    columns = [
        _to_values(batch.column(wanted[name])) if name in wanted else absent for name in _COLUMNS
    ]
    for bucket, key, latest, deleted, size, time, etag in zip(*columns, strict=True):
        if not isinstance(key, str):
            raise ValueError("an object has no key")
        yield InventoryRow(
            bucket, key, latest is not False, bool(deleted), size, time, _strip_quotes(etag)
        )


def _to_values(column: Any) -> list[Any]:
    """Give a column's values, times as nanoseconds since 1970."""
    import pyarrow

    if not pyarrow.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    # Not by Arrow, which refuses a whole column for one time that 64 bits of nanoseconds lack.
    factor = _NANOSECONDS[column.type.unit]
    times = column.cast(pyarrow.int64()).to_pylist()
    return [None if time is None else time * factor for time in times]


def _row_from_texts(
    bucket: str | None,
    key: str | None,
    latest: str | None,
    deleted: str | None,
    size: str | None,
    time: str | None,
    etag: str | None,
) -> InventoryRow:
    if key is None:
        raise ValueError("an object has no key")
    return InventoryRow(
        bucket,
        unquote_plus(key, errors="strict"),
        latest != "false",
        deleted == "true",
        None if size is None else int(size),
        None if time is None else _parse_time(time),
        _strip_quotes(etag),
    )


def _parse_time(text: str) -> int:
    time = datetime.fromisoformat(text)
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _strip_quotes(etag: str | None) -> str | None:
    # HTTP has it in quotes, and inventories mostly have not.
    return etag.strip('"') if etag else None


def _normalise_name(name: str) -> str:
    return name.strip().lower().replace("_", "")


def _check_columns(names: list[str]) -> None:
    if _REQUIRED_COLUMN not in names:
        raise ValueError("it has no column for keys")


# == Listings of whole buckets that Amazon S3 writes by itself: S3 Inventory.
# ==
# == Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html

REMEDY = "give the manifest.json of an S3 inventory, with the files that it names where they were"

# Bytes between two looks at whether the run is to end.
_COPY_BYTES = 1024**2


@dataclass(frozen=True)
class _InventoryFile:
    """One of the files that an inventory is spread over; ``key`` is in the bucket it lies in."""

    key: str
    md5: str | None


class Inventory:
    """An inventory that is there; ``manifest`` is its manifest.json, a path or a URL.

    Raises:
        InputError: it is missing, or no inventory.
        UsageError: a package that it needs is not installed.
    """

    def __init__(self, manifest: str) -> None:
        self._place = parse_location(manifest)
        self._called = f"inventory {path_text(self._place)}"
        with self._translate_errors(), open_location(self._place, self._called, InputError) as file:
            values = json.load(file)
        try:
            self._bucket = str(values["sourceBucket"])
            self._read = READERS[str(values["fileFormat"]).upper()]
            self._schema = str(values["fileSchema"])
            self._files = [_InventoryFile(f["key"], f.get("MD5checksum")) for f in values["files"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self._called} is none: {error!r} is amiss", REMEDY) from error

    def files(
        self, search: Search, on_skip: OnSkip, check: StopCheck = never_stop
    ) -> Iterator[FoundFile]:
        """Give the photos in the bucket, in the order of the inventory.

        They are told by their names alone. Objects that are not the latest version, or that mark
        a deletion, are passed over. ``check`` may end it all by an exception.

        Raises:
            InputError: a file of the inventory is missing or damaged.
        """
        yield from search.skip_older(self._iter_files(search, on_skip, check), on_skip)

    def _iter_files(self, search: Search, on_skip: OnSkip, check: StopCheck) -> Iterator[FoundFile]:
        for file in self._files:
            with self._translate_errors(file.key), self._fetch_file(file, check) as stream:
                for listed in check_every(CHECK_EVERY, check, self._read(stream, self._schema)):
                    if listed.deleted or not listed.latest:
                        continue
                    url = f"s3://{listed.bucket or self._bucket}/{listed.key}"
                    why = search.find_skip_reason(listed.key)
                    if why:
                        on_skip(Url(url), why)
                    else:
                        yield make_found(url, listed.size, listed.mtime_ns, listed.etag)

    @contextmanager
    def _fetch_file(self, file: _InventoryFile, check: StopCheck) -> Iterator[BinaryIO]:
        """Open a file of the inventory here, once its bytes are known to be right."""
        place = self._locate(file.key)
        called = f"{self._called}: {path_text(place)}"
        with _open(place, called) as there, tempfile.TemporaryFile() as here:
            if isinstance(self._place, Url):
                # A footer comes last, so a file is read from behind: not over a network.
                for part in check_every(1, check, iter(partial(there.read, _COPY_BYTES), b"")):
                    here.write(part)
            stream = here if isinstance(self._place, Url) else there
            stream.seek(0)
            found = hashlib.file_digest(stream, _new_md5).hexdigest()  # type: ignore[arg-type]
            if file.md5 not in (None, found):
                raise ValueError(f"its MD5 is {found}, not {file.md5}")
            stream.seek(0)
            yield stream

    def _locate(self, key: str) -> Location:
        """Find a file by its key: from the bucket's root, or from where a copy of that begins."""
        if isinstance(self._place, Url):
            scheme, _, rest = self._place.text.partition("://")
            return Url(f"{scheme}://{rest.partition('/')[0]}/{key}")
        folder = self._place.absolute().parent
        copies = [parent / key for parent in (folder, *folder.parents)]
        name = PurePosixPath(key).name
        near = [folder.parent / "data" / name, folder / name]
        return next((path for path in (*copies, *near) if path.is_file()), copies[0])

    @contextmanager
    def _translate_errors(self, key: str = "") -> Iterator[None]:
        where = f"{self._called}, file {printable_text(key)}," if key else self._called
        try:
            yield
        except OSError as error:
            raise InputError(describe_failed_access(where, "read", error), REMEDY) from error
        except (*ARROW_ERRORS, EOFError) as error:
            why = printable_text(" ".join(str(error).split()))
            raise InputError(f"{where} is damaged ({why})", REMEDY) from error


def _open(place: Location, called: str) -> BinaryIO:
    if isinstance(place, Url):
        return open_location(place, called, InputError)
    return open_regular(place)


def _new_md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
