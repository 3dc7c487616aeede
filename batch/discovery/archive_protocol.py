"""Messages between a run and its archive process: a request, then frames in reply.

Replies are validated against their types and limits, and never unpickled.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated

import msgspec

from batch.found import MAX_PATH_BYTES
from batch.records import Reason

FRAME_HEADER = struct.Struct("<BI")  # a FrameKind, and the length of the content in bytes
READY = b"\n"  # sent once, before the first request
MAX_FRAME_BYTES = 4 * 1024**2
MAX_TEXT_CHARS = 1000  # of an error's text
_Name = Annotated[bytes, msgspec.Meta(max_length=MAX_PATH_BYTES)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]


class FrameKind(IntEnum):
    """The type of a frame."""

    REQUEST = 0
    MEMBERS = 1
    DATA = 2
    BUSY = 3
    PROBLEM = 4
    END = 5


class RequestKind(IntEnum):
    """The type of a request."""

    LIST = 0
    FIND = 1
    READ = 2


class ArchiveRequest(msgspec.Struct, array_like=True):
    """A request for an archive.

    Attributes:
        kind: list all members, find one, or read one.
        path: the archive's path or URL, from ``encode_name``.
        name: the member's name, from ``encode_name``.
        max_bytes: how much of the member to read.
    """

    kind: RequestKind
    path: bytes
    name: bytes = b""
    max_bytes: int = 0


class MemberRecord(msgspec.Struct, array_like=True):
    """A member of an archive: see ``archive.Member``."""

    name: _Name
    size: _Size
    detail: _Text
    reason: Reason
    is_skipped: bool = False


class ArchiveProblem(msgspec.Struct, array_like=True):
    """An error that ends a reply.

    Attributes:
        reason: the reason in the report.
        detail: what is wrong.
        is_transient: a retry may help.
        process_ends: the process exits after this reply.
        remedy: the remedy if the run can't go on; else empty.
    """

    reason: Reason
    detail: _Text
    is_transient: bool = False
    process_ends: bool = False
    remedy: _Text = ""


def pack_frame(kind: FrameKind, content: bytes = b"") -> bytes:
    """Return a frame as bytes."""
    return FRAME_HEADER.pack(kind, len(content)) + content


def encode_name(name: str) -> bytes:
    """Encode a path or a member's name, independently of the locale."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(data: bytes) -> str:
    """Decode the bytes from ``encode_name``."""
    return data.decode("utf-8", "surrogateescape")


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(ArchiveRequest).decode
decode_members = msgspec.msgpack.Decoder(list[MemberRecord]).decode
decode_problem = msgspec.msgpack.Decoder(ArchiveProblem).decode
