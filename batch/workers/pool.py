"""The pool of worker processes: distributes requests, replaces lost workers, collects results.

Photos are decoded in processes of their own, so that a malicious file ends a process and not the
run. ``WorkerPool`` owns the processes; each call of ``stream`` or ``process`` uses some of them
through a ``_WorkStream``, which talks to each process through a ``Worker`` (``worker.py``).
"""

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
# The number of an item, and its result.
NumberedResult: TypeAlias = tuple[int, PassedItem | tuple[WorkerRequest, WorkerResult]]

# How often the clock is checked within a photo's time limit, see ``CappedClock``.
CHECKS_PER_TIMEOUT = 50
# Most results that are held back for an earlier one, to yield them in order.
MAX_HELD_RESULTS = 1_000


class WorkerPool:
    """Worker processes for one task.

    Processes are started when needed, and replaced when lost. Threads may share a pool: each call
    uses processes of its own. The processes end with ``close`` or when the pool is collected.

    Args:
        task: the program and limits of the workers.
        launched: the first worker, if it was started before the task was known.
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
        """Start a process, to find errors early; ``check`` may raise an exception to stop waiting.

        Raises:
            WorkerError: it did not start.
            ModelError, ProviderError: a model does not work.
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
        find_known: KnownRowLookup | None = None,
        max_workers: int = 1,
        in_order: bool = False,
        check: StopCheck = never_stop,
    ) -> Generator[PassedItem | tuple[WorkerRequest, WorkerResult], None, None]:
        """Process files and yield each request with its result.

        A file that takes too long or crashes its process results in a ``Failure``. Closing the
        iterator drops the requests in flight.

        Args:
            items: requests; other items are yielded unchanged.
            find_known: finds the row of a file with the same bytes; called before a file is decoded
                if its request says ``may_be_known``.
            max_workers: the concurrency limit.
            in_order: yield in the order of ``items`` instead of as soon as results are ready; at
                most ``MAX_HELD_RESULTS`` are held back.
            check: once it raises ``StopRequested``, current photos are finished and no others are
                started.

        Raises:
            WorkerError, ModelError, ProviderError: as for ``start``.
        """
        max_held = MAX_HELD_RESULTS if in_order else None
        stream = _WorkStream(self, items, find_known, max_workers, max_held, check)
        with closing(stream.results()) as results:
            if not in_order:
                for _, result in results:
                    yield result
                return
            held: dict[int, PassedItem | tuple[WorkerRequest, WorkerResult]] = {}
            for number, result in results:
                held[number] = result
                while stream.yielded in held:
                    yield held.pop(stream.yielded)
                    stream.yielded += 1

    def process(
        self, request: WorkerRequest, find_known: KnownRowLookup | None = None
    ) -> WorkerResult:
        """Process one file, as ``stream`` does; a decoded photo gets a loader of its detail.

        Raises:
            WorkerError, ModelError, ProviderError: as for ``start``.
        """
        with closing(self.stream([request], find_known)) as results:
            ((_, result),) = results
        content = result.content
        if isinstance(content, Photo) and not request.in_detail:
            # Imported late: it loads Pillow, which a run on the CPU needs in its workers only.
            from batch.vision.decode import choose_detail_loader

            load = functools.partial(self._load_detail, request, result.state)
            side, max_pixels = max(content.image.size), self.task.limits.max_pixels
            loader = choose_detail_loader(content, side, max_pixels, load)
            result = replace(result, content=replace(content, load_detail=loader))
        return result

    def _load_detail(self, request: WorkerRequest, state: FileState | None) -> Photo | Failure:
        again = replace(request, digest=False, may_be_known=False, in_detail=True)
        result = self.process(again)
        content = result.content
        if isinstance(content, Photo) and state and result.state:
            same = (result.state.size, result.state.mtime_ns) == (state.size, state.mtime_ns)
            if not same:
                detail = "it changed while it was labelled"
                return Failure(request.location, Stage.READ, Reason.UNREADABLE, detail)
        assert not isinstance(content, Row)
        return content

    def close(self) -> None:
        """End all processes; those in use end when they are released."""
        with self._lock:
            self._is_closed = True
        self._end()

    def acquire(self) -> Worker:
        """Take an idle process, or start one, which may not be ready yet."""
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                launched, self._launched = self._launched, None
                return Worker(self.task, launched)
            if worker.is_alive:
                return worker
            worker.kill()  # it was killed while idle

    def release(self, worker: Worker) -> None:
        """Return an idle process to the pool."""
        with self._lock:
            if not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()


class _WorkStream(Generic[PassedItem]):
    """One call of ``WorkerPool.stream``: its workers, queued requests and results.

    Attributes:
        yielded: number of results that the caller has yielded in order; limits the held ones.
    """

    def __init__(
        self,
        workers: WorkerPool,
        items: Iterable[WorkerRequest | PassedItem],
        find_known: KnownRowLookup | None,
        max_workers: int,
        max_held: int | None,
        check: StopCheck,
    ) -> None:
        self.yielded = self._taken = 0
        self._workers = workers
        self._items = enumerate(items)
        self._find_known = find_known
        self._max_workers = max_workers
        self._max_held = max_held
        self._check, self._has_stopped = check, False
        self._queued: deque[NumberedRequest] = deque()  # new requests, and those of lost workers
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
        """Yield numbered results until all items have one."""
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
        """If a stop is requested, drop all requests except the workers' current ones."""
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
        """Send requests to workers with room, idle ones first; if none has room, start others."""
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
            if len(self._active) >= self._max_workers or self._clock.now < self._start_at:
                return
            # Start one worker per queued request.
            yield from self._take_items(starting + 1)
            if len(self._queued) <= starting or not self._add_worker():
                return

    def _take_items(self, count: int) -> Iterator[NumberedResult[PassedItem]]:
        """Take items until ``count`` requests are queued; yield those that are not requests."""
        while len(self._queued) < count:
            if self._max_held is not None and self._taken >= self.yielded + self._max_held:
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
        """Add a worker.

        Returns:
            False if it did not start.
        """
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
            for numbered, result in worker.receive(self._find_known, self._clock):
                if is_new:
                    self._failed_starts, self._workers.has_started = 0, True
                yield numbered.number, (_drop_data(numbered.request), result)
                if self._has_stopped:
                    self._remove_worker(worker)  # it has started its next request
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
        """Fail the current photo of a lost worker, and queue its other requests again."""
        self._remove_worker(worker)
        if worker.in_flight:
            numbered, result = worker.fail_current(lost)
            if not self._has_stopped:
                self._queued.extendleft(reversed(worker.in_flight))
            yield numbered.number, (_drop_data(numbered.request), result)
        elif not worker.has_replied:
            self._count_failed_start(make_start_error(f"{lost}, before its first photo"))

    def _remove_worker(self, worker: Worker) -> None:
        self._selector.unregister(worker)
        self._active.remove(worker)
        worker.kill()

    def _count_failed_start(self, error: WorkerError) -> None:
        """Schedule another attempt after ``RETRY_SECONDS``.

        Raises:
            WorkerError: no process has ever started, or ``MAX_START_ATTEMPTS`` failed in a row.
        """
        self._failed_starts += 1
        if not self._workers.has_started or self._failed_starts == MAX_START_ATTEMPTS:
            raise error
        self._start_at = self._clock.now + RETRY_SECONDS


def _drop_data(request: WorkerRequest) -> WorkerRequest:
    """Drop the photo's data, so that a held result does not keep it in memory."""
    return request if request.data is None else replace(request, data=None)


def _end_processes(idle: list[Worker], plan: BinaryIO | None) -> None:
    for worker in idle:
        worker.disconnect()
    while idle:
        idle.pop().end()
    if plan:
        plan.close()
