"""Rows as the journal keeps them: one JSON text with every digit, but for the path."""

from __future__ import annotations

import json
from typing import Any

from batch.location import Location
from batch.records import Answer, Box, Failure, Reason, Row, Source, Stage, Status


def pack_row(row: Row) -> str:
    """Write a row as JSON that ``unpack_row`` reads back without loss."""
    kept: dict[str, Any] = {"status": row.status.value}
    if row.failure:
        kept["failure"] = pack_failure(row.failure)
    if row.width is not None:
        kept |= {"width": row.width, "height": row.height}
    if row.salvaged:
        kept["salvaged"] = row.salvaged
    if row.answer:
        kept["answer"] = _answer(row.answer)
    if row.source:
        kept["source"] = row.source.value
    if row.faces:
        kept["faces"] = [_answer(face) for face in row.faces]
    return json.dumps(kept, separators=(",", ":"))


def unpack_row(path: Location, text: str) -> Row:
    """Read a row, of whichever file: the same bytes elsewhere get the same row.

    Raises:
        ValueError, KeyError, TypeError: the text is not what ``pack_row`` writes.
    """
    kept = json.loads(text)
    return Row(
        path=path,
        status=Status(kept["status"]),
        answer=_as_answer(kept["answer"]) if "answer" in kept else None,
        source=Source(kept["source"]) if "source" in kept else None,
        faces=tuple(map(_as_answer, kept.get("faces", ()))),
        width=kept.get("width"),
        height=kept.get("height"),
        salvaged=str(kept.get("salvaged", "")),
        failure=unpack_failure(path, kept["failure"]) if "failure" in kept else None,
    )


def stored_time(mtime_ns: int | None) -> int | None:
    """Bring a time into 64 bits of nanoseconds, which end in 2262: file systems go further."""
    return None if mtime_ns is None else max(-(2**63), min(mtime_ns, 2**63 - 1))


def pack_failure(failure: Failure) -> list[str]:
    """Write what is known of a failure, but for the path."""
    return [failure.stage.value, failure.reason.value, failure.detail]


def unpack_failure(path: Location, kept: list[str]) -> Failure:
    """Read a failure back."""
    stage, reason, detail = kept
    return Failure(path, Stage(stage), Reason(reason), detail)


def _answer(answer: Answer) -> list[Any]:
    box = answer.box
    return [
        answer.label,
        answer.confidence,
        dict(answer.probabilities),
        answer.status.value,
        [box.left, box.top, box.width, box.height, box.score] if box else None,
    ]


def _as_answer(kept: list[Any]) -> Answer:
    label, confidence, probabilities, status, box = kept
    if isinstance(status, bool):  # whether the label was sure, before there were other answers
        status = Status.OK if status else Status.UNSURE
    return Answer(Status(status), label, confidence, probabilities, Box(*box) if box else None)
