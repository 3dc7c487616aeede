from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.records import (
    MAX_DETAIL_CHARS,
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
from batch.row_json import (
    MAX_PHOTO_SIDE,
    check_outputs,
    pack_failure,
    pack_row,
    unpack_failure,
    unpack_row,
)

PATH = Path("photos/a.jpg")
# No decimal number of a few digits is any of these.
ODD = (0.1 + 0.2, 1 / 3, math.pi / 4, 5e-324, math.nextafter(1, 0), float(np.float32(0.7)))
BOX = Box(-3.5, 1 / 3, 1e-17, 2**30 + 1 / 3, ODD[4])
HAPPY = Answer(Status.UNSURE, "happy", ODD[0], {"happy": ODD[0], "sad": 1 - ODD[0]}, BOX)
SAD = Answer(Status.OK, "sad", ODD[2], {"happy": 1 - ODD[2], "sad": ODD[2]})
ODD_LABEL = Answer(Status.OK, "très\n=1+1 ☹", 1.0, {"très\n=1+1 ☹": 1.0, "": 0.0})
NEITHER = Answer(Status.NEITHER, None, ODD[0], {"happy": ODD[1], "sad": 0.0, "neither": ODD[0]})
NO_PERSON = Answer(Status.NO_PERSON, None, ODD[4], {"happy": 0.0, "sad": 0.0, "no_person": ODD[4]})

ROWS = {
    "a face": Row(PATH, Status.UNSURE, HAPPY, Source.FACE, (HAPPY,), 640, 480),
    "several faces": Row(
        PATH, Status.OK, SAD, Source.BOTH, (HAPPY, replace(SAD, box=BOX), HAPPY), 640, 480
    ),
    "the whole photo": Row(PATH, Status.OK, SAD, Source.IMAGE, (), 1, 1),
    "neither": Row(PATH, Status.NEITHER, NEITHER, Source.FACE, (replace(NEITHER, box=BOX), HAPPY)),
    "no person": Row(PATH, Status.NO_PERSON, NO_PERSON, Source.BOTH, (HAPPY, NEITHER), 9, 9),
    "no face": Row(PATH, Status.NO_FACE, width=640, height=480),
    "a part of a photo": Row(PATH, Status.OK, SAD, Source.IMAGE, (), 1, 1, salvaged="cut\n日本"),
    "when, with what and where": Row(
        PATH,
        Status.NO_FACE,
        capture=Capture("2026-01-31T18:04:05+01:00", "Canon EOS R5", -90.0, 179.9),
    ),
    "only when": Row(PATH, Status.NO_FACE, capture=Capture("2026-01-31T18:04:05")),
    "odd labels": Row(PATH, Status.OK, ODD_LABEL, Source.IMAGE, (), 1, 1),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_round_trips(row: Row) -> None:
    back = unpack_row(PATH, pack_row(row))
    assert back == row
    if row.answer and back.answer:
        assert list(back.answer.probabilities) == list(row.answer.probabilities)
    assert type(back.status) is Status
    assert back.source is row.source


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("reason", Reason)
def test_every_failure_round_trips(stage: Stage, reason: Reason) -> None:
    failure = Failure(PATH, stage, reason, "a 'detail'\nwith é and 日本")
    row = Row(PATH, Status.FAILED, failure=failure)
    assert unpack_row(PATH, pack_row(row)) == row
    assert unpack_failure(PATH, pack_failure(failure)) == failure


@pytest.mark.parametrize("number", ODD)
def test_numbers_keep_their_full_precision(number: float) -> None:
    answer = Answer(Status.OK, "happy", number, {"happy": number}, Box(*[number] * 5))
    back = unpack_row(PATH, pack_row(Row(PATH, Status.OK, answer, Source.FACE, (answer,), 1, 1)))
    assert back.answer is not None
    assert back.answer.box is not None
    assert back.answer.confidence == back.answer.probabilities["happy"] == number
    assert back.answer.box.left == back.answer.box.score == number


def test_a_row_can_be_given_to_another_file_with_the_same_bytes() -> None:
    failure = Failure(PATH, Stage.DECODE, Reason.CORRUPT, "broken")
    other = Path("copy.jpg")
    back = unpack_row(other, pack_row(Row(PATH, Status.FAILED, failure=failure)))
    assert back == Row(other, Status.FAILED, failure=replace(failure, path=other))
    assert str(PATH).encode() not in pack_row(Row(PATH, Status.NO_FACE, width=1, height=1))


def test_the_text_is_one_line_of_json() -> None:
    text = pack_row(ROWS["odd labels"])
    assert b"\n" not in text
    assert json.loads(text)["status"] == "ok"


def test_details_are_cut_and_invalid_unicode_is_replaced() -> None:
    failure = Failure(PATH, Stage.READ, Reason.UNREADABLE, "\udce9" + "x" * (MAX_DETAIL_CHARS - 1))
    kept = unpack_failure(PATH, pack_failure(failure))
    assert kept.detail == "?" + "x" * (MAX_DETAIL_CHARS - 1)


FACE: list[Any] = ["happy", 0.75, {"happy": 0.75, "sad": 0.25}, "ok", [1.0, 2.0, 3.0, 4.0, 0.9]]
SOUND = {
    "status": "ok",
    "width": 640,
    "height": 480,
    "answer": FACE,
    "source": "face",
    "faces": [FACE],
}


def _with(place: int, value: object, of: list[Any] = FACE) -> list[Any]:
    return [*of[:place], value, *of[place + 1 :]]


def _box(place: int, value: object) -> list[Any]:
    return _with(4, _with(place, value, FACE[4]))


CHANGES: dict[str, dict[str, Any]] = {
    "a number for a text": {"answer": _with(0, 7)},
    "a text for a number": {"width": "12"},
    "a truth for a number": {"width": True},
    "a real side": {"height": 480.5},
    "a side beyond a report's": {"width": MAX_PHOTO_SIDE + 1},
    "a side of nothing": {"width": 0},
    "one side alone": {"width": None},
    "a side of 10^12": {"width": 10**12},
    "a side of 10^400": {"width": 10**400},
    "a confidence beyond 1": {"answer": _with(1, 1.5)},
    "a confidence that is a truth": {"answer": _with(1, True)},
    "a negative probability": {"answer": _with(2, {"happy": -0.5, "sad": 0.25})},
    "no probabilities": {"answer": _with(2, {})},
    "a box of 10^308": {"answer": _box(2, 1e308)},
    "a box that is no number": {"answer": _box(0, None)},
    "a box of three": {"answer": _with(4, [1.0, 2.0, 3.0])},
    "a box of six": {"answer": _with(4, [1.0, 2.0, 3.0, 4.0, 0.9, 1.0])},
    "an answer of six": {"answer": [*FACE, 1]},
    "an answer of four": {"answer": FACE[:4]},
    "an answer that is no answer": {"answer": _with(3, "failed")},
    "another answer": {"answer": _with(3, "unsure")},
    "no answer": {"answer": None},
    "no source": {"source": None},
    "an odd source": {"source": "ear"},
    "an odd status": {"status": "fine"},
    "a status of another kind": {"status": ["ok"]},
    "a failure": {"failure": ["read", "empty", ""]},
    "a failure alone": {"status": "failed", "failure": ["read", "empty", ""]},
    "an odd failure": {"failure": ["read", "bored", ""]},
    "faces that are none": {"faces": 3},
    "an odd face": {"faces": [7]},
    "faces without end": {"faces": [FACE] * 5_000},
    "an unknown key": {"mood": "good"},
    "a source that no model has": {"source": "review"},
    "a time with a formula": {"capture": ["=2026-01-31", None, None, None]},
    "a time without seconds": {"capture": ["2026-01-31T18:04", None, None, None]},
    "a camera without a name": {"capture": [None, "", None, None]},
    "a long camera": {"capture": [None, "x" * 101, None, None]},
    "a place beyond the pole": {"capture": [None, None, 90.1, 0.0]},
    "half a capture": {"capture": [None, None]},
    "a long detail": {"salvaged": "x" * (MAX_DETAIL_CHARS + 1)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_inconsistent_row_is_refused(change: dict[str, Any]) -> None:
    assert unpack_row(PATH, json.dumps(SOUND)).status is Status.OK
    with pytest.raises(ValueError, match=r"\S"):
        unpack_row(PATH, json.dumps(SOUND | change))


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "7", "{}", "[" * 100_000, "NaN", '"' + "\\ud800" + '"']
)
def test_text_that_is_not_a_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        unpack_row(PATH, text)


def test_nan_and_infinity_are_refused() -> None:
    text = json.dumps(SOUND).replace("0.75", "NaN")
    with pytest.raises(ValueError, match="JSON"):
        unpack_row(PATH, text)


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        (("happy",), ("happy",)),
        (("sad", "happy"), ("sad", "happy")),
        (("glad", "sad"), ("glad", "sad")),
    ],
)
def test_a_row_of_another_model_is_detected(
    labels: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    row = unpack_row(PATH, json.dumps(SOUND))
    check_outputs(row, ("happy", "sad"), ("happy", "sad", "neither"))
    with pytest.raises(ValueError, match="probabilities of"):
        check_outputs(row, labels, outputs)
