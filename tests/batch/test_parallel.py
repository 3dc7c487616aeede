from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from batch.parallel import ITEMS_PER_WORKER, thread_map


def test_results_come_in_order_whoever_is_first() -> None:
    def slow_when_even(n: int) -> int:
        time.sleep(0.02 if n % 2 == 0 else 0)
        return n * n

    assert list(thread_map(slow_when_even, range(20), workers=4)) == [n * n for n in range(20)]


def test_work_in_flight_is_bounded() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield n

    results = thread_map(lambda n: n, items(), workers=2)
    next(results)
    assert taken <= 2 * ITEMS_PER_WORKER
    results.close()
    assert taken <= 2 * ITEMS_PER_WORKER


def test_workers_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(thread_map(lambda _: meeting.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_an_exception_reaches_the_reader() -> None:
    with pytest.raises(ZeroDivisionError):
        list(thread_map(lambda n: 1 // n, [1, 0, 1], workers=2))
