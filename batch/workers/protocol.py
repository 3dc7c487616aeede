"""What passes between a run and its workers: a question, perhaps a verdict, and an answer.

A file may have taken over the process that answers, so nothing that it says is believed
unless it is checked, and nothing is unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from batch.decode import MAX_DETAIL_PIXELS, MAX_SIDE, Upright
from batch.errors import BatchLabelError, ModelError, ProviderError
from batch.location import Location
from batch.recording.timings import CLASSIFY, CROP, DECODE, FACES
from batch.records import Failure, FileState, Reason, Row, Stage
from batch.row_json import MAX_PHOTO_SIDE, MAX_ROW, check_outputs, pack_row, unpack_row

# The length of a path in bytes, which follows; whether a digest, what is there of a truncated
# photo, and the photo's detail are asked for. If the path is a URL, a zero byte comes next, and
# with it the descriptor of a file that holds the photo's bytes.
QUESTION = struct.Struct("<I???")
# What it is; whether the file was read, its size, mtime, ctime, inode and digest; seconds spent on
# reading; rows and columns; width and height; stage, reason and detail of a failure, the detail
# also of what was salvaged; seconds of STAGES and the length of a label, a row as text, which
# follows. The mtime is in seconds and nanoseconds, as 64 bits of nanoseconds end in 2262 and files
# do not.
ANSWER = struct.Struct("<B ?qqIqq32s d II II BB1000s 4dI")
# Said by the run to a file that was read, if its digest was asked for.
GO_ON, LEAVE_IT = b"\1", b"\0"
# Room for a detail. Of the file, which is in memory, only what was written so far takes any.
PIXEL_BYTES = max(MAX_SIDE * MAX_SIDE, MAX_DETAIL_PIXELS) * 3

REFUSALS = {kind.__name__: kind for kind in (ModelError, ProviderError)}

_STAGES, _REASONS = tuple(Stage), tuple(Reason)
_NO_DIGEST = bytes(32)
_NO_SIZE, _NO_WORDS = (0, 0, 0, 0), (0, 0, b"")
_NS = 1_000_000_000
# Those whose time an answer tells, besides reading.
STAGES = (DECODE, FACES, CROP, CLASSIFY)


class Kind(IntEnum):
    """What a worker says."""

    FAILURE = 0
    READ = 1
    PICTURE = 2
    LABEL = 3


class BadAnswer(Exception):
    """An answer that no sound process gives."""


@dataclass(frozen=True)
class Picture:
    """How the pixels that were handed over are to be read: rows, columns, and the file's size.

    ``salvaged`` is as in ``Upright``.
    """

    rows: int
    columns: int
    width: int
    height: int
    salvaged: str = ""


@dataclass(frozen=True)
class Label:
    """A photo's row, and the seconds that each stage took."""

    row: Row
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Said:
    """What a worker says of one file.

    ``content`` is None where it waits for a verdict, a picture whose pixels are in the memory that
    is shared with it, or the length of a row that follows. ``seconds`` are those of each stage.
    """

    content: Picture | Failure | int | None
    state: FileState | None
    read_seconds: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def pack_refusal(error: BatchLabelError) -> bytes:
    """Write what keeps a worker from working as its first line."""
    words = [type(error).__name__, error.problem, error.remedy]
    return json.dumps(words).encode() + b"\n"


def unpack_refusal(line: bytes) -> BatchLabelError | None:
    """Read a worker's first line, if it says what keeps it from working."""
    try:
        name, problem, remedy = map(str, json.loads(line))
        return REFUSALS[name](problem, remedy)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def pack_question(
    path: bytes, digest: bool, salvage: bool = False, in_detail: bool = False
) -> bytes:
    """Ask for a photo, and for the SHA-256 of its file if ``digest`` is True.

    With ``salvage`` what is there of a truncated one will do; ``in_detail`` asks for its detail.
    """
    return QUESTION.pack(len(path), digest, salvage, in_detail) + path


def pack_answer(
    content: Upright | Failure | Label | None,
    state: FileState | None,
    read_seconds: float = 0.0,
    decode_seconds: float = 0.0,
) -> bytes:
    """Write an answer: ``ANSWER.size`` bytes and, where ``content`` is a label, its row as text."""
    known = state or FileState()
    mtime = divmod(known.mtime_ns or 0, _NS)
    inode = (known.ctime_ns or 0, known.inode or 0)
    read = (state is not None, known.size or 0, *mtime, *inode, known.digest or _NO_DIGEST)
    rest = (decode_seconds, 0.0, 0.0, 0.0, 0)
    if isinstance(content, Failure):
        stage, reason = _STAGES.index(content.stage), _REASONS.index(content.reason)
        detail = content.detail.encode(errors="replace")
        words = (stage, reason, detail)
        return ANSWER.pack(Kind.FAILURE, *read, read_seconds, *_NO_SIZE, *words, *rest)
    if content is None:
        return ANSWER.pack(Kind.READ, *read, read_seconds, *_NO_SIZE, *_NO_WORDS, *rest)
    if isinstance(content, Label):
        text = pack_row(content.row).encode()
        # The labeller may have decoded more of the photo.
        decode_seconds += content.seconds.get(DECODE, 0.0)
        passed = (decode_seconds, *(content.seconds.get(stage, 0.0) for stage in STAGES[1:]))
        empty = (*_NO_SIZE, *_NO_WORDS)
        return ANSWER.pack(Kind.LABEL, *read, read_seconds, *empty, *passed, len(text)) + text
    columns, rows = content.image.size
    size = (rows, columns, content.width, content.height)
    words = (0, 0, content.salvaged.encode())
    return ANSWER.pack(Kind.PICTURE, *read, read_seconds, *size, *words, *rest)


def unpack_answer(path: Location, data: bytes, digest: bool, in_detail: bool = False) -> Said:
    """Read the answer to a question for ``path``, or for its detail.

    Raises:
        BadAnswer: it can't be true.
    """
    kind, is_known, size, mtime, nanoseconds, ctime, inode, sha256, *found = ANSWER.unpack(data)
    seconds, rows, columns, width, height, stage, reason, detail, *passed, length = found
    # Which is False for what is no number.
    if not all(0 <= each < 1e9 for each in (seconds, *passed)):
        raise BadAnswer(f"{seconds} and {passed} seconds")
    if size < 0 or nanoseconds >= _NS:
        raise BadAnswer(f"{size} bytes, {nanoseconds} ns")
    sha256 = sha256 if digest else None
    # Zero where it is unknown, such as that of a photo that the run has fetched.
    change = (ctime or None, inode or None)
    state = FileState(size, mtime * _NS + nanoseconds, sha256, None, *change)
    by_stage = dict(zip(STAGES, passed, strict=True))
    if kind == Kind.FAILURE:
        failure = _failure(path, stage, reason, detail)
        return Said(failure, state if is_known else None, seconds, by_stage)
    if kind > Kind.LABEL or not is_known:
        raise BadAnswer(f"an answer of kind {kind}")
    if kind == Kind.READ:
        return Said(None, state, seconds)
    if kind == Kind.LABEL:
        if not 0 < length <= MAX_ROW:
            raise BadAnswer(f"a label of {length} bytes")
        return Said(length, state, seconds, by_stage)
    if in_detail:
        fits = 0 < rows * columns <= MAX_DETAIL_PIXELS
    else:
        fits = 0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE
    if not (fits and 0 < width <= MAX_PHOTO_SIDE and 0 < height <= MAX_PHOTO_SIDE):
        raise BadAnswer(f"{columns} x {rows} pixels of {width} x {height}")
    picture = Picture(rows, columns, width, height, _text(detail))
    return Said(picture, state, seconds, by_stage)


def unpack_row_of(
    path: Location, text: bytes, labels: tuple[str, ...], outputs: tuple[str, ...]
) -> Row:
    """Read a photo's row and check that the models can have given it.

    Args:
        path: the photo.
        text: the row, as ``pack_row`` writes it.
        labels: the models' labels.
        outputs: the labels and then the abstain outputs; a face may lack some of the latter.

    Raises:
        BadAnswer: it is not such a row.
    """
    try:
        row = unpack_row(path, text)
        check_outputs(row, labels, outputs)
    except ValueError as error:
        raise BadAnswer(f"a row that is not valid ({error})") from error
    return row


def _failure(path: Location, stage: int, reason: int, detail: bytes) -> Failure:
    try:
        words = _STAGES[stage], _REASONS[reason]
    except IndexError as error:
        raise BadAnswer(f"stage {stage}, reason {reason}") from error
    return Failure(path, *words, _text(detail))


def _text(detail: bytes) -> str:
    return detail.rstrip(b"\0").decode(errors="replace")
