"""Manifests: listings of files in Parquet, written once and read by later runs.

docs/shards.md describes the format.
"""

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

Parsed = TypeVar("Parsed")
VERSION = 1  # of the format; later ones are refused
VERSION_KEY = "batch_label.manifest"
COLUMNS = (
    Column("path"),
    Column("size", ColumnKind.INT64),
    Column("mtime_ns", ColumnKind.INT64),
    Column("etag"),
    Column("failure"),
)
ROWS_PER_GROUP = 65_536  # in memory while a manifest is written
ROWS_PER_CHUNK = 8_192  # in memory while a manifest is read
# Matches texts that differ from their path: escapes, and parts that `Path` removes.
_NOT_NORMALISED = re.compile(r"\\|//|/\.|/\Z|^\./")
REMEDY = "make one with `batch-label manifest`, or give a Parquet file with a column `path`"


def is_manifest(start: str) -> bool:
    """Return whether an input is a manifest: a file whose name ends in ``.parquet``."""
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
    """Check before the run that a file is a manifest, by its columns.

    Raises:
        InputError: it is not, can't be read, or has a later version.
        UsageError: pyarrow is not installed.
    """
    with _open_manifest(start):
        pass


def read_manifest(start: str) -> Iterator[FoundFile]:
    """Yield the files of a manifest in its order.

    Only the column `path` is required. Local files without a size or time in it are looked up on
    the file system.

    Raises:
        InputError: as for ``check_manifest``, or a row is invalid; the message has its number.
        UsageError: pyarrow is not installed.
    """
    return _read_rows(start, [column.name for column in COLUMNS], _parse_found)


def read_paths(start: str) -> Iterator[str]:
    """Yield the paths in a manifest in its order, without looking up the files.

    Raises:
        InputError, UsageError: as for ``read_manifest``.
    """
    return _read_rows(start, ["path"], _parse_path)


def _read_rows(start: str, columns: list[str], parse: Callable[..., Parsed]) -> Iterator[Parsed]:
    with _open_manifest(start) as (file, names):
        missing, wanted, number = [None] * ROWS_PER_CHUNK, [c for c in columns if c in names], 0
        for batch in file.iter_batches(batch_size=ROWS_PER_CHUNK, columns=wanted):
            lists = [batch.column(c).to_pylist() if c in names else missing for c in columns]
            for values in zip(*lists, strict=False):
                number += 1
                try:
                    row = parse(*values)
                except ValueError as error:
                    where = f"{_describe_manifest(start)}, row {number}"
                    raise _make_damage_error(where, str(error)) from error
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
    # The size may also be unknown because a uint64 was out of range.
    if (file.size is None or mtime_ns is None) and not is_url(path):
        return stat_file(path)
    return file


def _parse_path(text: str | None) -> str:
    if not text:
        raise ValueError("no path")
    # Most texts are the path itself; `Path` for each would triple the time of reading.
    if is_url(text):
        plain = "\\" not in text and parse_scheme(text) != FILE_SCHEME
    else:
        plain = not _NOT_NORMALISED.search(text)
    path = hide_secrets(text) if plain else os.fspath(parse_path_text(text))
    if "\0" in path:
        raise ValueError(f"path {printable_text(text)} has a NUL")
    return path


@contextmanager
def _open_manifest(start: str) -> Iterator[tuple[Any, list[str]]]:
    """Open a manifest as a ParquetFile, together with the names of its known columns."""
    parquet, display_name = _import_parquet(), _describe_manifest(start)
    try:
        with _open_stream(start, display_name) as stream:
            file = parquet.ParquetFile(stream)
            _check_schema(file.schema_arrow, display_name)
            names = [c.name for c in COLUMNS if c.name in file.schema_arrow.names]
            yield file, names
    except OSError as error:
        if error.errno is None:  # raised by Arrow for damaged data
            raise _make_damage_error(display_name, str(error)) from error
        remedy = "check its name and permissions"
        raise InputError(describe_failed_access(display_name, "read", error), remedy) from error
    except ARROW_ERRORS as error:
        raise _make_damage_error(display_name, str(error)) from error


def _open_stream(start: str, display_name: str) -> BinaryIO:
    location = parse_location(start)
    if isinstance(location, Path):
        return open_regular(location)  # the file may have been replaced by a pipe
    return open_location(location, display_name, InputError)


def _check_schema(schema: Any, display_name: str) -> None:
    file_version = (schema.metadata or {}).get(VERSION_KEY.encode(), b"0")
    if not file_version.isdigit() or int(file_version) > VERSION:
        shown = printable_text(file_version.decode("utf-8", "replace"))
        raise InputError(
            f"{display_name} has version {shown}, not {VERSION}",
            "use the version of batch-label that wrote it, or a later one",
        )
    if schema.names.count("path") != 1:
        shown = printable_text(", ".join(schema.names))[:200]
        raise InputError(f"{display_name} is not a manifest: no column path among {shown}", REMEDY)
    for column in COLUMNS:
        if column.name in schema.names and not _has_column_type(schema, column):
            wanted = "text" if column.kind is ColumnKind.TEXT else "whole numbers"
            kind = schema.field(column.name).type
            problem = f"{column.name} is {kind}, not {wanted}"
            raise InputError(f"{display_name} is not a manifest: {problem}", REMEDY)


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
