from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.limits import Limits, RunTimer
from batch.stopping import REPEAT_SIGNAL_SECONDS, stop_on_signals


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.TERMINATED),
        (signal.SIGHUP, ExitCode.HUNG_UP),
    ],
)
def test_a_signal_stops_the_flow_and_sets_the_exit_code(
    number: signal.Signals, code: ExitCode
) -> None:
    def items() -> Iterator[int]:
        yield 1
        os.kill(os.getpid(), number)
        yield 2

    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested
        assert list(stop.take_until_stop(items())) == [1]
        assert stop.requested
        error = stop.make_error("all is kept")
    assert error.exit_code is code
    assert number.name in str(error)
    assert "all is kept" in str(error)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("passing", ["take_until_stop", "take_until_signal"])
def test_a_long_step_ends_where_it_checks(passing: str) -> None:
    with stop_on_signals() as stop:

        def items() -> Iterator[int]:
            yield 1
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                stop.check()

        stop.check()  # nothing asked for it yet
        assert list(getattr(stop, passing)(items())) == [1]
        assert stop.stopped_early


def test_without_a_signal_everything_flows() -> None:
    with stop_on_signals() as stop:
        assert list(stop.take_until_stop(range(5))) == list(range(5))
        assert not stop.requested


def test_finishing_work_continues_after_the_time_limit() -> None:
    with stop_on_signals(
        RunTimer(Limits(time_limit=1), clock=iter((0.0, 5.0, 5.0, 5.0)).__next__)
    ) as stop:
        assert list(stop.take_until_signal(range(3))) == [0, 1, 2]
        assert not stop.stopped_early
        assert list(stop.take_until_stop(range(3))) == []
        assert stop.stopped_early
        error = stop.make_error("all is kept")
    assert error.exit_code is ExitCode.TIME_IS_UP
    assert "the time limit 1s was reached" in str(error)


def test_an_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("pause", "code"), [(REPEAT_SIGNAL_SECONDS, -signal.SIGTERM), (0, 0)])
def test_a_second_signal_ends_the_process_unless_it_comes_with_the_first(
    repository: Path, pause: float, code: int
) -> None:
    twice = f"""
import os, signal, time
from batch.stopping import stop_on_signals
with stop_on_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep({pause})
    os.kill(os.getpid(), signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", twice], cwd=repository)
    assert ended.returncode == code


@pytest.mark.parametrize(("is_final", "code"), [(False, -signal.SIGTERM), (True, 0)])
def test_a_signal_changes_no_outcome_that_is_on_record(
    repository: Path, is_final: bool, code: int
) -> None:
    late = f"""
import os, signal
from batch.stopping import exit_by_signal, mark_record_written
signal.signal(signal.SIGTERM, exit_by_signal)
if {is_final}:
    mark_record_written()
os.kill(os.getpid(), signal.SIGTERM)
"""
    ended = subprocess.run([sys.executable, "-c", late], cwd=repository)
    assert ended.returncode == code
