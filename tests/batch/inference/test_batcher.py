"""Inputs of many threads share batches without a change of the outputs."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from batch.inference.batcher import Array, DynamicBatcher
from tests.conftest import REPOSITORY

PATIENCE = 20.0


class Doubler:
    """A device that doubles every input, records its batches, and can be paused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.may_run = threading.Event()
        self.may_run.set()

    def __call__(self, parts: Sequence[Array]) -> list[Array]:
        assert self.may_run.wait(PATIENCE)
        self.batches.append([len(part) for part in parts])
        self.shapes.append(parts[0].shape[1:])
        together = np.concatenate(parts)
        if (together < 0).any():
            raise ValueError("less than nothing")
        return [together * 2, together.sum(axis=1)]


@pytest.fixture
def device() -> Doubler:
    return Doubler()


@pytest.fixture
def batcher(device: Doubler) -> Iterator[DynamicBatcher]:
    batcher = DynamicBatcher([device], batch=4, longest_wait=0.01)
    yield batcher
    batcher.close()


def _rows(*values: int, width: int = 3) -> Array:
    return np.asarray(values, dtype=np.float32)[:, None] * np.ones(width, np.float32)


def test_every_caller_gets_its_own_outputs(batcher: DynamicBatcher, device: Doubler) -> None:
    inputs = [_rows(*range(n, n + n % 3)) for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(batcher.run, inputs))
    for given, (doubled, sums) in zip(inputs, outputs, strict=True):
        np.testing.assert_array_equal(doubled, given * 2)
        np.testing.assert_array_equal(sums, given.sum(axis=1))
    assert max(map(sum, device.batches)) <= 4
    assert any(len(batch) > 1 for batch in device.batches), "nobody shared a batch"


def test_inputs_that_wait_for_the_device_share_a_batch(
    batcher: DynamicBatcher, device: Doubler
) -> None:
    device.may_run.clear()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(batcher.run, _rows(1))
        time.sleep(0.1)
        others = [pool.submit(batcher.run, _rows(n)) for n in range(4)]
        time.sleep(0.1)
        device.may_run.set()
        assert first.result()[0][0, 0] == 2
        assert [other.result()[0][0, 0] for other in others] == [0, 2, 4, 6]
    assert device.batches == [[1], [1, 1, 1, 1]]


def test_a_full_batch_does_not_wait() -> None:
    batcher = DynamicBatcher([Doubler()], batch=2, longest_wait=PATIENCE)
    started = time.monotonic()
    batcher.run(_rows(1, 2))
    assert time.monotonic() - started < PATIENCE / 2
    batcher.close()


def test_a_single_input_waits_for_the_longest_wait(
    batcher: DynamicBatcher, device: Doubler
) -> None:
    started = time.monotonic()
    batcher.run(_rows(1))
    assert 0.01 <= time.monotonic() - started < PATIENCE / 2
    assert device.batches == [[1]]


def test_inputs_larger_than_a_batch_are_split(batcher: DynamicBatcher, device: Doubler) -> None:
    doubled, sums = batcher.run(_rows(*range(10)))
    np.testing.assert_array_equal(doubled, _rows(*range(10)) * 2)
    assert sums.shape == (10,)
    assert device.batches == [[4], [4], [2]]


def test_an_empty_input_has_an_empty_output(batcher: DynamicBatcher) -> None:
    doubled, sums = batcher.run(np.empty((0, 5), np.float32))
    assert doubled.shape == (0, 5)
    assert sums.shape == (0,)


def test_shapes_and_types_do_not_mix(batcher: DynamicBatcher, device: Doubler) -> None:
    inputs = [_rows(n, width=2 + n % 3).astype((np.float32, np.uint8)[n % 2]) for n in range(30)]
    with ThreadPoolExecutor(10) as pool:
        for given, outputs in zip(inputs, pool.map(batcher.run, inputs), strict=True):
            assert outputs[0].shape == given.shape
            assert outputs[0].dtype == given.dtype
            np.testing.assert_array_equal(outputs[0], given * 2)
    assert set(device.shapes) == {(2,), (3,), (4,)}


def test_an_error_reaches_exactly_the_callers_of_its_batch(
    batcher: DynamicBatcher, device: Doubler
) -> None:
    device.may_run.clear()
    with ThreadPoolExecutor(8) as pool:
        pool.submit(batcher.run, _rows(0))
        time.sleep(0.1)
        shared = [pool.submit(batcher.run, _rows(n)) for n in (1, 2, -1, 3)]
        time.sleep(0.1)
        later = pool.submit(batcher.run, _rows(5))
        device.may_run.set()
        for caller in shared:
            with pytest.raises(ValueError, match="less than nothing"):
                caller.result()
        assert later.result()[0][0, 0] == 10
    assert batcher.run(_rows(7))[0][0, 0] == 14, "the device must go on"


def test_all_devices_take_from_the_same_queue() -> None:
    devices = [Doubler(), Doubler()]
    batcher = DynamicBatcher(devices, batch=2, longest_wait=0.001)
    devices[0].may_run.clear()
    devices[1].may_run.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(batcher.run, _rows(n)) for n in range(8)]
        time.sleep(0.1)
        devices[1].may_run.set()
        give_up = time.monotonic() + PATIENCE
        # One device is stuck with a batch; the other does all the rest.
        while sum(caller.done() for caller in waiting) < 6:
            assert time.monotonic() < give_up
            time.sleep(0.001)
        devices[0].may_run.set()
        assert [caller.result()[0][0, 0] for caller in waiting] == [2 * n for n in range(8)]
    assert len(devices[0].batches) == 1
    batcher.close()


def test_closing_finishes_waiting_inputs_and_refuses_later_ones(device: Doubler) -> None:
    batcher = DynamicBatcher([device], batch=4, longest_wait=PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.run, _rows(3))
        time.sleep(0.1)
        assert not waiting.done()
        batcher.close()
        assert waiting.result(PATIENCE)[0][0, 0] == 6
    with pytest.raises(RuntimeError, match="closed"):
        batcher.run(_rows(1))
    batcher.close()


def _threads() -> int:
    return sum(thread.name.startswith("device ") for thread in threading.enumerate())


def test_its_threads_end_when_it_is_garbage_collected() -> None:
    gc.collect()
    before = _threads()
    batcher = DynamicBatcher([Doubler(), Doubler()], batch=4)
    batcher.run(_rows(1))
    assert _threads() == before + 2
    del batcher
    gc.collect()
    assert _threads() == before


def test_a_process_ends_with_batchers_open() -> None:
    code = (
        "import numpy as np; from batch.inference.batcher import DynamicBatcher; "
        "g = DynamicBatcher([lambda parts: [np.concatenate(parts)]], batch=4); "
        "print(g.run(np.ones((2, 3))))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=PATIENCE)


def test_an_idle_batcher_takes_no_cpu_time() -> None:
    batcher = DynamicBatcher([Doubler()], batch=4)
    batcher.run(_rows(1))
    started = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - started < 0.1
    batcher.close()
