"""What passes between a run and a process that reads archives: a question, and frames in answer.

Nothing that the process says is believed unless it is checked, and nothing is unpickled.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated

import msgspec

from batch.found import MAX_PATH_BYTES
from batch.records import Reason

# In front of a frame: what it is, and its length in bytes.
HEAD = struct.Struct("<BI")
READY = b"\n"  # said once, before the first question
MAX_FRAME = 4 * 1024**2  # bytes
MAX_WORDS = 1000  # characters of what is wrong
# A name that was cut has a digest.
_Name = Annotated[bytes, msgspec.Meta(max_length=MAX_PATH_BYTES)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Words = Annotated[str, msgspec.Meta(max_length=MAX_WORDS)]


class Kind(IntEnum):
    """What a frame is."""

    ASK = 0
    MEMBERS = 1
    DATA = 2
    BUSY = 3
    PROBLEM = 4
    END = 5


class Task(IntEnum):
    """What is asked for."""

    LIST = 0
    FIND = 1
    READ = 2


class Ask(msgspec.Struct, array_like=True):
    """A question: for all members of an archive, for one, or for at most ``most`` of its bytes."""

    task: Task
    path: bytes
    name: bytes = b""
    most: int = 0


class Listed(msgspec.Struct, array_like=True):
    """A member: see ``archive.Member``."""

    name: _Name
    size: _Size
    why: _Words
    reason: Reason
    left_out: bool = False


class Problem(msgspec.Struct, array_like=True):
    """Why there is no answer, or no more of it.

    ``passing`` if it may be better next time, ``dying`` if the process ends, and a ``remedy`` where
    no run can go on.
    """

    reason: Reason
    detail: _Words
    passing: bool = False
    dying: bool = False
    remedy: _Words = ""


def pack(kind: Kind, content: bytes = b"") -> bytes:
    """Write a frame."""
    return HEAD.pack(kind, len(content)) + content


def name_bytes(name: str) -> bytes:
    """Write a name, of a file or in an archive, as both sides do whatever their locale is."""
    return name.encode("utf-8", "surrogateescape")


def name_text(data: bytes) -> str:
    """Read what ``name_bytes`` wrote."""
    return data.decode("utf-8", "surrogateescape")


encode = msgspec.msgpack.Encoder().encode
decode_ask = msgspec.msgpack.Decoder(Ask).decode
decode_members = msgspec.msgpack.Decoder(list[Listed]).decode
decode_problem = msgspec.msgpack.Decoder(Problem).decode
