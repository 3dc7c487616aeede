"""An operation on one file, and its row in the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from types import NoneType

from batch.applying.transfer import How
from batch.files.drafts import DRAFT_SUFFIX_PATTERN


class Kind(StrEnum):
    """What an operation does to files.

    Attributes:
        MAKE: makes a copy or link of a photo at ``target``.
        RENAME: renames what was made or moved from ``previous`` to ``target``.
        REMOVE: removes what was made at ``previous``.
        MOVE: moves the photo ``source`` to ``target``.
        WRITE: writes the sidecar ``target``, or takes out what was written.
    """

    MAKE = "make"
    RENAME = "rename"
    REMOVE = "remove"
    MOVE = "move"
    WRITE = "write"


class State(StrEnum):
    """State of an operation: ``UNDOING`` while it is undone."""

    INTENDED = "intended"
    DONE = "done"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True)
class Operation:
    """One operation on one file.

    Attributes:
        kind: what is done.
        action: name of the action that does it, with its folder.
        source: absolute path of the photo, as bytes.
        wanted: the path that the file should have, before a number is added.
        how: ``copy`` or the kind of link that was made; the root of the keywords in a sidecar.
        number: the number in the name of ``target``; 1 for none.
        target: the file that is there afterwards; None after ``REMOVE``.
        previous: the file that was there before ``RENAME`` and ``REMOVE``.
        digest: SHA-256 of the photo.
        source_key: state of the photo, see ``make_source_key``.
        target_key: state of what was made, see ``make_target_key``.
        before: bytes of the sidecar before ``WRITE``, compressed; None if it did not exist.
        written: SHA-256 of the sidecar after ``WRITE``; None if it was removed.
        content: SHA-256 of the content that ``WRITE`` put in; None if it took content out.
        draft: a temporary file that exists only while the operation is done.
        after_run: whether a run of ``batch-label`` wrote the content, or found it written.
        id: number of the operation; 0 if it is not recorded yet.
        run: number of the run that did it.
        state: whether it is done.
    """

    kind: Kind
    action: bytes
    source: bytes
    how: str = ""
    wanted: bytes | None = None
    number: int = 1
    target: bytes | None = None
    previous: bytes | None = None
    digest: bytes | None = None
    source_key: str | None = None
    target_key: str | None = None
    before: bytes | None = None
    written: bytes | None = None
    content: bytes | None = None
    draft: bytes | None = None
    after_run: bool = False
    id: int = 0
    run: int = 0
    state: State = State.INTENDED


# Types in the database, by those of the fields.
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "Kind": (str,),
    "State": (str,),
    "str": (str,),
    "int": (int,),
    "bool": (int,),
    "bytes": (bytes,),
    "str | None": (str, NoneType),
    "bytes | None": (bytes, NoneType),
}
# Paths that an operation must have, besides ``source``.
_NEEDED_PATHS = {
    Kind.MAKE: ("target",),
    Kind.RENAME: ("target", "previous"),
    Kind.REMOVE: ("previous",),
    Kind.MOVE: ("target",),
    Kind.WRITE: ("target",),
}
_TYPES = {field.name: _PYTHON_TYPES[str(field.type)] for field in fields(Operation)}
_DRAFT = re.compile(rf"{DRAFT_SUFFIX_PATTERN}\Z".encode())
COLUMNS = tuple(field.name for field in fields(Operation))


def to_values(operation: Operation) -> Iterator[tuple[str, object]]:
    """Yield the columns of an operation with their values in the database."""
    for name, value in zip(COLUMNS, astuple(operation), strict=True):
        yield name, str(value) if isinstance(value, StrEnum) else value


def parse_operation(row: tuple[object, ...]) -> Operation:
    """Build an operation from a row of the database.

    Raises:
        ValueError: the database is damaged: the row is not an operation.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    for name, types in _TYPES.items():
        if not isinstance(values[name], types):
            raise ValueError(f"operation {values['id']} has an invalid {name}")
    values["kind"], values["state"] = Kind(str(values["kind"])), State(str(values["state"]))
    values["after_run"] = bool(values["after_run"])
    operation = Operation(**values)  # type: ignore[arg-type]
    needed = ("source", *_NEEDED_PATHS[operation.kind])
    for name in ("source", "target", "previous", "wanted", "draft"):
        path = getattr(operation, name)
        is_valid = path is not None and path.startswith(b"/") and b"\0" not in path
        if not is_valid and (path is not None or name in needed):
            raise ValueError(f"operation {operation.id} has an invalid {name}")
    # The name of an action that fills a folder ends in its path.
    root = operation.action[operation.action.find(b"/") :].rstrip(b"/")
    if operation.wanted is not None and not operation.wanted.startswith(root + b"/"):
        raise ValueError(f"operation {operation.id} has an invalid wanted")
    if operation.kind in (Kind.MAKE, Kind.REMOVE):
        How(operation.how)
    # Drafts are removed after a kill.
    if operation.draft is not None and not _DRAFT.search(operation.draft):
        raise ValueError(f"operation {operation.id} has an invalid draft")
    return operation
