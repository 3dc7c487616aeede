"""Validation of workers' replies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch.errors import ModelError
from batch.options import MAX_SIDE
from batch.records import (
    Answer,
    Box,
    Capture,
    Failure,
    FileState,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)
from batch.row_json import MAX_ROW_BYTES, pack_row
from batch.timings import CLASSIFY, CROP, DECODE, FACES
from batch.vision.decode import DecodedImage
from batch.workers.protocol import (
    MAX_SHARED_BYTES,
    REPLY_HEADER,
    REPLY_STAGES,
    InvalidReply,
    ReplyKind,
    SharedPixels,
    TimedRow,
    WorkerReply,
    WorkerRequest,
    pack_reply,
    pack_start_error,
    unpack_checked_row,
    unpack_reply,
    unpack_start_error,
)

PATH = Path("photo.jpg")
STATE = FileState(123, 1_700_000_000_123_456_789, bytes(range(32)), None, 2**63 - 1, 7)
FIELDS = (
    *("kind", "is_known", "size", "mtime", "nanoseconds", "ctime_ns", "inode", "digest", "seconds"),
    *("decode", "faces", "crop", "classify", "rows", "columns", "width", "height", "length"),
)


def _read(data: bytes, digest: bool = False, in_detail: bool = False) -> WorkerReply:
    """Read a reply whose bytes arrive in parts."""
    request = WorkerRequest(PATH, digest=digest, in_detail=in_detail)
    for size in (0, 1, REPLY_HEADER.size - 1, REPLY_HEADER.size, len(data) - 1):
        if size < len(data):
            assert unpack_reply(request, bytearray(data[:size]), 0) is None
    parsed = unpack_reply(request, bytearray(b"before" + data + b"behind"), 6)
    assert parsed is not None
    reply, end = parsed
    assert end == 6 + len(data)
    return reply


def test_a_photo() -> None:
    upright = DecodedImage(Image.new("RGB", (30, 20)), 300, 200)
    answer = _read(pack_reply(upright, STATE, 0.5), digest=True)
    assert answer.content == SharedPixels(rows=20, columns=30, width=300, height=200)
    assert (answer.state, answer.read_seconds) == (STATE, 0.5)


def test_the_notes_of_a_photo() -> None:
    capture = Capture("2026-01-31T18:04:05", "Canon EOS R5", 45.75, 4.835)
    upright = DecodedImage(Image.new("RGB", (30, 20)), 300, 200, "cut \udcff", capture)
    answer = _read(pack_reply(upright, STATE))
    assert answer.content == SharedPixels(20, 30, 300, 200, "cut ?", capture)


@pytest.mark.parametrize("text", [b"[]", b'["",null,1]', b'["",["now",null,null,null]]', b"\xff"])
def test_notes_that_are_not_valid_are_refused(text: bytes) -> None:
    sound = pack_reply(DecodedImage(Image.new("RGB", (30, 20)), 300, 200), STATE)
    fields = dict(zip(FIELDS, REPLY_HEADER.unpack(sound[: REPLY_HEADER.size]), strict=True))
    data = REPLY_HEADER.pack(*(fields | {"length": len(text)}).values()) + text
    with pytest.raises(InvalidReply):
        unpack_reply(WorkerRequest(PATH), bytearray(data), 0)


def test_the_digest_counts_only_if_it_was_requested() -> None:
    upright = DecodedImage(Image.new("RGB", (1, 1)), 1, 1)
    answer = _read(pack_reply(upright, STATE), digest=False)
    assert answer.state == replace(STATE, digest=None)


@pytest.mark.parametrize("mtime_ns", [0, -1, -(10**18) - 1, 9_600_000_000 * 10**9 + 999_999_999])
def test_times_before_1970_and_after_2262(mtime_ns: int) -> None:
    state = FileState(1, mtime_ns)
    upright = DecodedImage(Image.new("RGB", (1, 1)), 1, 1)
    assert _read(pack_reply(upright, state), digest=False).state == state


@pytest.mark.parametrize("state", [None, STATE])
def test_every_failure(state: FileState | None) -> None:
    for stage in Stage:
        for reason in Reason:
            failure = Failure(PATH, stage, reason, "bös \udcff")
            answer = _read(pack_reply(failure, state), digest=True)
            assert answer.content == Failure(PATH, stage, reason, "bös ?")
            assert answer.state == state


def test_the_longest_detail_is_cut() -> None:
    failure = Failure(PATH, Stage.DECODE, Reason.CORRUPT, "é" * 5000)
    content = _read(pack_reply(failure, None), digest=False).content
    assert isinstance(content, Failure)
    assert content.detail == "é" * 997 + "..."


def test_the_largest_picture_fits_into_the_shared_file() -> None:
    assert MAX_SHARED_BYTES >= MAX_SIDE * MAX_SIDE * 3
    upright = DecodedImage(Image.new("RGB", (MAX_SIDE, MAX_SIDE)), MAX_SIDE, MAX_SIDE)
    _read(pack_reply(upright, STATE), digest=False)
    detail = DecodedImage(Image.new("RGB", (MAX_SHARED_BYTES // 3000, 1000)), MAX_SIDE, MAX_SIDE)
    _read(pack_reply(detail, STATE), digest=False, in_detail=True)
    with pytest.raises(InvalidReply):
        _read(pack_reply(detail, STATE), digest=False)


def test_a_detail_fits_into_the_shared_file() -> None:
    larger = DecodedImage(
        Image.new("RGB", (MAX_SHARED_BYTES // 3000 + 1, 1000)), MAX_SIDE, MAX_SIDE
    )
    with pytest.raises(InvalidReply):
        _read(pack_reply(larger, STATE), digest=False, in_detail=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": 0},
        {"columns": 0},
        {"rows": MAX_SIDE + 1},
        {"columns": 2**32 - 1},
        {"width": 0},
        {"height": 0},
        {"is_known": False},
        {"size": -1},
        {"nanoseconds": 1_000_000_000},
        {"seconds": float("nan")},
        {"seconds": -1.0},
        {"seconds": float("inf")},
        {"crop": float("nan")},
        {"classify": -1.0},
        {"kind": 4},
        {"length": MAX_ROW_BYTES + 1},
        {"kind": ReplyKind.LABEL, "is_known": False},
        {"kind": ReplyKind.FAILURE},  # without a text
        {"kind": ReplyKind.READ, "is_known": False},
    ],
)
def test_impossible_replies_are_invalid(changed: dict[str, Any]) -> None:
    sound = pack_reply(DecodedImage(Image.new("RGB", (30, 20)), 300, 200), STATE)
    fields = dict(zip(FIELDS, REPLY_HEADER.unpack(sound), strict=True))
    with pytest.raises(InvalidReply):
        unpack_reply(
            WorkerRequest(PATH), bytearray(REPLY_HEADER.pack(*(fields | changed).values())), 0
        )


LABELS = ("happy", "sad")
CHANCES = {"happy": 0.75, "sad": 0.25}
OUTPUTS = (*LABELS, "neither", "no_person")
ANSWER_OF_A_FACE = Answer(Status.OK, "happy", 0.75, CHANCES, Box(1.5, 2.5, 30.0, 40.0, 0.9))
ROW = Row(
    PATH, Status.OK, ANSWER_OF_A_FACE, Source.FACE, (ANSWER_OF_A_FACE,), width=640, height=480
)


def test_a_label() -> None:
    seconds = {DECODE: 2.0, FACES: 0.5, CROP: 0.125, CLASSIFY: 0.25}
    said = pack_reply(TimedRow(ROW, seconds), STATE, 0.5, 1.0)
    text = said[REPLY_HEADER.size :]
    seconds[DECODE] += 1.0
    assert _read(said, digest=True) == WorkerReply(text, STATE, 0.5, seconds)
    assert unpack_checked_row(PATH, text, LABELS, LABELS) == ROW
    assert unpack_checked_row(PATH, text, LABELS, OUTPUTS) == ROW


def test_a_worker_that_waits_for_a_verdict() -> None:
    said = _read(pack_reply(None, STATE, 0.5), digest=True)
    assert said == WorkerReply(None, STATE, 0.5, dict.fromkeys(REPLY_STAGES, 0.0))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'["read","empty"]', b'["read","odd",""]', b'["odd","empty",""]', b"\xff"]
)
def test_a_failure_that_is_not_valid_is_refused(text: bytes) -> None:
    sound = pack_reply(Failure(PATH, Stage.READ, Reason.EMPTY, ""), STATE)
    fields = dict(zip(FIELDS, REPLY_HEADER.unpack(sound[: REPLY_HEADER.size]), strict=True))
    data = REPLY_HEADER.pack(*(fields | {"length": len(text)}).values()) + text
    with pytest.raises(InvalidReply):
        unpack_reply(WorkerRequest(PATH), bytearray(data), 0)


NEITHER = Answer(Status.NEITHER, None, 0.5, {"happy": 0.25, "sad": 0.25, "neither": 0.5})
NO_PERSON = Answer(
    Status.NO_PERSON, None, 0.5, {"happy": 0.25, "sad": 0.0, "neither": 0.25, "no_person": 0.5}
)


# A face model's abstain outputs may stand in another order than the photo's.
OTHER_ORDER = Answer(
    Status.NEITHER, None, 0.5, {"happy": 0.25, "sad": 0.0, "no_person": 0.25, "neither": 0.5}
)


@pytest.mark.parametrize(
    "row",
    [
        Row(PATH, Status.NO_PERSON, NO_PERSON, Source.IMAGE, width=640, height=480),
        Row(PATH, Status.NO_PERSON, NO_PERSON, Source.BOTH, (NEITHER, ANSWER_OF_A_FACE)),
        Row(PATH, Status.NEITHER, NEITHER, Source.FACE, (NEITHER,)),
        Row(PATH, Status.NEITHER, NEITHER, Source.FACE, (OTHER_ORDER,)),
        Row(PATH, Status.UNSURE, replace(ANSWER_OF_A_FACE, status=Status.UNSURE), Source.FACE),
        Row(PATH, Status.NO_FACE, width=640, height=480),
        Row(PATH, Status.FAILED, failure=Failure(PATH, Stage.CLASSIFY, Reason.INTERNAL, "a")),
    ],
)
def test_every_row_of_the_models_is_accepted(row: Row) -> None:
    assert unpack_checked_row(PATH, pack_row(row), LABELS, OUTPUTS) == row


def _of(answer: Answer, row_status: Status | None = None, **changes: Any) -> Row:
    changed = replace(answer, **changes)
    return Row(PATH, row_status or changed.status, changed, Source.IMAGE, width=6, height=4)


@pytest.mark.parametrize(
    "row",
    [
        # Statuses with and without labels.
        _of(NEITHER, label="happy"),
        _of(NO_PERSON, label="sad"),
        _of(NEITHER, label="neither"),
        _of(ANSWER_OF_A_FACE, label=None),
        _of(ANSWER_OF_A_FACE, status=Status.UNSURE, label=None),
        _of(ANSWER_OF_A_FACE, status=Status.NEITHER, label=None),  # not one of its outputs
        _of(NEITHER, status=Status.NO_PERSON),
        _of(NEITHER, status=Status.NO_FACE),
        _of(NEITHER, status=Status.FAILED),
        # The photo's and its answer's.
        _of(NEITHER, Status.OK),
        _of(ANSWER_OF_A_FACE, Status.UNSURE),
        _of(ANSWER_OF_A_FACE, Status.NO_FACE),
        _of(ANSWER_OF_A_FACE, Status.FAILED),
        replace(ROW, answer=None),
        Row(PATH, Status.NO_PERSON),
        Row(PATH, Status.FAILED),
        replace(ROW, failure=Failure(PATH, Stage.READ, Reason.EMPTY, "")),
        # A face's.
        replace(ROW, faces=(replace(NEITHER, label="happy"),)),
        replace(ROW, faces=(replace(ANSWER_OF_A_FACE, status=Status.NO_PERSON, label=None),)),
        # Probabilities of outputs that the models do not have, or in another order.
        _of(NEITHER, probabilities={**NEITHER.probabilities, "joy": 0.0}),
        _of(NEITHER, probabilities={**NEITHER.probabilities, "no_face": 0.0}),
        _of(NO_PERSON, probabilities=dict(reversed(list(NO_PERSON.probabilities.items())))),
        _of(NEITHER, probabilities={"happy": 0.25, "neither": 0.5, "sad": 0.25}),
        _of(NEITHER, probabilities={"happy": 0.25, "neither": 0.75}),
        _of(NEITHER, probabilities={"neither": 1.0}),
        _of(NEITHER, probabilities={**NEITHER.probabilities, "neither": 1.5}),
        _of(NEITHER, confidence=-0.5),
    ],
)
def test_rows_that_the_models_can_not_give_are_invalid(row: Row) -> None:
    with pytest.raises(InvalidReply):
        unpack_checked_row(PATH, pack_row(row), LABELS, OUTPUTS)


def test_a_model_without_abstain_outputs_gives_a_label_or_nothing() -> None:
    for answer in (NEITHER, NO_PERSON):
        with pytest.raises(InvalidReply):
            unpack_checked_row(PATH, pack_row(_of(answer)), LABELS, LABELS)


def test_a_label_that_is_called_like_a_status_is_none() -> None:
    labels = ("failed", "no_face")
    chances = {"failed": 0.75, "no_face": 0.25}
    right = Answer(Status.OK, "failed", 0.75, chances)
    assert unpack_checked_row(PATH, pack_row(_of(right)), labels, labels).answer == right
    wrong = Answer(Status.FAILED, None, 0.75, chances)
    for row in (_of(wrong), replace(_of(right), faces=(wrong,))):
        with pytest.raises(InvalidReply):
            unpack_checked_row(PATH, pack_row(row), labels, labels)


@pytest.mark.parametrize(
    "changed",
    [
        {"answer": ["happy", 0.75, ["happy", "sad"], "ok", None]},
        {"answer": ["happy", 0.75, "happy", "ok", None]},
        {"answer": ["happy", 0.75, {"happy": "most", "sad": 0}, "ok", None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": None}, "ok", None]},
        {"answer": [["happy"], 0.75, {"happy": 0.75, "sad": 0.25}, "ok", None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, "fine", None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, None, None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, 1, None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, ["ok"], None]},
        {"answer": ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, "ok"]},
        {"answer": None},
        {"status": "neither", "answer": ["neither", 0.5, {"happy": 0.5, "sad": 0.5}, True, None]},
        {"width": "640"},
        {"width": 640.5},
        {"width": 2**40},
        {"width": True},
        {"height": "480"},
        {"width": None},
        {"faces": {"first": 1}},
        {"faces": [7]},
    ],
)
def test_rows_with_values_of_wrong_types_are_invalid(changed: dict[str, Any]) -> None:
    sound = json.loads(pack_row(replace(ROW, faces=())))
    assert unpack_checked_row(PATH, json.dumps(sound).encode(), LABELS, OUTPUTS)
    with pytest.raises(InvalidReply):
        unpack_checked_row(PATH, json.dumps(sound | changed).encode(), LABELS, OUTPUTS)


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, answer=replace(ANSWER_OF_A_FACE, label="glad")),
        replace(ROW, answer=replace(ANSWER_OF_A_FACE, probabilities={"sad": 0.25, "happy": 0.75})),
        replace(ROW, answer=replace(ANSWER_OF_A_FACE, confidence=float("nan"))),
        replace(ROW, faces=(replace(ANSWER_OF_A_FACE, probabilities={"happy": 7.0, "sad": 0.0}),)),
        replace(ROW, faces=(replace(ANSWER_OF_A_FACE, box=Box(0, 0, float("inf"), 1, 1)),)),
        replace(ROW, width=-1),
        replace(ROW, height=None),
    ],
)
def test_impossible_labels_are_invalid(row: Row) -> None:
    with pytest.raises(InvalidReply):
        unpack_checked_row(PATH, pack_row(row), LABELS, OUTPUTS)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"status": "fine"}', b"[" * 100_000, b"\xff"]
)
def test_bytes_that_are_not_a_row_are_invalid(text: bytes) -> None:
    with pytest.raises(InvalidReply):
        unpack_checked_row(PATH, text, LABELS, OUTPUTS)


def test_start_errors_in_a_greeting() -> None:
    refusal = unpack_start_error(pack_start_error(ModelError("it is broken", "mend it")))
    assert isinstance(refusal, ModelError)
    assert str(refusal) == "it is broken; mend it"
    for line in (b"", b"\n", b"ImportError: no\n", b'["SystemExit", "", ""]\n', b"[1]\n"):
        assert unpack_start_error(line) is None
