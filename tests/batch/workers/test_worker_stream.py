"""Many photos in flight: what comes when, what a lost worker costs, and how much is taken ahead."""

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
from tests.batch.workers.test_labelling_child import photo, plan, workers
from tests.support.hostile_photos import Deed, deed, hostile, is_decoded, wait_for_process_end

__all__ = ["deed", "hostile", "photo", "plan", "workers"]


def _questions(photo: Path, number: int, may_be_known: bool = False) -> list[WorkerRequest]:
    names = [photo.with_name(f"{n:03}.jpg") for n in range(number)]
    for name in names:
        name.hardlink_to(photo)
    return [WorkerRequest(name, digest=True, may_be_known=may_be_known) for name in names]


def test_a_slow_photo_keeps_no_other_waiting(hostile: WorkerPool, deed: Deed) -> None:
    slow, quick = WorkerRequest(deed("wait")), WorkerRequest(deed(""))
    items = [slow, *[quick] * 20]
    with closing(hostile.stream([slow, slow, slow], most=2)) as stream:
        assert len(list(stream)) == 3  # two workers have started
    with closing(hostile.stream(items, most=2)) as stream:
        results = list(stream)
    assert all(is_decoded(worked) for _, worked in results)
    assert [question for question, _ in results].index(slow) > 0
    with closing(hostile.stream(items, most=2, in_order=True)) as stream:
        assert [question for question, _ in stream] == items


def test_items_that_are_no_questions_are_passed_on_in_their_places(
    hostile: WorkerPool, deed: Deed
) -> None:
    items = ["first", WorkerRequest(deed("wait")), "second", WorkerRequest(deed("")), "third"]
    with closing(hostile.stream(items, most=2, in_order=True)) as stream:
        results = [item[0] if isinstance(item, tuple) else item for item in stream]
    assert results == items
    with closing(hostile.stream(items, most=2)) as stream:
        assert next(stream) == "first"
        assert next(stream) == "second"  # with nothing to wait for


@pytest.mark.parametrize("in_order", [False, True])
def test_no_more_is_taken_than_what_is_in_flight_or_held(
    in_order: bool, hostile: WorkerPool, deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_HELD_RESULTS", 5)
    taken = 0

    def questions() -> Iterator[WorkerRequest]:
        nonlocal taken
        yield WorkerRequest(deed("wait"))
        for _ in range(100):
            taken += 1
            yield WorkerRequest(deed(""))

    hostile.start()
    given = 0
    with closing(hostile.stream(questions(), most=2, in_order=in_order)) as stream:
        for given, _ in enumerate(stream, 1):
            assert taken - given <= (5 if in_order else 2)
    assert given == 101


def test_a_lost_worker_costs_one_photo_and_no_other(workers: WorkerPool, photo: Path) -> None:
    workers.start()
    (worker,) = workers._idle
    asked: list[Location] = []

    def known(path: Location, state: FileState) -> None:
        asked.append(path)
        if len(asked) == 1:
            assert len(worker.in_flight) == 1  # nothing but a verdict is sent until then
            os.kill(worker.pid, signal.SIGKILL)

    first, *rest = _questions(photo, 3 * MAX_IN_FLIGHT)
    questions = [WorkerRequest(first.location, digest=True, may_be_known=True), *rest]
    with closing(workers.stream(questions, known)) as stream:
        results = [(question.location, worked.content) for question, worked in stream]
    assert Counter(path for path, _ in results) == Counter(q.location for q in questions)
    lost = [content for _, content in results if isinstance(content, Failure)]
    assert [(failure.path, failure.reason) for failure in lost] == [
        (first.location, Reason.CRASHED)
    ]
    assert asked == [first.location]


def test_photos_behind_one_that_crashes_are_labelled(workers: WorkerPool, photo: Path) -> None:
    questions = _questions(photo, 3 * MAX_IN_FLIGHT)
    workers.start()
    (worker,) = workers._idle
    with closing(workers.stream(questions)) as stream:
        results = [next(stream)]
        os.kill(worker.pid, signal.SIGKILL)
        results += stream
    assert Counter(q.location for q, _ in results) == Counter(q.location for q in questions)
    lost = [worked for _, worked in results if isinstance(worked.content, Failure)]
    assert len(lost) <= 1  # none if it was killed between two photos
    assert sum(isinstance(worked.content, Row) for _, worked in results) >= len(questions) - 1


def test_rows_come_with_their_text_and_only_those_are_asked_for_that_may_be_known(
    workers: WorkerPool, photo: Path
) -> None:
    asked = []

    def known(path: Location, state: FileState) -> Row | None:
        asked.append((path, state.digest))
        return None

    questions = [*_questions(photo, 3), WorkerRequest(photo, digest=True, may_be_known=True)]
    with closing(workers.stream(questions, known)) as stream:
        worked = [worked for _, worked in stream]
    assert len({result.text for result in worked}) == 1
    assert worked[0].text.startswith(b'{"status"')
    assert [path for path, _ in asked] == [photo]
    assert {result.state.digest for result in worked if result.state} == {asked[0][1]}


def test_a_stream_that_is_not_read_to_its_end_leaves_no_photo_to_the_next(
    workers: WorkerPool, photo: Path
) -> None:
    with closing(workers.stream(_questions(photo, 8))) as stream:
        next(stream)
    missing = photo.with_name("missing.jpg")
    content = workers.process(WorkerRequest(missing)).content
    assert isinstance(content, Failure)
    assert content.path == missing


def test_workers_start_as_they_are_needed_and_again_after_a_while(
    deed: Deed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.0)
    started: list[float] = []
    refused = [2, 3]
    start = Worker.__init__

    def refuse_at_times(self: Worker, task: WorkerTask, launched: LaunchedWorker | None) -> None:
        started.append(time.monotonic())
        if len(started) in refused:
            raise WorkerError("it does not start", "wait")
        start(self, task, launched)

    monkeypatch.setattr(Worker, "__init__", refuse_at_times)
    with WorkerPool(WorkerTask(FileLimits())) as decoders:
        assert isinstance(decoders.process(WorkerRequest(deed(""))).content, Photo)
        assert len(started) == 1
        questions = [WorkerRequest(deed("")) for _ in range(50)]
        with closing(decoders.stream(questions, most=2)) as stream:
            assert len(list(stream)) == 50
    assert len(started) == 4
    started.clear()
    refused += range(4, 20)
    monkeypatch.setattr(pool, "MAX_START_ATTEMPTS", 2)
    with WorkerPool(WorkerTask(FileLimits())) as decoders:
        decoders.start()
        with (
            closing(decoders.stream([WorkerRequest(deed(""))] * 500, most=2)) as stream,
            pytest.raises(WorkerError, match="does not start"),
        ):
            list(stream)


def test_what_was_done_counts_although_the_worker_is_lost_by_then(
    workers: WorkerPool, photo: Path
) -> None:
    """A reader that is slow finds the results of a worker that has crashed in the meantime."""
    questions = _questions(photo, MAX_IN_FLIGHT - 1)
    workers.start()
    (worker,) = workers._idle

    def items() -> Iterator[WorkerRequest]:
        yield from questions
        give_up = time.monotonic() + 20
        waiting = bytearray()
        while waiting.count(b'{"status"') < len(questions):
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


def test_a_result_that_waits_for_others_holds_no_data(hostile: WorkerPool, deed: Deed) -> None:
    data = deed("").read_bytes()
    slow = WorkerRequest(Url("memory://slow.jpg"), b"wait\n" + data)
    quick = [WorkerRequest(Url(f"memory://{n}.jpg"), data) for n in range(5)]
    with closing(hostile.stream([slow, *quick], most=2, in_order=True)) as stream:
        results = list(stream)
    assert [question.location for question, _ in results] == [slow.location] + [
        question.location for question in quick
    ]
    assert all(is_decoded(worked) for _, worked in results)
    assert all(question.data is None for question, _ in results)


def test_once_the_run_stops_nothing_behind_the_photos_in_hand_is_begun(
    workers: WorkerPool, photo: Path
) -> None:
    is_stopping = False

    def check() -> None:
        if is_stopping:
            raise StopRequested

    workers.start()
    (worker,) = workers._idle
    with closing(workers.stream(_questions(photo, 5 * MAX_IN_FLIGHT), check=check)) as stream:
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


def test_a_worker_that_speaks_out_of_turn_is_tried_again_no_more_than_a_few_times(
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
        pytest.raises(WorkerError, match="one too many"),
    ):
        decoders.process(WorkerRequest(deed("")))
