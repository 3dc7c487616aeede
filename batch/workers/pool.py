"""Photos are worked on in processes of their own, so that a bad file costs a row and no run."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO

from batch.decode import detail_loader
from batch.errors import WorkerError
from batch.location import Location
from batch.recording.timings import DECODE
from batch.records import Failure, FileState, Photo, Reason, Row, Stage, Worked
from batch.workers.process import ATTEMPTS, PAUSE
from batch.workers.worker import Known, Lost, Task, Worker


class Workers:
    """Processes that read, decode and perhaps label photos, one for each thread that asks.

    They are started as they are needed, and one that was lost is replaced. Safe to share
    between threads. They end with ``close``, or when nobody holds this any more.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._has_started = self._is_closed = False
        self._end = weakref.finalize(self, _end, self._idle, task.plan)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start one, so that what keeps it from working shows.

        Raises:
            WorkerError: it does not start.
            ModelError, ProviderError: its models do not work.
        """
        self._give_back(self._taken())

    def work(
        self,
        path: Location,
        known: Known | None = None,
        salvage: bool = False,
        data: bytes | None = None,
        in_detail: bool = False,
    ) -> Worked:
        """Have a file read, decoded and, if that is the task, labelled.

        A worker reads paths by itself; of a URL it is given the bytes, ``data``, as it does not
        have what it takes to fetch them, and what can take it over shall not have it either.
        ``known`` is asked with the SHA-256 of the file's bytes before they are decoded. With
        ``salvage`` what is there of a truncated photo will do, see ``decode_upright``. A file
        that takes too long, or that the process does not survive, is a Failure. A large photo has
        a worker decode it once more for its detail, which is what it gives ``in_detail``.

        Raises:
            WorkerError, ModelError, ProviderError: as for ``start``.
        """
        worker = self._taken()
        started = time.perf_counter()
        try:
            worked = worker.work(path, known, salvage, data, in_detail)
        except Lost as lost:
            worker.kill()
            seconds = {DECODE: time.perf_counter() - started - worker.verdict_seconds}
            failure = Failure(path, Stage.DECODE, lost.reason, lost.detail)
            return Worked(failure, seconds=seconds)
        except BaseException:  # what it has in hand would be taken for the next photo's
            worker.kill()
            raise
        self._give_back(worker)
        content = worked.content
        if isinstance(content, Photo) and not in_detail:
            load = functools.partial(self._load_detail, content, worked.state, salvage, data)
            side, most = max(content.image.size), self._task.limits.max_pixels
            loader = detail_loader(content, side, most, load)
            worked = replace(worked, content=replace(content, load_detail=loader))
        return worked

    def _load_detail(
        self, photo: Photo, state: FileState | None, salvage: bool, data: bytes | None
    ) -> Photo | Failure:
        worked = self.work(photo.path, None, salvage, data, in_detail=True)
        content = worked.content
        if isinstance(content, Photo) and state and worked.state:
            same = (worked.state.size, worked.state.mtime_ns) == (state.size, state.mtime_ns)
            if not same:
                detail = "it has changed while it was labelled"
                return Failure(photo.path, Stage.READ, Reason.UNREADABLE, detail)
        assert not isinstance(content, Row)
        return content

    def close(self) -> None:
        """End all processes; those in use end as they are given back."""
        with self._lock:
            self._is_closed = True
        self._end()

    def _taken(self) -> Worker:
        while True:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                return self._begun()
            if worker.is_alive:
                return worker
            worker.kill()  # somebody else did, between two photos

    def _begun(self) -> Worker:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                worker = Worker(self._task)
            except WorkerError:
                if not self._has_started or attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE)
            else:
                self._has_started = True
                return worker
        raise AssertionError("the last attempt returns or raises")

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()


def _end(idle: list[Worker], plan: BinaryIO | None) -> None:
    for worker in idle:
        worker.hang_up()
    while idle:
        idle.pop().end()
    if plan:
        plan.close()
