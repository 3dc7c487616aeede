"""The files of a dataset: how they are called, and the list of them that ends its making."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batch.errors import OutputError
from batch.names import printable
from batch.reports.formats import Record

PARTITIONS = ("status", "label")
# Source: https://github.com/apache/hive, FileUtils.makePartName and ConfVars DEFAULTPARTITIONNAME.
NULL = "__HIVE_DEFAULT_PARTITION__"
SUCCESS = "_SUCCESS"
# Readers of datasets pass over what begins with an underscore, whatever it ends in.
ORDER = "_order"
SCHEMA_VERSION = 1
# Bytes of a folder's name: what file systems take.
MAX_FOLDER = 255

_SPECIAL = re.compile(r"[\x00-\x1f\"#%'*/:=?\\\x7f{\[\]^]")
# Also without the digest, while the file is in the making.
_ROWS = re.compile(r"status=[^/]+/label=[^/]+/part-[0-9]{5,}(-[0-9a-f]{12}\.parquet)?")
_ORDER = re.compile(rf"{ORDER}(-[0-9a-f]{{12}})?")


@dataclass(frozen=True)
class Part:
    """One file of a dataset: its path in it, its rows, its bytes, and its SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What ``_SUCCESS`` lists: the files with the rows, and the one with their order.

    The latter is Parquet too and has status and label of all rows, one after another, so that
    the next row of such a report is the next one in the files of that status and label.
    """

    parts: tuple[Part, ...]
    order: Part

    @property
    def files(self) -> tuple[Part, ...]:
        """All files but the list itself."""
        return (*self.parts, self.order)


def partition_of(record: Record) -> str:
    """Name the folder of a record: ``status=ok/label=happy``."""
    status, label = (record[name] for name in PARTITIONS)
    return f"status={_escaped(status)}/{label_folder(label)}"


def label_folder(label: object) -> str:
    """Name the folder of a label, as reports write it, or of none."""
    return f"label={_escaped(label)}"


def success(parts: Sequence[Part], order: Part) -> bytes:
    """Give the content of ``_SUCCESS``: all files of a dataset, in the order of their paths."""
    content = {
        "written_by": "batch-label",
        "schema_version": SCHEMA_VERSION,
        "rows": sum(part.rows for part in parts),
        "files": [asdict(part) for part in sorted(parts, key=lambda part: part.path)],
        "order": asdict(order),
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def contents_of(success: bytes) -> Contents | None:
    """Read ``_SUCCESS``; None where this program did not write it."""
    try:
        values = json.loads(success)
        if values["written_by"] != "batch-label":
            return None
        return Contents(tuple(map(_part, values["files"])), _part(values["order"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def refusal(place: str, name: str) -> OutputError:
    """Make the error for a place that holds what no dataset has."""
    return OutputError(
        f"{place} holds {printable(name)}, which is no part of a dataset of batch-label",
        "name another folder with -o",
    )


def is_own(name: str) -> bool:
    """Tell whether a path in a folder is one that a dataset has, or has in the making."""
    return name == SUCCESS or any(pattern.fullmatch(name) for pattern in (_ROWS, _ORDER))


def _part(values: dict[str, Any]) -> Part:
    """Make a file of its entry in ``_SUCCESS``.

    Raises:
        ValueError, TypeError: it is none, or one outside of the dataset.
    """
    part = Part(**values)
    numbers_are_whole = type(part.rows) is type(part.bytes) is int
    if not numbers_are_whole or not is_own(part.path):
        raise ValueError(f"{part} is no file of a dataset")
    return part


def _escaped(value: object) -> str:
    if value is None or value == "":
        return NULL
    return _SPECIAL.sub(lambda match: f"%{ord(match.group()):02X}", str(value))
