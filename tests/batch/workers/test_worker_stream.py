"""Streams of many photos: order, lost workers and the limit on photos in flight."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from batch.errors import WorkerError
from batch.location import Location, Url
from batch.options import FileLimits
from batch.records import Failure, FileState, Photo, Reason, Row
from batch.stopping import StopRequested
from batch.workers import pool
from batch.workers.pool import WorkerPool
from batch.workers.process import LaunchedWorker
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import MAX_IN_FLIGHT, Worker, WorkerTask
from tests.support.hostile_photos import Deed, deed, hostile, is_decoded, wait_for_process_end
from tests.support.worker_processes import photo, plan, workers

__all__ = ["deed", "hostile", "photo", "plan", "workers"]


def _requests(photo: Path, number: int, may_be_known: bool = False) -> list[WorkerRequest]:
    names = [photo.with_name(f"{n:03}.jpg") for n in range(number)]
    for name in names:
        name.hardlink_to(photo)
    return [WorkerRequest(name, digest=True, may_be_known=may_be_known) for name in names]


def test_a_slow_photo_does_not_delay_others(hostile: WorkerPool, deed: Deed) -> None:
    slow, quick = WorkerRequest(deed("wait")), WorkerRequest(deed(""))
    items = [slow, *[quick] * 20]
    with closing(hostile.stream([slow, slow, slow], max_workers=2)) as stream:
        assert len(list(stream)) == 3  # two workers have started
    with closing(hostile.stream(items, max_workers=2)) as stream:
        results = list(stream)
    assert all(is_decoded(worked) for _, worked in results)
    assert [request for request, _ in results].index(slow) > 0
    with closing(hostile.stream(items, max_workers=2, in_order=True)) as stream:
        assert [request for request, _ in stream] == items


def test_items_that_are_not_requests_are_passed_on_in_order(
    hostile: WorkerPool, deed: Deed
) -> None:
    items = ["first", WorkerRequest(deed("wait")), "second", WorkerRequest(deed("")), "third"]
    with closing(hostile.stream(items, max_workers=2, in_order=True)) as stream:
        results = [item[0] if isinstance(item, tuple) else item for item in stream]
    assert results == items
    with closing(hostile.stream(items, max_workers=2)) as stream:
        assert next(stream) == "first"
        assert next(stream) == "second"  # with nothing to wait for


@pytest.mark.parametrize("in_order", [False, True])
def test_the_number_of_items_in_flight_and_held_is_limited(
    in_order: bool, hostile: WorkerPool, deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_HELD_RESULTS", 5)
    taken = 0

    def requests() -> Iterator[WorkerRequest]:
        nonlocal taken
        yield WorkerRequest(deed("wait"))
        for _ in range(100):
            taken += 1
            yield WorkerRequest(deed(""))

    hostile.start()
    given = 0
    with closing(hostile.stream(requests(), max_workers=2, in_order=in_order)) as stream:
        for given, _ in enumerate(stream, 1):
            assert taken - given <= (5 if in_order else 2)
    assert given == 101


def test_a_lost_worker_costs_one_photo(workers: WorkerPool, photo: Path) -> None:
    workers.start()
    (worker,) = workers._idle
    asked: list[Location] = []

    def known(path: Location, state: FileState) -> None:
        asked.append(path)
        if len(asked) == 1:
            assert len(worker.in_flight) == 1  # nothing but a verdict is sent until then
            os.kill(worker.pid, signal.SIGKILL)

    first, *rest = _requests(photo, 3 * MAX_IN_FLIGHT)
    requests = [WorkerRequest(first.location, digest=True, may_be_known=True), *rest]
    with closing(workers.stream(requests, known)) as stream:
        results = [(request.location, worked.content) for request, worked in stream]
    assert Counter(path for path, _ in results) == Counter(q.location for q in requests)
    lost = [content for _, content in results if isinstance(content, Failure)]
    assert [(failure.path, failure.reason) for failure in lost] == [
        (first.location, Reason.CRASHED)
    ]
    assert asked == [first.location]


def test_photos_behind_one_that_crashes_are_labelled(workers: WorkerPool, photo: Path) -> None:
    requests = _requests(photo, 3 * MAX_IN_FLIGHT)
    workers.start()
    (worker,) = workers._idle
    with closing(workers.stream(requests)) as stream:
        results = [next(stream)]
        os.kill(worker.pid, signal.SIGKILL)
        results += stream
    assert Counter(q.location for q, _ in results) == Counter(q.location for q in requests)
    lost = [worked for _, worked in results if isinstance(worked.content, Failure)]
    assert len(lost) <= 1  # none if it was killed between two photos
    assert sum(isinstance(worked.content, Row) for _, worked in results) >= len(requests) - 1


def test_rows_come_with_their_text_and_only_files_that_may_be_known_are_looked_up(
    workers: WorkerPool, photo: Path
) -> None:
    asked = []

    def known(path: Location, state: FileState) -> Row | None:
        asked.append((path, state.digest))
        return None

    requests = [*_requests(photo, 3), WorkerRequest(photo, digest=True, may_be_known=True)]
    with closing(workers.stream(requests, known)) as stream:
        worked = [worked for _, worked in stream]
    assert len({result.text for result in worked}) == 1
    assert worked[0].text.startswith(b'{"status"')
    assert [path for path, _ in asked] == [photo]
    assert {result.state.digest for result in worked if result.state} == {asked[0][1]}


def test_a_stream_that_is_not_read_to_its_end_leaves_no_photo_to_the_next(
    workers: WorkerPool, photo: Path
) -> None:
    with closing(workers.stream(_requests(photo, 8))) as stream:
        next(stream)
    missing = photo.with_name("missing.jpg")
    content = workers.process(WorkerRequest(missing)).content
    assert isinstance(content, Failure)
    assert content.path == missing


def test_workers_start_when_needed_and_failed_starts_are_retried(
    deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.0)
    started: list[float] = []
    refused = [2, 3]
    start = Worker.__init__

    def refuse_at_times(self: Worker, task: WorkerTask, launched: LaunchedWorker | None) -> None:
        started.append(time.monotonic())
        if len(started) in refused:
            raise WorkerError("it did not start", "wait")
        start(self, task, launched)

    monkeypatch.setattr(Worker, "__init__", refuse_at_times)
    with WorkerPool(WorkerTask(FileLimits())) as decoders:
        assert isinstance(decoders.process(WorkerRequest(deed(""))).content, Photo)
        assert len(started) == 1
        requests = [WorkerRequest(deed("")) for _ in range(50)]
        with closing(decoders.stream(requests, max_workers=2)) as stream:
            assert len(list(stream)) == 50
    assert len(started) == 4
    started.clear()
    refused += range(4, 20)
    monkeypatch.setattr(pool, "MAX_START_ATTEMPTS", 2)
    with WorkerPool(WorkerTask(FileLimits())) as decoders:
        decoders.start()
        with (
            closing(decoders.stream([WorkerRequest(deed(""))] * 500, max_workers=2)) as stream,
            pytest.raises(WorkerError, match="did not start"),
        ):
            list(stream)


def test_replies_that_a_lost_worker_has_sent_count(workers: WorkerPool, photo: Path) -> None:
    """A slow reader gets results that a worker sent before it crashed."""
    requests = _requests(photo, MAX_IN_FLIGHT - 1)
    workers.start()
    (worker,) = workers._idle

    def items() -> Iterator[WorkerRequest]:
        yield from requests
        give_up = time.monotonic() + 20
        waiting = bytearray()
        while waiting.count(b'{"status"') < len(requests):
            assert time.monotonic() < give_up
            with suppress(BlockingIOError):
                waiting = bytearray(worker._connection.recv(1 << 20, socket.MSG_PEEK))
        os.kill(worker.pid, signal.SIGKILL)
        wait_for_process_end(worker.pid, 5)
        yield WorkerRequest(photo)

    with closing(workers.stream(items())) as stream:
        results = list(stream)
    assert len(results) == MAX_IN_FLIGHT
    assert all(isinstance(worked.content, Row) for _, worked in results)


def test_a_held_result_does_not_hold_data(hostile: WorkerPool, deed: Deed) -> None:
    data = deed("").read_bytes()
    slow = WorkerRequest(Url("memory://slow.jpg"), b"wait\n" + data)
    quick = [WorkerRequest(Url(f"memory://{n}.jpg"), data) for n in range(5)]
    with closing(hostile.stream([slow, *quick], max_workers=2, in_order=True)) as stream:
        results = list(stream)
    assert [request.location for request, _ in results] == [slow.location] + [
        request.location for request in quick
    ]
    assert all(is_decoded(worked) for _, worked in results)
    assert all(request.data is None for request, _ in results)


def test_once_the_run_stops_only_current_photos_are_finished(
    workers: WorkerPool, photo: Path
) -> None:
    is_stopping = False

    def check() -> None:
        if is_stopping:
            raise StopRequested

    workers.start()
    (worker,) = workers._idle
    with closing(workers.stream(_requests(photo, 5 * MAX_IN_FLIGHT), check=check)) as stream:
        done = [next(stream)]
        os.kill(worker.pid, signal.SIGSTOP)
        is_stopping = True
        os.kill(worker.pid, signal.SIGCONT)
        done += stream
    # The one in hand, and those that were done before the stop was seen.
    assert len(done) <= MAX_IN_FLIGHT + 1
    assert all(isinstance(worked.content, Row) for _, worked in done)


def test_a_start_that_hangs_ends_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        if time.monotonic() > started + 1:
            raise StopRequested

    with WorkerPool(WorkerTask(FileLimits(), "tests.support.hostile_worker")) as decoders:
        worker = decoders.acquire()
        os.kill(worker.pid, signal.SIGSTOP)
        decoders._idle.append(worker)
        started = time.monotonic()
        with pytest.raises(StopRequested):
            decoders.start(check)
        assert time.monotonic() < started + 5


def test_a_worker_that_replies_without_a_request_is_retried_a_few_times(
    deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.0)
    greet = Worker._check_greeting

    def greet_twice(self: Worker) -> None:
        greet(self)
        self._received += b"x"

    monkeypatch.setattr(Worker, "_check_greeting", greet_twice)
    with (
        WorkerPool(WorkerTask(FileLimits())) as decoders,
        pytest.raises(WorkerError, match="a reply without a request"),
    ):
        decoders.process(WorkerRequest(deed("")))
