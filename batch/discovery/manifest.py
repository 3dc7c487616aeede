"""Manifests: a listing kept in a Parquet file, so that no run has to list the files anew."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from batch.discovery.walk import look_at
from batch.errors import InputError
from batch.files.regular_file import open_regular
from batch.found import Found, fail, find, stored_time
from batch.location import FILE_SCHEME, hide_secrets, is_url, location_of, scheme_of
from batch.log import PROGRAM
from batch.os_errors import describe_refusal
from batch.path_text import from_printable, path_from_text, path_text, printable
from batch.records import Reason
from batch.reports.formats import (
    ARROW_ERRORS,
    Column,
    ColumnKind,
    Format,
    ParquetWriter,
    Record,
    check_pyarrow,
)
from batch.stores.download import opened

Row = TypeVar("Row")
# The version of what docs/shards.md describes; readers refuse later ones.
VERSION = 1
VERSION_KEY = "batch_label.manifest"
COLUMNS = (
    Column("path"),
    Column("size", ColumnKind.INT64),
    Column("mtime_ns", ColumnKind.INT64),
    Column("etag"),
    Column("failure"),
)
# Rows that are held in memory as they are written, and as they are read.
GROUP = 65_536
CHUNK = 8_192
# What a path's text may have that the path has not: escapes, and what `Path` tidies up.
_UNTIDY = re.compile(r"\\|//|/\.|/\Z|^\./")
REMEDY = "give one that `batch-label manifest` wrote, or a Parquet file with a column `path`"


def is_manifest(start: str) -> bool:
    """Tell whether an input is a manifest: a file whose name ends in ``.parquet``."""
    if not start.lower().endswith(Format.PARQUET):
        return False
    return is_url(start) or os.path.isfile(start)  # noqa: PTH113


def write_manifest(files: Iterable[Found], stream: BinaryIO) -> None:
    """Write files as a manifest, in their order.

    Raises:
        UsageError: pyarrow is not installed.
        OSError: the system refuses.
    """
    _parquet()
    metadata = {VERSION_KEY: str(VERSION), "batch_label.version": version(PROGRAM)}
    writer = ParquetWriter(stream, COLUMNS, GROUP, metadata)
    for file in files:
        writer.write(_record(file))
    writer.finish()


def check_manifest(start: str) -> None:
    """Find out before the work whether a file is a manifest, by its columns.

    Raises:
        InputError: it is none, can't be read, or is a later version's.
        UsageError: pyarrow is not installed.
    """
    with _open(start):
        pass


def read_manifest(start: str) -> Iterator[Found]:
    """Give the files of a manifest in its order, a few thousand in memory at a time.

    A manifest of other makers needs no column but `path`. Files of this machine whose size or
    time it does not have are looked at.

    Raises:
        InputError: as ``check_manifest`` does, or a row is wrong; the message has its number.
        UsageError: pyarrow is not installed.
    """
    return _rows(start, [column.name for column in COLUMNS], _found)


def read_paths(start: str) -> Iterator[str]:
    """Give the paths of a manifest's files in its order, and look at none.

    Raises:
        InputError, UsageError: as ``read_manifest`` does.
    """
    return _rows(start, ["path"], _path)


def _rows(start: str, columns: list[str], read: Callable[..., Row]) -> Iterator[Row]:
    with _open(start) as (file, names):
        absent, wanted, number = [None] * CHUNK, [c for c in columns if c in names], 0
        for batch in file.iter_batches(batch_size=CHUNK, columns=wanted):
            lists = [batch.column(c).to_pylist() if c in names else absent for c in columns]
            for values in zip(*lists, strict=False):
                number += 1
                try:
                    row = read(*values)
                except ValueError as error:
                    raise _damaged(f"{_called(start)}, row {number}", str(error)) from error
                yield row


def _record(file: Found) -> Record:
    failure = file.failure
    return {
        "path": path_text(location_of(file.path)),
        "size": file.size,
        "mtime_ns": stored_time(file.mtime_ns),
        "etag": file.etag,
        "failure": f"{failure.reason}: {printable(failure.detail)}" if failure else None,
    }


def _found(
    text: str | None,
    size: int | None,
    mtime_ns: int | None,
    etag: str | None,
    failure: str | None,
) -> Found:
    path = _path(text)
    if failure is not None:
        reason, _, detail = failure.partition(": ")
        return fail(path, Reason(reason), from_printable(detail))
    file = find(path, size, mtime_ns, etag)
    # A size of other makers may be none, as uint64 has some that files have not.
    if (file.size is None or mtime_ns is None) and not is_url(path):
        return look_at(path)
    return file


def _path(text: str | None) -> str:
    if not text:
        raise ValueError("no path")
    # Most texts are the path itself, and asking `Path` would make reading take three times as long.
    if is_url(text):
        plain = "\\" not in text and scheme_of(text) != FILE_SCHEME
    else:
        plain = not _UNTIDY.search(text)
    path = hide_secrets(text) if plain else os.fspath(path_from_text(text))
    if "\0" in path:
        raise ValueError(f"no path: {printable(text)} has a NUL")
    return path


@contextmanager
def _open(start: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a manifest, and name those of its columns that count."""
    parquet, called = _parquet(), _called(start)
    try:
        with _stream(start, called) as stream:
            file = parquet.ParquetFile(stream)
            _check(file.schema_arrow, called)
            names = [c.name for c in COLUMNS if c.name in file.schema_arrow.names]
            yield file, names
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise _damaged(called, str(error)) from error
        remedy = "check its name and rights"
        raise InputError(describe_refusal(called, "read", error), remedy) from error
    except ARROW_ERRORS as error:
        raise _damaged(called, str(error)) from error


def _stream(start: str, called: str) -> BinaryIO:
    place = location_of(start)
    # Another file may have taken its place since it was told to be one.
    return open_regular(place) if isinstance(place, Path) else opened(place, called, InputError)


def _check(schema: Any, called: str) -> None:
    found = (schema.metadata or {}).get(VERSION_KEY.encode(), b"0")
    if not found.isdigit() or int(found) > VERSION:
        raise InputError(
            f"{called} has version {printable(found.decode('utf-8', 'replace'))}, not {VERSION}",
            "use the version of batch-label that wrote it, or a later one",
        )
    if schema.names.count("path") != 1:
        shown = printable(", ".join(schema.names))[:200]
        raise InputError(f"{called} is none: it has no column path but {shown}", REMEDY)
    for column in COLUMNS:
        if column.name in schema.names and not _fits(schema, column):
            wanted = "text" if column.kind is ColumnKind.TEXT else "whole numbers"
            kind = schema.field(column.name).type
            raise InputError(f"{called} is none: {column.name} is {kind}, not {wanted}", REMEDY)


def _fits(schema: Any, column: Column) -> bool:
    import pyarrow.types as types

    if schema.names.count(column.name) != 1:
        return False
    kind = schema.field(column.name).type
    if types.is_null(kind):
        return column.name != "path"
    if column.kind is ColumnKind.INT64:
        return bool(types.is_integer(kind))
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _called(start: str) -> str:
    return f"manifest {path_text(location_of(start))}"


def _damaged(where: str, why: str) -> InputError:
    return InputError(f"{where} is damaged ({printable(' '.join(why.split()))})", REMEDY)


def _parquet() -> Any:
    check_pyarrow("a manifest")
    import pyarrow.parquet

    return pyarrow.parquet
