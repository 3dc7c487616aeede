"""The rows of S3 Inventory's three formats: CSV, Apache ORC and Apache Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote_plus

from batch.reports.arrow import check_pyarrow

ROWS = 8_192
_NEEDED = "key"
# As the formats spell them, without case and underscores: `IsLatest` and `is_latest`.
_COLUMNS = (
    "bucket", "key", "islatest", "isdeletemarker", "size", "lastmodifieddate", "etag",
)  # fmt: skip

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class Listed(NamedTuple):
    """What an inventory says of one version of an object; ``mtime_ns`` is in nanoseconds."""

    bucket: str | None
    key: str
    latest: bool
    deleted: bool
    size: int | None
    mtime_ns: int | None
    etag: str | None


Reader = Callable[[BinaryIO, str], Iterator[Listed]]


def read_csv(stream: BinaryIO, schema: str) -> Iterator[Listed]:
    """Read gzipped CSV without a header, whose columns ``schema`` names; keys are URL-encoded.

    Raises:
        ValueError, OSError, EOFError: it is damaged.
    """
    names = [_plain(name) for name in schema.split(",")]
    where = [names.index(name) if name in names else None for name in _COLUMNS]
    _need(names)
    text = io.TextIOWrapper(gzip.GzipFile(fileobj=stream), encoding="utf-8", newline="")
    rows = csv.reader(text, strict=True)
    try:
        for row in rows:
            if len(row) != len(names):
                raise ValueError(f"line {rows.line_num}: {len(row)} fields, not {len(names)}")
            yield _of_texts(*(None if i is None else row[i] or None for i in where))
    except (csv.Error, zlib.error) as error:
        raise ValueError(f"line {rows.line_num}: {error}") from error


def read_orc(stream: BinaryIO, schema: str) -> Iterator[Listed]:
    """Read ORC, a stripe at a time.

    Raises:
        ValueError, OSError: it is damaged.
    """
    check_pyarrow("this inventory")
    import pyarrow.orc

    file = pyarrow.orc.ORCFile(stream)
    wanted = _wanted(file.schema.names)
    for stripe in range(file.nstripes):
        batch = file.read_stripe(stripe, columns=list(wanted.values()))
        for start in range(0, batch.num_rows, ROWS):
            yield from _of_batch(batch.slice(start, ROWS), wanted)


def read_parquet(stream: BinaryIO, schema: str) -> Iterator[Listed]:
    """Read Parquet, a few thousand rows at a time.

    Raises:
        ValueError, OSError: it is damaged.
    """
    check_pyarrow("this inventory")
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(stream)
    wanted = _wanted(file.schema_arrow.names)
    for batch in file.iter_batches(batch_size=ROWS, columns=list(wanted.values())):
        yield from _of_batch(batch, wanted)


READERS: Mapping[str, Reader] = {"CSV": read_csv, "ORC": read_orc, "PARQUET": read_parquet}


def _wanted(names: list[str]) -> dict[str, str]:
    """Give the columns that count, by their plain names."""
    spelled = {_plain(name): name for name in names}
    _need(list(spelled))
    return {name: spelled[name] for name in _COLUMNS if name in spelled}


def _of_batch(batch: Any, wanted: Mapping[str, str]) -> Iterator[Listed]:
    absent = [None] * batch.num_rows
    columns = [_list(batch.column(wanted[name])) if name in wanted else absent for name in _COLUMNS]
    for bucket, key, latest, deleted, size, time, etag in zip(*columns, strict=True):
        if not isinstance(key, str):
            raise ValueError("an object has no key")
        yield Listed(bucket, key, latest is not False, bool(deleted), size, time, _bare(etag))


def _list(column: Any) -> list[Any]:
    """Give a column's values, times as nanoseconds since 1970."""
    import pyarrow

    if not pyarrow.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    # Not by Arrow, which refuses a whole column for one time that 64 bits of nanoseconds lack.
    factor = _NANOSECONDS[column.type.unit]
    times = column.cast(pyarrow.int64()).to_pylist()
    return [None if time is None else time * factor for time in times]


def _of_texts(
    bucket: str | None,
    key: str | None,
    latest: str | None,
    deleted: str | None,
    size: str | None,
    time: str | None,
    etag: str | None,
) -> Listed:
    if key is None:
        raise ValueError("an object has no key")
    return Listed(
        bucket,
        unquote_plus(key, errors="strict"),
        latest != "false",
        deleted == "true",
        None if size is None else int(size),
        None if time is None else _nanoseconds(time),
        _bare(etag),
    )


def _nanoseconds(text: str) -> int:
    time = datetime.fromisoformat(text)
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _bare(etag: str | None) -> str | None:
    # HTTP has it in quotes, and inventories mostly have not.
    return etag.strip('"') if etag else None


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "")


def _need(names: list[str]) -> None:
    if _NEEDED not in names:
        raise ValueError("it has no column for keys")
