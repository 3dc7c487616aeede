"""The way of a photo, from the file that was found to its row, and how many go it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial

import numpy as np

from batch.discovery.fetching import PATIENCE, Fetched, Fetcher
from batch.inference.placement import choose_place
from batch.journal.journal import Journal
from batch.location import Location, Url
from batch.log import counted
from batch.models.ensemble import Ensemble, Plan, load_ensemble
from batch.options import Options
from batch.parallel import available_cores, thread_map
from batch.records import (
    Failure,
    FileState,
    Finished,
    Loaded,
    Pending,
    Photo,
    Row,
    Worked,
)
from batch.stopping import Check, never_stop
from batch.timings import READ, Timings
from batch.vision.decide import failed_row
from batch.vision.yunet_graph import detector_graph
from batch.workers.pool import Workers
from batch.workers.process import LABELLING, Launched, shared_file, write_plan
from batch.workers.protocol import Question
from batch.workers.worker import Known, Task

# A worker leaves its core alone while a device looks at what it has decoded.
WORKERS_A_CORE_ON_DEVICES = 2


class Pipeline:
    """Models and workers, opened and proved, ready for any number of photos.

    On the CPU a worker takes a photo all the way to its row: then all cores are busy whatever
    stage is slow, nothing waits for a batch, and workers share nothing that could hold them up. On
    devices workers decode, and threads of this process ask the models, which gather batches.

    ``place`` is where the models run; ``provider_note`` says why that is not CUDA where it could
    have been, else it is empty. ``timings`` grow as photos pass, and ``crew`` says who works. The
    workers end with ``close``, or when nobody holds this any more. ``ensemble`` is read as the
    options say unless it is given. Once ``check`` raises ``StopRequested``, no more photos are
    begun. A worker that was ``launched`` is the first. Unless it ``is_proved`` at once, a model on
    the CPU is by ``prove``, which must come before ``label``; on devices all is proved here.

    Raises:
        ModelError: a model is missing, breaks the contract or answers wrongly.
        ProviderError: the provider that was asked for does not work.
        WorkerError: no worker starts.
    """

    def __init__(
        self,
        options: Options,
        ensemble: Ensemble | None = None,
        check: Check = never_stop,
        launched: Launched | None = None,
        is_proved: bool = True,
    ) -> None:
        self.ensemble = ensemble or load_ensemble(options)
        first = self.ensemble.models[0]
        warm_up = np.zeros((1, first.height, first.width, first.channels), dtype=np.uint8)
        self.place, self.provider_note = choose_place(options.place, first.graph, warm_up)
        self.timings = Timings()
        self._salvage, self._check = options.salvage, check
        detector = detector_graph() if self.ensemble.face else b""
        plan = Plan(self.ensemble, detector, options.batch_size)
        cores = available_cores()
        if self.place.devices:
            # Here, as it loads ONNX Runtime, which a run on the CPU leaves to its workers.
            from batch.vision.labeller import Labeller

            self._labeller = Labeller(plan, self.place)
            self.timings = self._labeller.timings
            cores *= WORKERS_A_CORE_ON_DEVICES
            task, launched = Task(options.file_limits), None
        else:
            file = launched.file if launched else shared_file()
            write_plan(plan, file)
            if launched:
                launched.let_read()
            names = self.ensemble.labels, self.ensemble.outputs
            task = Task(options.file_limits, LABELLING, file, *names)
        self.workers = options.workers or cores
        self.crew = counted(self.workers, "worker")
        limits = options.file_limits
        patience = PATIENCE * limits.decode_timeout
        self._fetcher = Fetcher(limits.max_file_size, check, patience)
        self._workers = Workers(task, launched)
        if is_proved or self.place.devices:
            self.prove()

    def prove(self) -> None:
        """Start a worker and wait for it, so that what keeps it from working shows.

        Raises:
            ModelError: a model answers its golden samples wrongly.
            ProviderError: a model does not run.
            WorkerError: no worker starts.
        """
        self._workers.start(self._check)

    def resume(self, journal: Journal) -> Iterable[Finished]:
        """Give nothing: what a run here has finished is in its journal."""
        return ()

    def settle(self, journal: Journal) -> None:
        """Do nothing: there is only the journal."""

    def close(self) -> None:
        """End the workers."""
        self._workers.close()
        self._fetcher.close()

    def run(self, found: Iterable[Location | Failure | Loaded]) -> Iterator[Row]:
        """Label files, one row each, in the order they come, and end the workers."""
        with closing(self):
            for finished in self.label(found, in_order=True):
                yield finished.row

    def label(
        self,
        found: Iterable[Location | Failure | Loaded | Pending],
        known: Known | None = None,
        in_order: bool = False,
    ) -> Iterator[Finished]:
        """Label files, one row each, as they are ready or ``in_order``.

        Rows that are ``known`` are taken over.
        """
        items = (
            self._prepare(item, known is not None)
            for item in self._fetcher.ahead(map(_without_flag, found), in_order)
        )
        if self.place.devices:
            results = thread_map(partial(self._work, known), items, self.workers, in_order)
            with closing(results):
                yield from results
            return
        with closing(
            self._workers.stream(items, known, self.workers, in_order, self._check)
        ) as worked:
            for item in worked:
                yield item if isinstance(item, Finished) else self._finish(*item)

    def _prepare(
        self, item: Location | Failure | Loaded | Pending | Fetched, is_asked: bool
    ) -> Question | Finished:
        """Make the question to a worker of a file; a row if there is nothing to ask."""
        location: Location
        data, may_be_known = None, is_asked
        if isinstance(item, Fetched):
            self.timings.add(READ, item.seconds)
            if isinstance(item.content, Failure):
                return Finished(failed_row(item.content))
            location, data = item.url, item.content
        elif isinstance(item, Loaded):
            location, data = item.url, item.data
        elif isinstance(item, Pending):
            location, may_be_known = item.location, is_asked and item.may_be_known
        elif isinstance(item, Failure):
            return Finished(failed_row(item))
        else:
            location = item
        return Question(location, data, is_asked, may_be_known, self._salvage)

    def _work(self, known: Known | None, item: Question | Finished) -> Finished:
        if isinstance(item, Finished):
            return item
        return self._finish(item, self._workers.work(item, known))

    def _finish(self, question: Question, worked: Worked) -> Finished:
        """Make the row of a result, on devices by asking the models."""
        self.timings.add_all({READ: worked.read_seconds, **worked.seconds})
        content, state = worked.content, worked.state
        if isinstance(content, Photo):
            content = self._labeller.row(content)
        row = failed_row(content) if isinstance(content, Failure) else content
        url = question.location
        if isinstance(url, Url):  # which knows what the listing said, and the worker does not
            state = FileState(url.size, url.mtime_ns, state.digest if state else None, url.etag)
        return Finished(row, state, worked.copied, worked.text)


def _without_flag(
    item: Location | Failure | Loaded | Pending,
) -> Location | Failure | Loaded | Pending:
    """Give the URL alone of a file that is to be fetched: then it is worth to look for its row."""
    return item.location if isinstance(item, Pending) and isinstance(item.location, Url) else item
