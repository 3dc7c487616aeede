"""What a process that decodes may answer, and what it is not believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from batch.decode import MAX_SIDE, Upright
from batch.decoder_protocol import (
    ANSWER,
    PIXEL_BYTES,
    BadAnswer,
    Picture,
    pack_answer,
    unpack_answer,
)
from batch.records import Failure, FileState, Reason, Stage

PATH = Path("photo.jpg")
STATE = FileState(123, 1_700_000_000_123_456_789, bytes(range(32)))
FIELDS = (
    *("is_photo", "is_known", "size", "mtime", "nanoseconds", "digest", "seconds"),
    *("rows", "columns", "width", "height", "stage", "reason", "detail"),
)


def test_a_photo() -> None:
    upright = Upright(Image.new("RGB", (30, 20)), 300, 200)
    answer = unpack_answer(PATH, pack_answer(upright, STATE, 0.5), digest=True)
    assert answer.content == Picture(rows=20, columns=30, width=300, height=200)
    assert (answer.state, answer.read_seconds) == (STATE, 0.5)


def test_the_digest_counts_only_where_it_was_asked_for() -> None:
    upright = Upright(Image.new("RGB", (1, 1)), 1, 1)
    answer = unpack_answer(PATH, pack_answer(upright, STATE), digest=False)
    assert answer.state == FileState(STATE.size, STATE.mtime_ns)


@pytest.mark.parametrize("mtime_ns", [0, -1, -(10**18) - 1, 9_600_000_000 * 10**9 + 999_999_999])
def test_times_before_1970_and_after_2262(mtime_ns: int) -> None:
    state = FileState(1, mtime_ns)
    upright = Upright(Image.new("RGB", (1, 1)), 1, 1)
    assert unpack_answer(PATH, pack_answer(upright, state), digest=False).state == state


@pytest.mark.parametrize("state", [None, STATE])
def test_every_failure(state: FileState | None) -> None:
    for stage in Stage:
        for reason in Reason:
            failure = Failure(PATH, stage, reason, "bös \udcff")
            answer = unpack_answer(PATH, pack_answer(failure, state), digest=True)
            assert answer.content == Failure(PATH, stage, reason, "bös ?")
            assert answer.state == state


def test_the_longest_detail_is_cut() -> None:
    failure = Failure(PATH, Stage.DECODE, Reason.CORRUPT, "é" * 5000)
    content = unpack_answer(PATH, pack_answer(failure, None), digest=False).content
    assert isinstance(content, Failure)
    assert content.detail == "é" * 500


def test_the_largest_picture_fits_into_what_is_shared() -> None:
    assert PIXEL_BYTES == MAX_SIDE * MAX_SIDE * 3
    upright = Upright(Image.new("RGB", (MAX_SIDE, MAX_SIDE)), MAX_SIDE, MAX_SIDE)
    unpack_answer(PATH, pack_answer(upright, STATE), digest=False)


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
        {"is_photo": False, "stage": len(Stage)},
        {"is_photo": False, "reason": 255},
    ],
)
def test_what_can_not_be_is_refused(changed: dict[str, Any]) -> None:
    sound = pack_answer(Upright(Image.new("RGB", (30, 20)), 300, 200), STATE)
    fields = dict(zip(FIELDS, ANSWER.unpack(sound), strict=True))
    with pytest.raises(BadAnswer):
        unpack_answer(PATH, ANSWER.pack(*(fields | changed).values()), digest=False)
