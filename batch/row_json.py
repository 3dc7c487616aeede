"""A row as JSON: the form in which workers, the journal and parts of a cluster hand it on.

All three may be damaged or, a worker, taken over by a file. So there is one schema, which
``unpack_row`` checks, and nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from batch.location import Location
from batch.records import (
    ABSTAIN_OUTPUTS,
    LABELLED_STATUSES,
    MAX_DETAIL_CHARS,
    Answer,
    Box,
    Failure,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)

# Bytes of a row as JSON. A face takes about 150.
MAX_ROW_BYTES = 1024**2
# Faces of a photo.
MAX_FACES = 4_096
# Pixels of a side: what a report's 32 bits hold. A box may reach over the edges.
MAX_PHOTO_SIDE = 2**31 - 1

# A sum of floats may be a little over 1, but no more than reports round off.
Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1.00001)]
Coordinate: TypeAlias = Annotated[float, Meta(ge=-MAX_PHOTO_SIDE, le=MAX_PHOTO_SIDE)]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_PHOTO_SIDE)]
Detail: TypeAlias = Annotated[str, Meta(max_length=MAX_DETAIL_CHARS)]


class _BoxJson(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    left: Coordinate
    top: Coordinate
    width: Coordinate
    height: Coordinate
    score: Annotated[float, Meta(ge=-1e6, le=1e6)]


class _AnswerJson(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    label: str | None
    confidence: Probability
    probabilities: dict[str, Probability]
    status: Status
    box: _BoxJson | None


class _FailureJson(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    stage: Stage
    reason: Reason
    detail: Detail


class _RowJson(Struct, omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    status: Status
    failure: _FailureJson | None = None
    width: Side | None = None
    height: Side | None = None
    salvaged: Detail = ""
    answer: _AnswerJson | None = None
    source: Source | None = None
    faces: Annotated[tuple[_AnswerJson, ...], Meta(max_length=MAX_FACES)] = ()


_ROW_DECODER, _FAILURE_DECODER = msgspec.json.Decoder(_RowJson), msgspec.json.Decoder(_FailureJson)
_ENCODER = msgspec.json.Encoder()


def pack_row(row: Row) -> bytes:
    """Write a row, but for its path and position, so that ``unpack_row`` reads it back.

    Every digit of a number is kept. Of a detail, what is not Unicode becomes ``?``.
    """
    return _ENCODER.encode(
        _RowJson(
            status=row.status,
            failure=_pack_failure(row.failure) if row.failure else None,
            width=row.width,
            height=row.height,
            salvaged=_clean_detail(row.salvaged),
            answer=_pack_answer(row.answer) if row.answer else None,
            source=row.source,
            faces=tuple(map(_pack_answer, row.faces)),
        )
    )


def unpack_row(
    path: Location, text: str | bytes, position: int | None = None, missing: bool = False
) -> Row:
    """Read a row and check that it is one; the same bytes of another file have the same row.

    Of what a row does not depend on, ``position`` and ``missing`` are set as given.

    Raises:
        ValueError: the text is not what ``pack_row`` writes for any row.
    """
    packed = _ROW_DECODER.decode(text)
    row = Row(
        path=path,
        status=packed.status,
        answer=_unpack_answer(packed.answer) if packed.answer else None,
        source=packed.source,
        faces=tuple(map(_unpack_answer, packed.faces)),
        width=packed.width,
        height=packed.height,
        salvaged=packed.salvaged,
        failure=_unpack_failure(path, packed.failure) if packed.failure else None,
        missing=missing,
        position=position,
    )
    _check_consistency(row)
    return row


def check_outputs(row: Row, labels: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Check that a model with these outputs can have given a row.

    Args:
        row: the row.
        labels: the model's labels.
        outputs: the labels and then the abstain outputs; a face may lack some of the latter.

    Raises:
        ValueError: it can't.
    """
    for answer in _iter_answers(row):
        names = tuple(answer.probabilities)
        # A face model may have fewer abstain outputs than the photo, in an order of its own.
        if names[: len(labels)] != labels or not set(names) <= set(outputs):
            raise ValueError(f"probabilities of {list(names)}")
        named, among = (answer.label, labels) if answer.label else (answer.status, outputs)
        if named not in among:
            raise ValueError(f"the answer {named} out of {list(names)}")


def pack_failure(failure: Failure) -> bytes:
    """Write a failure, but for its path."""
    return _ENCODER.encode(_pack_failure(failure))


def unpack_failure(path: Location, text: str | bytes) -> Failure:
    """Read a failure back.

    Raises:
        ValueError: the text is not what ``pack_failure`` writes.
    """
    return _unpack_failure(path, _FAILURE_DECODER.decode(text))


def _check_consistency(row: Row) -> None:
    has_answer = row.status not in (Status.NO_FACE, Status.FAILED)
    if (row.answer.status if row.answer else None) != (row.status if has_answer else None):
        raise ValueError(f"a photo that is {row.status} with the answer {row.answer}")
    if (row.source is not None) != has_answer:
        raise ValueError(f"a photo that is {row.status} with the source {row.source}")
    if (row.failure is not None) != (row.status is Status.FAILED):
        raise ValueError(f"a photo that is {row.status} with the failure {row.failure}")
    if (row.width is None) != (row.height is None):
        raise ValueError(f"a photo of {row.width} x {row.height} pixels")
    for answer in _iter_answers(row):
        is_labelled = answer.status in LABELLED_STATUSES
        named = answer.label if is_labelled else answer.status.value
        if not is_labelled and named not in ABSTAIN_OUTPUTS:
            raise ValueError(f"an answer that is {answer.status}")
        if (answer.label is not None) != is_labelled or named not in answer.probabilities:
            raise ValueError(f"the label {answer.label} of {answer}")


def _iter_answers(row: Row) -> Iterable[Answer]:
    yield from row.faces
    if row.answer:
        yield row.answer


def _pack_answer(answer: Answer) -> _AnswerJson:
    box = answer.box
    return _AnswerJson(
        answer.label,
        answer.confidence,
        _to_dict(answer.probabilities),
        answer.status,
        _BoxJson(box.left, box.top, box.width, box.height, box.score) if box else None,
    )


def _to_dict(probabilities: Mapping[str, float]) -> dict[str, float]:
    return probabilities if isinstance(probabilities, dict) else dict(probabilities)


def _unpack_answer(packed: _AnswerJson) -> Answer:
    box = packed.box
    return Answer(
        packed.status,
        packed.label,
        packed.confidence,
        packed.probabilities,
        Box(box.left, box.top, box.width, box.height, box.score) if box else None,
    )


def _pack_failure(failure: Failure) -> _FailureJson:
    return _FailureJson(failure.stage, failure.reason, _clean_detail(failure.detail))


def _unpack_failure(path: Location, packed: _FailureJson) -> Failure:
    return Failure(path, packed.stage, packed.reason, packed.detail)


def _clean_detail(detail: str) -> str:
    return detail[:MAX_DETAIL_CHARS].encode(errors="replace").decode()
