"""Reads the file of an offline run of Weights & Biases with the library's own messages."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The file is a header and then blocks of LevelDB's log format: pieces of records, each with a
# checksum, a length and a kind. https://github.com/google/leveldb/blob/main/doc/log_format.md
HEADER_BYTES = 7
PIECE_HEADER = struct.Struct("<IHB")
BLOCK_BYTES = 32768
FULL, LAST = 1, 4


def read_wandb_records(run: Path) -> Iterator[Any]:
    """Yield the records of the only offline run in a run's folder."""
    from wandb.proto import wandb_internal_pb2

    (path,) = run.glob("wandb/offline-run-*/run-*.wandb")
    data, at, record = path.read_bytes(), HEADER_BYTES, b""
    assert data.startswith(b":W&B")
    while at < len(data):
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < PIECE_HEADER.size:
            at += left
            continue
        _, length, kind = PIECE_HEADER.unpack_from(data, at)
        at += PIECE_HEADER.size
        record += data[at : at + length]
        at += length
        if kind in (FULL, LAST):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def to_values(items: Any) -> dict[str, Any]:
    """Convert the items of a record to values by name."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
