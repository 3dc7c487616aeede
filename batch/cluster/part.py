"""What an actor leaves of a block: a Parquet file with what the journal keeps of each file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from typing import Any

from batch.found import stored_time
from batch.location import location_of
from batch.records import FileState, Finished
from batch.row_json import pack_row, unpack_row

# In the file's metadata: what it is, and what its answers depend on.
KIND = b"batch-label"
FORMAT = b"part 2"
BASIS = b"basis"
COLUMNS = ("path", "size", "mtime_ns", "etag", "digest", "copied", "row")


class PartError(Exception):
    """A part that is not to be used; ``str()`` of it says why."""


class OtherBasis(PartError):
    """A part of other models or settings."""


def pack_part(finished: Sequence[Finished], basis: bytes) -> bytes:
    """Write what is known of files as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*map(_packed, finished), strict=True) if finished else ((),) * len(COLUMNS)
    table = pa.table(list(columns), schema=_schema(basis))
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def unpack_part(data: bytes, basis: bytes) -> list[Finished]:
    """Read a part back as a whole.

    Raises:
        OtherBasis: its answers depend on something else.
        PartError: it is torn, or nothing that ``pack_part`` wrote.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(data))
        metadata = table.schema.metadata or {}
        if metadata.get(KIND) != FORMAT or not table.schema.equals(_schema(basis)):
            raise PartError("it is no part of this version")
        if metadata.get(BASIS) != basis.hex().encode():
            raise OtherBasis("it is of other models or settings")
        return [_unpacked(*values) for values in zip(*table.to_pydict().values(), strict=True)]
    except (pa.ArrowException, OSError) as error:
        raise PartError("it is torn, or no Parquet file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PartError(f"a row in it makes no sense: {error}") from error


def _schema(basis: bytes) -> Any:
    import pyarrow as pa

    kinds = (*(pa.binary(), pa.int64(), pa.int64(), pa.string()), *(pa.binary(), pa.bool_()))
    fields = zip(COLUMNS, (*kinds, pa.binary()), strict=True)
    return pa.schema(list(fields), metadata={KIND: FORMAT, BASIS: basis.hex().encode()})


def _packed(finished: Finished) -> tuple[Any, ...]:
    row, state = finished.row, finished.state or FileState()
    return (
        *(os.fsencode(row.path), state.size, stored_time(state.mtime_ns)),
        *(state.etag, state.digest, finished.copied, finished.text or pack_row(row)),
    )


def _unpacked(
    path: bytes,
    size: int | None,
    mtime_ns: int | None,
    etag: str | None,
    digest: bytes | None,
    copied: bool,
    row: bytes,
) -> Finished:
    if digest is not None and len(digest) != sha256().digest_size:
        raise ValueError(f"a digest of {len(digest)} bytes")
    state = FileState(size, mtime_ns, digest, etag)
    location = location_of(os.fsdecode(path))
    return Finished(unpack_row(location, row), state if state != FileState() else None, copied)
