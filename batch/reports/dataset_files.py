"""The files of a dataset: how they are called, and the list of them that ends its making."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batch.errors import OutputError
from batch.path_text import printable
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
DIGEST_LENGTH = 12
_DIGEST = rf"-([0-9a-f]{{{DIGEST_LENGTH}}})"
_ROWS = re.compile(rf"status=[^/]+/label=[^/]+/part-[0-9]{{5,}}{_DIGEST}\.parquet")
_ORDER = re.compile(rf"{ORDER}{_DIGEST}")
# Without the digest, which is known in the end.
_IN_THE_MAKING = re.compile(rf"status=[^/]+/label=[^/]+/part-[0-9]{{5,}}|{ORDER}")
_PARTITION = re.compile(r"status=[^/]+(/label=[^/]+)?")


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

    @property
    def paths(self) -> frozenset[str]:
        """The paths of all files and of their folders, the list included."""
        files = {part.path for part in self.files}
        folders = {path[:end] for path in files for end, char in enumerate(path) if char == "/"}
        return frozenset(files | folders | {SUCCESS})


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
    """Tell whether a path in a folder is one that a file of a dataset has."""
    return name == SUCCESS or digest_in(name) is not None


def digest_in(name: str) -> str | None:
    """Give the beginning of the SHA-256 that a file of a dataset has in its path there."""
    match = _ROWS.fullmatch(name) or _ORDER.fullmatch(name)
    return match[1] if match else None


def is_in_the_making(name: str) -> bool:
    """Tell whether a path is that of a file of a dataset that is being written."""
    return _IN_THE_MAKING.fullmatch(name) is not None


def is_partition(name: str) -> bool:
    """Tell whether a path is that of a folder of a status, or of a status and label."""
    return _PARTITION.fullmatch(name) is not None


def _part(values: dict[str, Any]) -> Part:
    """Make a file of its entry in ``_SUCCESS``.

    Raises:
        ValueError, TypeError: it is none, or one outside of the dataset.
    """
    part = Part(**values)
    numbers_are_whole = type(part.rows) is type(part.bytes) is int
    # What is not printable, such as NUL, may not even be a path.
    is_path = part.path.isprintable() and digest_in(part.path) is not None
    if not numbers_are_whole or not is_path:
        raise ValueError(f"{part} is no file of a dataset")
    return part


def _escaped(value: object) -> str:
    if value is None or value == "":
        return NULL
    return _SPECIAL.sub(lambda match: f"%{ord(match.group()):02X}", str(value))
