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
FRAME_HEADER = struct.Struct("<BI")
READY = b"\n"  # said once, before the first question
MAX_FRAME_BYTES = 4 * 1024**2  # bytes
MAX_TEXT_CHARS = 1000  # characters of what is wrong
# A name that was cut has a digest.
_Name = Annotated[bytes, msgspec.Meta(max_length=MAX_PATH_BYTES)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]


class FrameKind(IntEnum):
    """What a frame is."""

    REQUEST = 0
    MEMBERS = 1
    DATA = 2
    BUSY = 3
    PROBLEM = 4
    END = 5


class RequestKind(IntEnum):
    """What is asked for."""

    LIST = 0
    FIND = 1
    READ = 2


class ArchiveRequest(msgspec.Struct, array_like=True):
    """A question: for all members of an archive, for one, or for at most ``max_bytes`` of its bytes."""

    task: RequestKind
    path: bytes
    name: bytes = b""
    max_bytes: int = 0


class MemberRecord(msgspec.Struct, array_like=True):
    """A member: see ``archive.Member``."""

    name: _Name
    size: _Size
    why: _Text
    reason: Reason
    skipped: bool = False


class ArchiveProblem(msgspec.Struct, array_like=True):
    """Why there is no answer, or no more of it.

    ``is_transient`` if it may be better next time, ``process_ends`` if the process ends, and a ``remedy`` where
    no run can go on.
    """

    reason: Reason
    detail: _Text
    is_transient: bool = False
    process_ends: bool = False
    remedy: _Text = ""


def pack_frame(kind: FrameKind, content: bytes = b"") -> bytes:
    """Write a frame."""
    return FRAME_HEADER.pack(kind, len(content)) + content


def encode_name(name: str) -> bytes:
    """Write a name, of a file or in an archive, as both sides do whatever their locale is."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(data: bytes) -> str:
    """Read what ``encode_name`` wrote."""
    return data.decode("utf-8", "surrogateescape")


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(ArchiveRequest).decode
decode_members = msgspec.msgpack.Decoder(list[MemberRecord]).decode
decode_problem = msgspec.msgpack.Decoder(ArchiveProblem).decode
