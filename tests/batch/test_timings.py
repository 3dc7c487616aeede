from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from batch.recording.run_record import StageSeconds
from batch.timings import CLASSIFY, CROP, DECODE, DISCOVER, FACES, READ, REPORT, Timings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows these times, one after the other."""
    shown: list[float] = []
    times: Iterator[float] = iter(shown)
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    return shown


def test_the_time_in_a_stage_adds_up(clock: list[float]) -> None:
    clock += [10.0, 12.5, 20.0, 20.25, 30.0, 31.0]
    timings = Timings()
    for stage in (READ, READ, DECODE):
        with timings.of(stage):
            pass
    assert timings.seconds() == {READ: 2.75, DECODE: 1.0}


def test_a_stage_that_fails_took_its_time_too(clock: list[float]) -> None:
    clock += [1.0, 3.0]
    timings = Timings()
    with pytest.raises(ZeroDivisionError), timings.of(FACES):
        _ = 1 / 0
    assert timings.seconds() == {FACES: 2.0}


def test_stages_may_be_nested(clock: list[float]) -> None:
    clock += [0.0, 1.0, 3.0, 10.0]
    timings = Timings()
    with timings.of(REPORT), timings.of(READ):
        pass
    assert timings.seconds() == {READ: 2.0, REPORT: 10.0}


def test_no_time_is_lost_between_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = threading.local()

    def own_clock() -> float:
        ticks.now = getattr(ticks, "now", 0.0) + 1.0
        return float(ticks.now)

    monkeypatch.setattr(time, "perf_counter", own_clock)
    timings = Timings()

    def work(_: int) -> None:
        with timings.of(READ):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(2_000)))
    assert timings.seconds() == {READ: 2_000.0}


def test_every_stage_is_in_the_run_record() -> None:
    stages = (DISCOVER, READ, DECODE, FACES, CROP, CLASSIFY, REPORT)
    seconds = StageSeconds(wall=1.0, **dict.fromkeys(stages, 2.0))
    assert [getattr(seconds, stage) for stage in stages] == [2.0] * len(stages)
    assert set(vars(StageSeconds())) == {"wall", *stages}
