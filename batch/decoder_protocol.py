"""What passes between a run and the processes that decode for it: a question and an answer.

A file may have taken over the process that answers, so nothing that it says is believed
unless it is checked, and nothing is unpickled.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from batch.decode import MAX_SIDE, Upright
from batch.records import Failure, FileState, Reason, Stage

# The length of a path in bytes, which follows; whether a digest, and what is there of a truncated
# photo, are asked for.
QUESTION = struct.Struct("<I??")
# Whether there is a photo; whether the file was read, its size, time and digest; seconds spent
# on reading; rows and columns; width and height; stage, reason and detail of a failure, the detail
# also of what was salvaged. The time
# is in seconds and nanoseconds, as 64 bits of nanoseconds end in 2262 and files do not.
ANSWER = struct.Struct("<? ?qqI32s d II II BB1000s")
PIXEL_BYTES = MAX_SIDE * MAX_SIDE * 3

_STAGES, _REASONS = tuple(Stage), tuple(Reason)
_NO_DIGEST = bytes(32)
_NS = 1_000_000_000


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
class Answer:
    """What a process says of one file; its pixels are in the memory that is shared with it."""

    content: Picture | Failure
    state: FileState | None
    read_seconds: float


def pack_question(path: bytes, digest: bool, salvage: bool = False) -> bytes:
    """Ask for a photo, and for the SHA-256 of its file if ``digest`` is True.

    With ``salvage`` what is there of a truncated one will do.
    """
    return QUESTION.pack(len(path), digest, salvage) + path


def pack_answer(
    content: Upright | Failure, state: FileState | None, read_seconds: float = 0.0
) -> bytes:
    """Put an answer into ``ANSWER.size`` bytes."""
    known = state or FileState()
    mtime = divmod(known.mtime_ns or 0, _NS)
    read = (state is not None, known.size or 0, *mtime, known.digest or _NO_DIGEST)
    if isinstance(content, Failure):
        stage, reason = _STAGES.index(content.stage), _REASONS.index(content.reason)
        detail = content.detail.encode(errors="replace")
        return ANSWER.pack(False, *read, read_seconds, 0, 0, 0, 0, stage, reason, detail)
    columns, rows = content.image.size
    size = (rows, columns, content.width, content.height)
    return ANSWER.pack(True, *read, read_seconds, *size, 0, 0, content.salvaged.encode())


def unpack_answer(path: Path, data: bytes, digest: bool) -> Answer:
    """Read the answer to a question for ``path``.

    Raises:
        BadAnswer: it can't be true.
    """
    is_photo, is_known, size, mtime, nanoseconds, sha256, *found = ANSWER.unpack(data)
    seconds, rows, columns, width, height, stage, reason, detail = found
    if not 0 <= seconds < 1e9:  # which is False for what is no number
        raise BadAnswer(f"{seconds} seconds")
    if size < 0 or nanoseconds >= _NS:
        raise BadAnswer(f"{size} bytes, {nanoseconds} ns")
    state = FileState(size, mtime * _NS + nanoseconds, sha256 if digest else None)
    if not is_photo:
        return Answer(_failure(path, stage, reason, detail), state if is_known else None, seconds)
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE and width and height and is_known):
        raise BadAnswer(f"{columns} x {rows} pixels of {width} x {height}")
    return Answer(Picture(rows, columns, width, height, _text(detail)), state, seconds)


def _failure(path: Path, stage: int, reason: int, detail: bytes) -> Failure:
    try:
        words = _STAGES[stage], _REASONS[reason]
    except IndexError as error:
        raise BadAnswer(f"stage {stage}, reason {reason}") from error
    return Failure(path, *words, _text(detail))


def _text(detail: bytes) -> str:
    return detail.rstrip(b"\0").decode(errors="replace")
