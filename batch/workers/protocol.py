"""What passes between a run and its workers: questions, perhaps a verdict, and replies.

A file may have taken over the process that replies, so that nothing is believed that was not
checked, and nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from batch.errors import BatchLabelError, ModelError, ProviderError
from batch.location import Location
from batch.options import MAX_DETAIL_PIXELS, MAX_SIDE
from batch.records import MAX_DETAIL_CHARS, Failure, FileState, Row
from batch.row_json import (
    MAX_PHOTO_SIDE,
    MAX_ROW_BYTES,
    check_outputs,
    pack_failure,
    pack_row,
    unpack_failure,
    unpack_row,
)
from batch.timings import CLASSIFY, CROP, DECODE, FACES

if TYPE_CHECKING:  # Pillow costs start-up time, and a run on the CPU needs none of it
    from batch.vision.decode import DecodedImage

# Asks for a photo: the length of its path in bytes, which follow; whether a digest, a verdict
# before it is decoded, what is there of a truncated photo, and the photo's detail are wanted. If
# the path is a URL, a zero byte comes next, and with it the descriptor of a file with its bytes.
REQUEST_HEADER = struct.Struct("<I????")
# Of a reply: its kind; whether the file was read, its size, mtime, ctime, inode and digest; seconds
# of reading and of STAGES; rows, columns, width and height of a picture; and the length of its
# text, which follows: a failure, a row or what is wrong with a picture. The mtime is in seconds and
# nanoseconds, as 64 bits of nanoseconds end in 2262 and files do not.
REPLY_HEADER = struct.Struct("<B ?qqIqq32s d4d IIII I")
# The verdict on a file that was read: whether it is to be labelled.
VERDICT_LABEL, VERDICT_SKIP = b"\1", b"\0"
# Room for a detail. Of the file, which is in memory, only what was written so far takes any.
MAX_SHARED_BYTES = max(MAX_SIDE * MAX_SIDE, MAX_DETAIL_PIXELS) * 3

START_ERRORS = {kind.__name__: kind for kind in (ModelError, ProviderError)}

_NO_DIGEST, _NO_SIZE = bytes(32), (0, 0, 0, 0)
_NS_PER_SECOND = 1_000_000_000
# Those whose seconds are in a reply, besides reading.
REPLY_STAGES = (DECODE, FACES, CROP, CLASSIFY)


class ReplyKind(IntEnum):
    """What a reply holds; after ``READ`` a worker waits for the verdict."""

    FAILURE = 0
    READ = 1
    PICTURE = 2
    LABEL = 3


class InvalidReply(Exception):
    """A reply that no sound process sends."""


@dataclass(frozen=True)
class WorkerRequest:
    """What a worker is asked for a file.

    Attributes:
        location: where the file lies. A worker reads paths itself.
        data: the bytes of a file at a URL: a worker lacks what it takes to fetch them, and what
            may take it over shall not have that either.
        digest: whether the SHA-256 of its bytes is wanted.
        may_be_known: whether its row may be known, by the digest: the worker then asks before it
            decodes the file.
        salvage: whether the readable part of a truncated photo will do, see ``decode_upright``.
        in_detail: whether the photo's detail is wanted.
    """

    location: Location
    data: bytes | None = None
    digest: bool = False
    may_be_known: bool = False
    salvage: bool = False
    in_detail: bool = False


@dataclass(frozen=True)
class SharedPixels:
    """The pixels that were handed over: rows, columns, and the file's width and height.

    ``salvaged`` is as in ``DecodedImage``.
    """

    rows: int
    columns: int
    width: int
    height: int
    salvaged: str = ""


@dataclass(frozen=True)
class TimedRow:
    """A photo's row, and the seconds that each stage took."""

    row: Row
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class WorkerReply:
    """What a worker says of one file.

    ``content`` is None if it waits for a verdict, a picture whose pixels are in the memory that is
    shared with it, a failure, or a row as text. ``seconds`` are those of each stage.
    """

    content: SharedPixels | Failure | bytes | None
    state: FileState | None
    read_seconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def pack_start_error(error: BatchLabelError) -> bytes:
    """Write what keeps a worker from working as its first line."""
    words = [type(error).__name__, error.problem, error.remedy]
    return json.dumps(words).encode() + b"\n"


def unpack_start_error(line: bytes) -> BatchLabelError | None:
    """Read a worker's first line, if it says what keeps it from working."""
    try:
        name, problem, remedy = map(str, json.loads(line))
        return START_ERRORS[name](problem, remedy)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def pack_request(request: WorkerRequest) -> bytes:
    """Write a question, without the descriptor of its data."""
    path = os.fsencode(request.location)
    flags = (request.digest, request.may_be_known, request.salvage, request.in_detail)
    return REQUEST_HEADER.pack(len(path), *flags) + path


def pack_reply(
    content: DecodedImage | Failure | TimedRow | None,
    state: FileState | None,
    read_seconds: float = 0.0,
    decode_seconds: float = 0.0,
) -> bytes:
    """Write a reply; its content is None to ask for the verdict."""
    known = state or FileState()
    mtime = divmod(known.mtime_ns or 0, _NS_PER_SECOND)
    inode = (known.ctime_ns or 0, known.inode or 0)
    read = (state is not None, known.size or 0, *mtime, *inode, known.digest or _NO_DIGEST)
    kind, size, text = ReplyKind.READ, _NO_SIZE, b""
    by_stage: Mapping[str, float] = {}
    if isinstance(content, Failure):
        kind, text = ReplyKind.FAILURE, pack_failure(content)
    elif isinstance(content, TimedRow):
        kind, text = ReplyKind.LABEL, pack_row(content.row)
        by_stage = content.seconds
    elif content:
        columns, rows = content.image.size
        kind, size = ReplyKind.PICTURE, (rows, columns, content.width, content.height)
        text = content.salvaged.encode(errors="replace")
    passed = [by_stage.get(stage, 0.0) for stage in REPLY_STAGES]
    passed[0] += decode_seconds  # besides what the labeller has decoded
    return REPLY_HEADER.pack(kind, *read, read_seconds, *passed, *size, len(text)) + text


def unpack_reply(
    request: WorkerRequest, data: bytearray, start: int
) -> tuple[WorkerReply, int] | None:
    """Read the reply that begins at ``start``, and give where it ends; None until all is there.

    Raises:
        BadReply: it can't be true.
    """
    at = start + REPLY_HEADER.size
    if len(data) < at:
        return None
    kind, is_known, size, mtime, nanoseconds, ctime, inode, sha256, *rest = (
        REPLY_HEADER.unpack_from(data, start)
    )
    read_seconds, *passed = rest[:5]
    *pixels, length = rest[5:]
    if length > MAX_ROW_BYTES:
        raise InvalidReply(f"a text of {length} bytes")
    end = at + length
    if len(data) < end:
        return None
    # Which is False for what is no number.
    if not all(0 <= each < 1e9 for each in rest[:5]):
        raise InvalidReply(f"{read_seconds} and {passed} seconds")
    if size < 0 or nanoseconds >= _NS_PER_SECOND:
        raise InvalidReply(f"{size} bytes, {nanoseconds} ns")
    if kind > ReplyKind.LABEL or (kind != ReplyKind.FAILURE and not is_known):
        raise InvalidReply(f"a reply of kind {kind}")
    state = None
    if is_known:
        # Zero if it is unknown, such as that of a photo that the run has fetched.
        change = (ctime or None, inode or None)
        digest = sha256 if request.digest else None
        state = FileState(size, mtime * _NS_PER_SECOND + nanoseconds, digest, None, *change)
    content = _unpack_content(request, kind, bytes(data[at:end]), *pixels)
    return WorkerReply(
        content, state, read_seconds, dict(zip(REPLY_STAGES, passed, strict=True))
    ), end


def _unpack_content(
    request: WorkerRequest, kind: int, text: bytes, rows: int, columns: int, width: int, height: int
) -> SharedPixels | Failure | bytes | None:
    if kind == ReplyKind.READ:
        return None
    if kind == ReplyKind.LABEL:
        return text
    if kind == ReplyKind.FAILURE:
        try:
            return unpack_failure(request.location, text)
        except ValueError as error:
            raise InvalidReply(f"a failure that is not valid ({error})") from error
    if request.in_detail:
        fits = 0 < rows * columns <= MAX_DETAIL_PIXELS
    else:
        fits = 0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE
    if not (fits and 0 < width <= MAX_PHOTO_SIDE and 0 < height <= MAX_PHOTO_SIDE):
        raise InvalidReply(f"{columns} x {rows} pixels of {width} x {height}")
    return SharedPixels(
        rows, columns, width, height, text.decode(errors="replace")[:MAX_DETAIL_CHARS]
    )


def unpack_checked_row(
    path: Location, text: bytes, labels: tuple[str, ...], outputs: tuple[str, ...]
) -> Row:
    """Read a photo's row and check that the models can have given it.

    Args:
        path: the photo.
        text: the row, as ``pack_row`` writes it.
        labels: the models' labels.
        outputs: the labels and then the abstain outputs; a face may lack some of the latter.

    Raises:
        BadReply: it is not such a row.
    """
    try:
        row = unpack_row(path, text)
        check_outputs(row, labels, outputs)
    except ValueError as error:
        raise InvalidReply(f"a row that is not valid ({error})") from error
    return row
