"""Manifests: a listing kept in a Parquet file, so that no run has to list the files anew."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from batch.discovery.walk import stat_file
from batch.errors import InputError
from batch.files.regular_file import open_regular
from batch.found import FoundFile, clamp_time, make_failed, make_found
from batch.location import FILE_SCHEME, hide_secrets, is_url, parse_location, parse_scheme
from batch.log import PROGRAM
from batch.os_errors import describe_failed_access
from batch.path_text import parse_path_text, parse_printable_text, path_text, printable_text
from batch.records import Reason
from batch.reports.formats import Format
from batch.reports.tabular import ARROW_ERRORS, Column, ColumnKind, Record, check_pyarrow
from batch.reports.writers import ParquetWriter
from batch.stores.download import open_location

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
ROWS_PER_GROUP = 65_536
ROWS_PER_CHUNK = 8_192
# What a path's text may have that the path has not: escapes, and what `Path` tidies up.
_NOT_NORMALISED = re.compile(r"\\|//|/\.|/\Z|^\./")
REMEDY = "give one that `batch-label manifest` wrote, or a Parquet file with a column `path`"


def is_manifest(start: str) -> bool:
    """Tell whether an input is a manifest: a file whose name ends in ``.parquet``."""
    if not start.lower().endswith(Format.PARQUET):
        return False
    return is_url(start) or os.path.isfile(start)  # noqa: PTH113


def write_manifest(files: Iterable[FoundFile], stream: BinaryIO) -> None:
    """Write files as a manifest, in their order.

    Raises:
        UsageError: pyarrow is not installed.
        OSError: the system refuses.
    """
    _import_parquet()
    metadata = {VERSION_KEY: str(VERSION), "batch_label.version": version(PROGRAM)}
    writer = ParquetWriter(stream, COLUMNS, ROWS_PER_GROUP, metadata)
    for file in files:
        writer.write(_to_record(file))
    writer.finish()


def check_manifest(start: str) -> None:
    """Find out before the work whether a file is a manifest, by its columns.

    Raises:
        InputError: it is none, can't be read, or is a later version's.
        UsageError: pyarrow is not installed.
    """
    with _open_manifest(start):
        pass


def read_manifest(start: str) -> Iterator[FoundFile]:
    """Give the files of a manifest in its order, a few thousand in memory at a time.

    A manifest of other makers needs no column but `path`. Files of this machine whose size or
    time it does not have are looked at.

    Raises:
        InputError: as ``check_manifest`` does, or a row is wrong; the message has its number.
        UsageError: pyarrow is not installed.
    """
    return _read_rows(start, [column.name for column in COLUMNS], _parse_found)


def read_paths(start: str) -> Iterator[str]:
    """Give the paths of a manifest's files in its order, and look at none.

    Raises:
        InputError, UsageError: as ``read_manifest`` does.
    """
    return _read_rows(start, ["path"], _parse_path)


def _read_rows(start: str, columns: list[str], read: Callable[..., Row]) -> Iterator[Row]:
    with _open_manifest(start) as (file, names):
        absent, wanted, number = [None] * ROWS_PER_CHUNK, [c for c in columns if c in names], 0
        for batch in file.iter_batches(batch_size=ROWS_PER_CHUNK, columns=wanted):
            lists = [batch.column(c).to_pylist() if c in names else absent for c in columns]
            for values in zip(*lists, strict=False):
                number += 1
                try:
                    row = read(*values)
                except ValueError as error:
                    raise _make_damage_error(
                        f"{_describe_manifest(start)}, row {number}", str(error)
                    ) from error
                yield row


def _to_record(file: FoundFile) -> Record:
    failure = file.failure
    return {
        "path": path_text(parse_location(file.path)),
        "size": file.size,
        "mtime_ns": clamp_time(file.mtime_ns),
        "etag": file.etag,
        "failure": f"{failure.reason}: {printable_text(failure.detail)}" if failure else None,
    }


def _parse_found(
    text: str | None,
    size: int | None,
    mtime_ns: int | None,
    etag: str | None,
    failure: str | None,
) -> FoundFile:
    path = _parse_path(text)
    if failure is not None:
        reason, _, detail = failure.partition(": ")
        return make_failed(path, Reason(reason), parse_printable_text(detail))
    file = make_found(path, size, mtime_ns, etag)
    # A size of other makers may be none, as uint64 has some that files have not.
    if (file.size is None or mtime_ns is None) and not is_url(path):
        return stat_file(path)
    return file


def _parse_path(text: str | None) -> str:
    if not text:
        raise ValueError("no path")
    # Most texts are the path itself, and asking `Path` would make reading take three times as long.
    if is_url(text):
        plain = "\\" not in text and parse_scheme(text) != FILE_SCHEME
    else:
        plain = not _NOT_NORMALISED.search(text)
    path = hide_secrets(text) if plain else os.fspath(parse_path_text(text))
    if "\0" in path:
        raise ValueError(f"no path: {printable_text(text)} has a NUL")
    return path


@contextmanager
def _open_manifest(start: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a manifest, and name those of its columns that count."""
    parquet, called = _import_parquet(), _describe_manifest(start)
    try:
        with _open_stream(start, called) as stream:
            file = parquet.ParquetFile(stream)
            _check_schema(file.schema_arrow, called)
            names = [c.name for c in COLUMNS if c.name in file.schema_arrow.names]
            yield file, names
    except OSError as error:
        if error.errno is None:  # Arrow's own, which means what it has read
            raise _make_damage_error(called, str(error)) from error
        remedy = "check its name and rights"
        raise InputError(describe_failed_access(called, "read", error), remedy) from error
    except ARROW_ERRORS as error:
        raise _make_damage_error(called, str(error)) from error


def _open_stream(start: str, called: str) -> BinaryIO:
    place = parse_location(start)
    # Another file may have taken its place since it was told to be one.
    return (
        open_regular(place) if isinstance(place, Path) else open_location(place, called, InputError)
    )


def _check_schema(schema: Any, called: str) -> None:
    found = (schema.metadata or {}).get(VERSION_KEY.encode(), b"0")
    if not found.isdigit() or int(found) > VERSION:
        raise InputError(
            f"{called} has version {printable_text(found.decode('utf-8', 'replace'))}, not {VERSION}",
            "use the version of batch-label that wrote it, or a later one",
        )
    if schema.names.count("path") != 1:
        shown = printable_text(", ".join(schema.names))[:200]
        raise InputError(f"{called} is none: it has no column path but {shown}", REMEDY)
    for column in COLUMNS:
        if column.name in schema.names and not _has_column_type(schema, column):
            wanted = "text" if column.kind is ColumnKind.TEXT else "whole numbers"
            kind = schema.field(column.name).type
            raise InputError(f"{called} is none: {column.name} is {kind}, not {wanted}", REMEDY)


def _has_column_type(schema: Any, column: Column) -> bool:
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


def _describe_manifest(start: str) -> str:
    return f"manifest {path_text(parse_location(start))}"


def _make_damage_error(where: str, why: str) -> InputError:
    return InputError(f"{where} is damaged ({printable_text(' '.join(why.split()))})", REMEDY)


def _import_parquet() -> Any:
    check_pyarrow("a manifest")
    import pyarrow.parquet

    return pyarrow.parquet
