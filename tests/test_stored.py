from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch.journal.stored import pack_failure, pack_row, unpack_failure, unpack_row
from batch.records import Answer, Box, Failure, Reason, Row, Source, Stage, Status

PATH = Path("photos/a.jpg")
# No decimal number of a few digits is any of these.
ODD = (0.1 + 0.2, 1 / 3, math.pi / 4, 5e-324, math.nextafter(1, 0), float(np.float32(0.7)))
BOX = Box(-3.5, 1 / 3, 1e-17, 2**53 + 1.0, ODD[4])
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
    "odd labels": Row(PATH, Status.OK, ODD_LABEL, Source.IMAGE, (), 1, 1),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_comes_back_as_it_was(row: Row) -> None:
    back = unpack_row(PATH, pack_row(row))
    assert back == row
    if row.answer and back.answer:
        assert list(back.answer.probabilities) == list(row.answer.probabilities)
    assert type(back.status) is Status
    assert back.source is row.source


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("reason", Reason)
def test_every_failure_comes_back_as_it_was(stage: Stage, reason: Reason) -> None:
    failure = Failure(PATH, stage, reason, "a 'detail'\nwith \udce9 and 日本")
    row = Row(PATH, Status.FAILED, failure=failure)
    assert unpack_row(PATH, pack_row(row)) == row
    assert unpack_failure(PATH, pack_failure(failure)) == failure


@pytest.mark.parametrize("number", ODD)
def test_every_digit_of_a_number_is_kept(number: float) -> None:
    answer = Answer(Status.OK, "happy", number, {"happy": number}, Box(*[number] * 5))
    back = unpack_row(PATH, pack_row(Row(PATH, Status.OK, answer, Source.FACE, (answer,), 1, 1)))
    assert back.answer is not None
    assert back.answer.box is not None
    assert back.answer.confidence == back.answer.probabilities["happy"] == number
    assert back.answer.box.left == back.answer.box.score == number


def test_a_row_is_given_to_whichever_file_has_its_bytes() -> None:
    failure = Failure(PATH, Stage.DECODE, Reason.CORRUPT, "broken")
    other = Path("copy.jpg")
    back = unpack_row(other, pack_row(Row(PATH, Status.FAILED, failure=failure)))
    assert back == Row(other, Status.FAILED, failure=replace(failure, path=other))
    assert str(PATH) not in pack_row(Row(PATH, Status.NO_FACE, width=1, height=1))


@pytest.mark.parametrize(("sure", "status"), [("true", Status.OK), ("false", Status.UNSURE)])
def test_rows_from_before_a_model_could_abstain_are_read(sure: str, status: Status) -> None:
    answer = f'["happy",0.75,{{"happy":0.75,"sad":0.25}},{sure},[1.5,2.5,30.0,40.0,0.9]]'
    text = (
        f'{{"status":"{status}","width":640,"height":480,"answer":{answer},"source":"face",'
        f'"faces":[{answer}]}}'
    )
    box = Box(1.5, 2.5, 30.0, 40.0, 0.9)
    face = Answer(status, "happy", 0.75, {"happy": 0.75, "sad": 0.25}, box)
    assert unpack_row(PATH, text) == Row(PATH, status, face, Source.FACE, (face,), 640, 480)


def test_the_text_is_plain_ascii_json() -> None:
    text = pack_row(ROWS["odd labels"])
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["status"] == "ok"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "7", "{}", '{"status": "fine"}', '{"status": ["ok"]}'),
        '{"status": "ok", "source": "ear"}',
        '{"status": "ok", "answer": ["happy", 0.9]}',
        '{"status": "ok", "answer": ["happy", 0.9, {}, true, [1, 2]]}',
        '{"status": "ok", "answer": ["happy", 0.9, {}, "sure", null]}',
        '{"status": "ok", "answer": ["happy", 0.9, {}, null, null]}',
        '{"status": "ok", "faces": 3}',
        '{"status": "failed", "failure": ["read", "bored", ""]}',
        '{"status": "failed", "failure": null}',
    ],
)
def test_any_other_text_is_refused_in_a_known_way(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack_row(PATH, text)
