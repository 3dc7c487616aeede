"""JSON of a row: the format of workers' replies, the journal and a cluster's parts.

The input is untrusted: a journal may be damaged, and a crafted photo may control a worker. So
``unpack_row`` accepts only what matches one schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from batch.location import Location
from batch.records import (
    ABSTAIN_OUTPUTS,
    ANSWERED_STATUSES,
    LABELLED_STATUSES,
    MAX_DETAIL_CHARS,
    NO_CAPTURE,
    Answer,
    Box,
    Capture,
    Failure,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)

MAX_ROW_BYTES = 1024**2  # of JSON; a face takes about 150
MAX_FACES = 4_096  # of a photo
MAX_PHOTO_SIDE = 2**31 - 1  # pixels; a report stores 32 bits
MAX_CAMERA_CHARS = 100
# ISO 8601: a local time, and its offset from UTC if that is known.
TAKEN_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d)?$"

# A sum of floats may exceed 1 by a rounding error.
Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1.00001)]
Coordinate: TypeAlias = Annotated[float, Meta(ge=-MAX_PHOTO_SIDE, le=MAX_PHOTO_SIDE)]
Side: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_PHOTO_SIDE)]
Detail: TypeAlias = Annotated[str, Meta(max_length=MAX_DETAIL_CHARS)]
TakenText: TypeAlias = Annotated[str, Meta(pattern=TAKEN_PATTERN, max_length=25)]
CameraText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_CAMERA_CHARS)]
Latitude: TypeAlias = Annotated[float, Meta(ge=-90, le=90)]
Longitude: TypeAlias = Annotated[float, Meta(ge=-180, le=180)]


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


class _CaptureJson(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    taken: TakenText | None
    camera: CameraText | None
    latitude: Latitude | None
    longitude: Longitude | None


class _PictureNotesJson(Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    salvaged: Detail
    capture: _CaptureJson | None


class _RowJson(Struct, omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    status: Status
    failure: _FailureJson | None = None
    width: Side | None = None
    height: Side | None = None
    salvaged: Detail = ""
    answer: _AnswerJson | None = None
    source: Source | None = None
    faces: Annotated[tuple[_AnswerJson, ...], Meta(max_length=MAX_FACES)] = ()
    capture: _CaptureJson | None = None


_ROW_DECODER, _FAILURE_DECODER = msgspec.json.Decoder(_RowJson), msgspec.json.Decoder(_FailureJson)
_NOTES_DECODER = msgspec.json.Decoder(_PictureNotesJson)
_ENCODER = msgspec.json.Encoder()


def pack_row(row: Row) -> bytes:
    """Serialise a row without its path, digest, position and ``missing``.

    Numbers keep their full precision. In details, bytes that are not UTF-8 become ``?``.
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
            capture=_pack_capture(row.capture),
        )
    )


def unpack_row(
    path: Location,
    text: str | bytes,
    position: int | None = None,
    missing: bool = False,
    sha256: bytes | None = None,
) -> Row:
    """Parse and validate a row.

    Args:
        path: the row's file, which may be another one with the same bytes.
        text: JSON that ``pack_row`` wrote.
        position: the row's position.
        missing: whether the file is missing.
        sha256: SHA-256 of the file's bytes.

    Raises:
        ValueError: the text is not a consistent row.
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
        capture=_unpack_capture(packed.capture),
        sha256=sha256,
        missing=missing,
        position=position,
    )
    _check_consistency(row)
    return row


def check_outputs(row: Row, labels: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Check that a row can be the result of a model with these outputs.

    Args:
        row: the row.
        labels: the model's labels.
        outputs: the labels and then the abstain outputs; a face may lack some of the latter.

    Raises:
        ValueError: the row has another label, output or order.
    """
    for answer in _iter_answers(row):
        names = tuple(answer.probabilities)
        # A face model may have fewer abstain outputs than the photo, in another order.
        if names[: len(labels)] != labels or not set(names) <= set(outputs):
            raise ValueError(f"probabilities of {list(names)}")
        named, among = (answer.label, labels) if answer.label else (answer.status, outputs)
        if named not in among:
            raise ValueError(f"the answer {named} out of {list(names)}")


def pack_failure(failure: Failure) -> bytes:
    """Serialise a failure without its path."""
    return _ENCODER.encode(_pack_failure(failure))


def unpack_failure(path: Location, text: str | bytes) -> Failure:
    """Parse a failure that ``pack_failure`` wrote.

    Raises:
        ValueError: the text is not a failure.
    """
    return _unpack_failure(path, _FAILURE_DECODER.decode(text))


def pack_picture_notes(salvaged: str, capture: Capture) -> bytes:
    """Serialise what a decoded picture has besides its pixels; empty if there is nothing."""
    if not salvaged and capture == NO_CAPTURE:
        return b""
    return _ENCODER.encode(_PictureNotesJson(_clean_detail(salvaged), _pack_capture(capture)))


def unpack_picture_notes(text: bytes) -> tuple[str, Capture]:
    """Parse what ``pack_picture_notes`` wrote.

    Raises:
        ValueError: the text is not that.
    """
    if not text:
        return "", NO_CAPTURE
    notes = _NOTES_DECODER.decode(text)
    return notes.salvaged, _unpack_capture(notes.capture)


def _pack_capture(capture: Capture) -> _CaptureJson | None:
    if capture == NO_CAPTURE:
        return None
    return _CaptureJson(capture.taken, capture.camera, capture.latitude, capture.longitude)


def _unpack_capture(packed: _CaptureJson | None) -> Capture:
    if packed is None:
        return NO_CAPTURE
    return Capture(packed.taken, packed.camera, packed.latitude, packed.longitude)


def _check_consistency(row: Row) -> None:
    has_answer = row.status in ANSWERED_STATUSES
    if (row.answer.status if row.answer else None) != (row.status if has_answer else None):
        raise ValueError(f"a photo that is {row.status} with the answer {row.answer}")
    if (row.source is not None) != has_answer or row.source is Source.REVIEW:
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
