"""Photos are worked on in processes of their own, so that a bad file costs a row and no run."""

from __future__ import annotations

import functools
import selectors
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO, Generic, TypeAlias, TypeVar

from batch.errors import WorkerError
from batch.records import Failure, FileState, Photo, Reason, Row, Stage, WorkerResult
from batch.stopping import StopCheck, StopRequested, never_stop
from batch.workers.process import (
    MAX_START_ATTEMPTS,
    RETRY_SECONDS,
    LaunchedWorker,
    make_start_error,
)
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import (
    CappedClock,
    KnownRowLookup,
    NumberedRequest,
    Worker,
    WorkerLost,
    WorkerTask,
)

PassedItem = TypeVar("PassedItem")
# Of an item by its number.
NumberedResult: TypeAlias = tuple[int, PassedItem | tuple[WorkerRequest, WorkerResult]]

# The time limit is waited for in so many parts at least, see ``CappedClock``.
CHECKS_PER_TIMEOUT = 50
# Results that wait for one before them, where they are given in order.
MAX_HELD_RESULTS = 1_000


class WorkerPool:
    """Processes that read, decode and perhaps label photos.

    They are started as they are needed, and one that was lost is replaced. Safe to share
    between threads, each of which uses its own processes at a time. They end with ``close``, or
    when nobody holds this any more. The first may be ``launched`` already.
    """

    def __init__(self, task: WorkerTask, launched: LaunchedWorker | None = None) -> None:
        self.task, self._launched = task, launched
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self.has_started = self._is_closed = False
        self._end = weakref.finalize(self, _end_processes, self._idle, task.plan)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, check: StopCheck = never_stop) -> None:
        """Start one, so that what keeps it from working shows; ``check`` may end the wait for it.

        Raises:
            WorkerError: it does not start.
            ModelError, ProviderError: its models do not work.
        """
        worker = self.acquire()
        try:
            worker.wait_until_ready(check)
        except BaseException:
            worker.kill()
            raise
        self.has_started = True
        self.release(worker)

    def stream(
        self,
        items: Iterable[WorkerRequest | PassedItem],
        known: KnownRowLookup | None = None,
        most: int = 1,
        in_order: bool = False,
        check: StopCheck = never_stop,
    ) -> Generator[PassedItem | tuple[WorkerRequest, WorkerResult], None, None]:
        """Have files worked on by up to ``most`` processes, and give each with its result.

        Items that are no questions are passed on. Results come as they are ready or ``in_order``,
        then at most ``MAX_HELD_RESULTS`` of them wait for one before them. ``known`` is asked for files
        that may be known with the state of the file, before it is decoded. A file that takes too
        long, or that the process does not survive, is a Failure. Once ``check`` raises
        ``StopRequested``, no file is begun any more, and those in hand are finished. Closing the
        iterator drops what is in flight.

        Raises:
            WorkerError, ModelError, ProviderError: as for ``start``.
        """
        stream = _WorkStream(
            self, items, known, most, MAX_HELD_RESULTS if in_order else None, check
        )
        with closing(stream.results()) as results:
            if not in_order:
                for _, result in results:
                    yield result
                return
            held: dict[int, PassedItem | tuple[WorkerRequest, WorkerResult]] = {}
            for number, result in results:
                held[number] = result
                while stream.given in held:
                    yield held.pop(stream.given)
                    stream.given += 1

    def process(self, request: WorkerRequest, known: KnownRowLookup | None = None) -> WorkerResult:
        """Have one file worked on, see ``stream``; a decoded photo can load its detail.

        Raises:
            WorkerError, ModelError, ProviderError: as for ``start``.
        """
        with closing(self.stream([request], known)) as results:
            ((_, worked),) = results
        content = worked.content
        if isinstance(content, Photo) and not request.in_detail:
            # Here, as it loads Pillow, which a run on the CPU leaves to its workers.
            from batch.vision.decode import choose_detail_loader

            load = functools.partial(self._load_detail, request, worked.state)
            side, most = max(content.image.size), self.task.limits.max_pixels
            loader = choose_detail_loader(content, side, most, load)
            worked = replace(worked, content=replace(content, load_detail=loader))
        return worked

    def _load_detail(self, request: WorkerRequest, state: FileState | None) -> Photo | Failure:
        again = replace(request, digest=False, may_be_known=False, in_detail=True)
        worked = self.process(again)
        content = worked.content
        if isinstance(content, Photo) and state and worked.state:
            same = (worked.state.size, worked.state.mtime_ns) == (state.size, state.mtime_ns)
            if not same:
                detail = "it has changed while it was labelled"
                return Failure(request.location, Stage.READ, Reason.UNREADABLE, detail)
        assert not isinstance(content, Row)
        return content

    def close(self) -> None:
        """End all processes; those in use end as they are given back."""
        with self._lock:
            self._is_closed = True
        self._end()

    def acquire(self) -> Worker:
        """Give an idle process, or start one, which may not be ready yet."""
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                launched, self._launched = self._launched, None
                return Worker(self.task, launched)
            if worker.is_alive:
                return worker
            worker.kill()  # somebody else did, between two photos

    def release(self, worker: Worker) -> None:
        """Take back a process that has nothing in hand."""
        with self._lock:
            if not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()


class _WorkStream(Generic[PassedItem]):
    """One caller's use of some workers: what is asked of which, and what comes back.

    ``given`` is how many results the caller has been given in order, if ``most_held`` counts.
    """

    def __init__(
        self,
        workers: WorkerPool,
        items: Iterable[WorkerRequest | PassedItem],
        known: KnownRowLookup | None,
        most: int,
        most_held: int | None,
        check: StopCheck,
    ) -> None:
        self.given = self._taken = 0
        self._workers = workers
        self._items = enumerate(items)
        self._known = known
        self._most = most
        self._most_held = most_held
        self._check, self._has_stopped = check, False
        self._queued: deque[NumberedRequest] = (
            deque()
        )  # not asked yet, or of a worker that was lost
        self._active: list[Worker] = []
        self._in_flight = workers.task.in_flight
        self._selector = selectors.DefaultSelector()
        self._poll_seconds = min(
            workers.task.limits.decode_timeout / CHECKS_PER_TIMEOUT, RETRY_SECONDS
        )
        self._clock = CappedClock(self._poll_seconds)
        self._checked = 0.0
        self._failed_starts, self._start_at = 0, 0.0

    def results(self) -> Generator[NumberedResult[PassedItem], None, None]:
        """Give numbered results until all that was asked is answered."""
        try:
            while True:
                self._check_stop()
                yield from self._dispatch()
                if not self._queued and not any(worker.in_flight for worker in self._active):
                    return
                events = self._selector.select(self._poll_seconds)
                self._clock.tick()
                for key, _ in events:
                    yield from self._receive(key.data)
                if self._clock.now - self._checked >= self._poll_seconds:
                    self._checked = self._clock.now
                    for worker in tuple(self._active):
                        yield from self._check_time(worker)
        finally:
            self._selector.close()
            for worker in self._active:
                if worker.is_ready and not worker.in_flight:
                    self._workers.release(worker)
                else:
                    worker.kill()

    def _check_stop(self) -> None:
        """If the run is to end, let the workers finish what they have in hand, and nothing else."""
        if not self._queued and not any(len(worker.in_flight) > 1 for worker in self._active):
            return
        try:
            self._check()
        except StopRequested:
            self._has_stopped = True
            self._queued.clear()
            for worker in self._active:
                worker.drop_queued()

    def _dispatch(self) -> Iterator[NumberedResult[PassedItem]]:
        """Ask all workers that have room, the idle ones first, and start others if none has."""
        while not self._has_stopped:
            for level in range(1, self._in_flight + 1):
                for worker in tuple(self._active):
                    if worker.has_room(level):
                        yield from self._take_items(1)
                        if not self._queued:
                            return
                        if worker.send_request(self._queued[0], self._clock.now):
                            self._queued.popleft()
            starting = sum(not worker.is_ready for worker in self._active)
            if len(self._active) >= self._most or self._clock.now < self._start_at:
                return
            # One for each file that waits.
            yield from self._take_items(starting + 1)
            if len(self._queued) <= starting or not self._add_worker():
                return

    def _take_items(self, count: int) -> Iterator[NumberedResult[PassedItem]]:
        """Take items until so many questions wait; others are results already."""
        while len(self._queued) < count:
            if self._most_held is not None and self._taken >= self.given + self._most_held:
                return
            for number, item in self._items:
                self._taken = number + 1
                if isinstance(item, WorkerRequest):
                    self._queued.append(NumberedRequest(number, item))
                else:
                    yield number, item
                break
            else:
                return

    def _add_worker(self) -> bool:
        """Add a worker; False if it does not start."""
        try:
            worker = self._workers.acquire()
        except WorkerError as error:
            self._count_failed_start(error)
            return False
        self._active.append(worker)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        return True

    def _receive(self, worker: Worker) -> Iterator[NumberedResult[PassedItem]]:
        is_new = not worker.has_replied
        try:
            for asked, worked in worker.receive(self._known, self._clock):
                if is_new:
                    self._failed_starts, self._workers.has_started = 0, True
                yield asked.number, (_drop_data(asked.request), worked)
                if self._has_stopped:
                    self._remove_worker(worker)  # which begins with the next
                    return
        except WorkerLost as lost:
            yield from self._replace_lost(worker, lost)
        except WorkerError as error:
            self._remove_worker(worker)
            self._count_failed_start(error)

    def _check_time(self, worker: Worker) -> Iterator[NumberedResult[PassedItem]]:
        try:
            worker.check_timeout(self._clock.now)
        except WorkerLost as lost:
            yield from self._replace_lost(worker, lost)
        except WorkerError as error:
            self._remove_worker(worker)
            self._count_failed_start(error)

    def _replace_lost(
        self, worker: Worker, lost: WorkerLost
    ) -> Iterator[NumberedResult[PassedItem]]:
        """Let go of a lost worker: the file in hand fails, and others get those behind it."""
        self._remove_worker(worker)
        if worker.in_flight:
            asked, worked = worker.fail_current(lost)
            if not self._has_stopped:
                self._queued.extendleft(reversed(worker.in_flight))
            yield asked.number, (_drop_data(asked.request), worked)
        elif not worker.has_replied:
            self._count_failed_start(make_start_error(f"{lost}, before its first photo"))

    def _remove_worker(self, worker: Worker) -> None:
        self._selector.unregister(worker)
        self._active.remove(worker)
        worker.kill()

    def _count_failed_start(self, error: WorkerError) -> None:
        """Try again in a while: once a process has started, others do unless something runs short.

        Raises:
            WorkerError: that has not helped, or none has ever started.
        """
        self._failed_starts += 1
        if not self._workers.has_started or self._failed_starts == MAX_START_ATTEMPTS:
            raise error
        self._start_at = self._clock.now + RETRY_SECONDS


def _drop_data(request: WorkerRequest) -> WorkerRequest:
    """Let go of a photo's data, which a result that waits for others needs no more."""
    return request if request.data is None else replace(request, data=None)


def _end_processes(idle: list[Worker], plan: BinaryIO | None) -> None:
    for worker in idle:
        worker.disconnect()
    while idle:
        idle.pop().end()
    if plan:
        plan.close()
