r"""The messages between a run and a worker process, and their checks.

    run: worker.py                                      worker: child.py, labelling_child.py
    --------------                                      ------------------------------------
    start a process with a socket and a file      --->  import the program (start.py)
    [labelling] write the plan to the file; b"\1" --->  read the plan, open the models
                                                  <---  greeting: b"\n", or a line with the error

    for each photo:
    request: REQUEST_HEADER, path                 --->  read the file
    [URL] b"\0" with a descriptor of the data     --->  read the data instead
    [may_be_known]                                <---  READ reply: size, times, digest
    [may_be_known] VERDICT_LABEL or VERDICT_SKIP  --->  skip: send no other reply
                                                  <---  reply: REPLY_HEADER and a text (a failure,
                                                        a row, or a picture's defect)
    close the socket                              --->  exit

The pixels of a decoded picture lie in the file, which both sides share. A labelling worker uses the
file for its plan and sends rows only; it gets up to ``MAX_IN_FLIGHT`` requests ahead and replies in
their order.

A malicious photo may take control of a worker process. So every reply is checked before it is used,
and nothing from a worker is unpickled.
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
from batch.records import NO_CAPTURE, Capture, Failure, FileState, Row
from batch.row_json import (
    MAX_PHOTO_SIDE,
    MAX_ROW_BYTES,
    check_outputs,
    pack_failure,
    pack_picture_notes,
    pack_row,
    unpack_failure,
    unpack_picture_notes,
    unpack_row,
)
from batch.timings import CLASSIFY, CROP, DECODE, FACES

if TYPE_CHECKING:  # Pillow costs start-up time, and a run on the CPU needs none of it
    from batch.vision.decode import DecodedImage

# Length of the path in bytes, then the flags ``digest``, ``may_be_known``, ``salvage``,
# ``in_detail`` and ``with_location`` of a ``WorkerRequest``. The path follows.
REQUEST_HEADER = struct.Struct("<I?????")
# Kind; whether the file was read; its size, mtime (seconds, nanoseconds), ctime, inode and SHA-256;
# seconds of reading and of REPLY_STAGES; rows, columns, file width and file height of a picture;
# length of the text in bytes. The text follows: a failure, a row, or the notes of a picture.
# The mtime has two fields, as 64 bits of nanoseconds end in 2262 and file systems go beyond that.
REPLY_HEADER = struct.Struct("<B ?qqIqq32s d4d IIII I")
# The stages, besides reading, with seconds in a reply.
REPLY_STAGES = (DECODE, FACES, CROP, CLASSIFY)
VERDICT_LABEL, VERDICT_SKIP = b"\1", b"\0"
# Size of the file for pixels, enough for ``WorkerRequest.in_detail``. Only bytes that are written
# take memory.
MAX_SHARED_BYTES = max(MAX_SIDE * MAX_SIDE, MAX_DETAIL_PIXELS) * 3
# Errors that a worker may report in its greeting, by name.
START_ERRORS = {kind.__name__: kind for kind in (ModelError, ProviderError)}

_NO_DIGEST, _NO_SIZE = bytes(32), (0, 0, 0, 0)
_NS_PER_SECOND = 1_000_000_000


class ReplyKind(IntEnum):
    """The content of a reply; after ``READ`` a worker waits for the verdict."""

    FAILURE = 0
    READ = 1
    PICTURE = 2
    LABEL = 3


class InvalidReply(Exception):
    """A reply that no worker sends unless a photo has taken control of it."""


@dataclass(frozen=True)
class WorkerRequest:
    """A request to process one file.

    Attributes:
        location: path or URL of the file. A worker reads paths itself.
        data: the bytes of a file at a URL. A worker never has the credentials to fetch them.
        digest: whether to reply with the SHA-256 of the bytes.
        may_be_known: whether the run may have a row for these bytes: the worker then sends a READ
            reply and waits for the verdict.
        salvage: whether to accept the readable part of a truncated photo, see ``decode_image``.
        in_detail: whether to decode the photo with more pixels, see ``compute_detail_size``.
        with_location: whether to reply with the photo's coordinates.
    """

    location: Location
    data: bytes | None = None
    digest: bool = False
    may_be_known: bool = False
    salvage: bool = False
    in_detail: bool = False
    with_location: bool = False


@dataclass(frozen=True)
class SharedPixels:
    """The shape of a decoded picture in the shared file: RGB ``uint8`` [rows, columns, 3].

    Attributes:
        rows: rows of pixels.
        columns: columns of pixels.
        width: width of the photo in its file, in pixels.
        height: height of the photo in its file, in pixels.
        salvaged: why the picture is incomplete, as in ``DecodedImage``.
        capture: when, with what and where the photo was taken.
    """

    rows: int
    columns: int
    width: int
    height: int
    salvaged: str = ""
    capture: Capture = NO_CAPTURE


@dataclass(frozen=True)
class TimedRow:
    """A photo's row and the seconds of each stage."""

    row: Row
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class WorkerReply:
    """A worker's reply about one file.

    Attributes:
        content: the shape of the picture in the shared file, a failure, or a row as text; None if
            the worker waits for the verdict.
        state: size, times, inode and digest of the file; None if it could not be read.
        read_seconds: seconds of reading.
        seconds: seconds by stage.
    """

    content: SharedPixels | Failure | bytes | None
    state: FileState | None
    read_seconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def pack_start_error(error: BatchLabelError) -> bytes:
    """Encode the greeting of a worker that can't start."""
    words = [type(error).__name__, error.problem, error.remedy]
    return json.dumps(words).encode() + b"\n"


def unpack_start_error(line: bytes) -> BatchLabelError | None:
    """Decode the error in a greeting; None if the line is not from ``pack_start_error``."""
    try:
        name, problem, remedy = map(str, json.loads(line))
        return START_ERRORS[name](problem, remedy)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def pack_request(request: WorkerRequest) -> bytes:
    """Encode a request; the descriptor of its data is sent separately."""
    path = os.fsencode(request.location)
    flags = (request.digest, request.may_be_known, request.salvage, request.in_detail)
    return REQUEST_HEADER.pack(len(path), *flags, request.with_location) + path


def pack_reply(
    content: DecodedImage | Failure | TimedRow | None,
    state: FileState | None,
    read_seconds: float = 0.0,
    decode_seconds: float = 0.0,
) -> bytes:
    """Encode a reply; without ``content`` it asks for the verdict."""
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
        text = pack_picture_notes(content.salvaged, content.capture)
    passed = [by_stage.get(stage, 0.0) for stage in REPLY_STAGES]
    passed[0] += decode_seconds  # the labeller may have decoded as well
    return REPLY_HEADER.pack(kind, *read, read_seconds, *passed, *size, len(text)) + text


def unpack_reply(
    request: WorkerRequest, data: bytearray, start: int
) -> tuple[WorkerReply, int] | None:
    """Decode the reply that begins at ``start``.

    Returns:
        The reply and the position of its end; None if the reply is not complete yet.

    Raises:
        InvalidReply: a value is out of its range or does not answer the request.
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
    # Also rejects NaN.
    if not all(0 <= each < 1e9 for each in rest[:5]):
        raise InvalidReply(f"{read_seconds} and {passed} seconds")
    if size < 0 or nanoseconds >= _NS_PER_SECOND:
        raise InvalidReply(f"{size} bytes, {nanoseconds} ns")
    if kind > ReplyKind.LABEL or (kind != ReplyKind.FAILURE and not is_known):
        raise InvalidReply(f"a reply of kind {kind}")
    state = None
    if is_known:
        # Zero means unknown, as for data that the run has fetched.
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
            raise InvalidReply(f"an invalid failure ({error})") from error
    if request.in_detail:
        fits = 0 < rows * columns <= MAX_DETAIL_PIXELS
    else:
        fits = 0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE
    if not (fits and 0 < width <= MAX_PHOTO_SIDE and 0 < height <= MAX_PHOTO_SIDE):
        raise InvalidReply(f"{columns} x {rows} pixels of {width} x {height}")
    try:
        salvaged, capture = unpack_picture_notes(text)
    except ValueError as error:
        raise InvalidReply(f"invalid notes of a picture ({error})") from error
    return SharedPixels(rows, columns, width, height, salvaged, capture)


def unpack_checked_row(
    path: Location, text: bytes, labels: tuple[str, ...], outputs: tuple[str, ...]
) -> Row:
    """Decode a row and check it against the models' labels and outputs.

    Args:
        path: the photo.
        text: the row, as ``pack_row`` writes it.
        labels: the models' labels.
        outputs: the labels, then the abstain outputs; a face may lack some of the latter.

    Raises:
        InvalidReply: the text is not a row, or not one of these models.
    """
    try:
        row = unpack_row(path, text)
        check_outputs(row, labels, outputs)
    except ValueError as error:
        raise InvalidReply(f"an invalid row ({error})") from error
    return row
