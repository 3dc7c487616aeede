"""The labelling backend of this machine: worker processes, and the models on a CPU or GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

from batch.discovery.fetcher import PATIENCE_FACTOR, FetchedFile, Fetcher
from batch.journal.journal import Journal
from batch.location import Location, Url
from batch.log import count_text
from batch.models.ensemble import Ensemble, load_ensemble
from batch.options import Options
from batch.parallel import available_cores, thread_map
from batch.records import (
    Failure,
    FileState,
    FinishedFile,
    InMemoryFile,
    PendingFile,
    Photo,
    Row,
    WorkerResult,
)
from batch.stopping import StopCheck, never_stop
from batch.timings import READ, Timings
from batch.vision.decide import make_failed_row
from batch.vision.plan import choose_ensemble_device, make_plan
from batch.workers.pool import WorkerPool
from batch.workers.process import LABELLING_PROGRAM, LaunchedWorker, create_shared_file, write_plan
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import KnownRowLookup, WorkerTask

# A worker leaves its core idle while the GPU runs the models on its photo.
WORKERS_PER_CORE_ON_GPU = 2


class LocalEngine:
    """Models and workers of this machine, ready for any number of photos; see ``Engine``.

    On the CPU, one worker does all stages of a photo, from its file to its row. So all cores are
    busy whichever stage is slow, and no photo waits for a batch. On GPUs, workers decode, and
    threads of this process gather batches and run the models. The workers end with ``close``, or
    when the engine is garbage-collected.

    Args:
        options: how to label.
        ensemble: the models; None to load those of the options.
        check: once it raises ``StopRequested``, no more photos are started.
        launched: the first worker, if it was started early.
        check_now: check models on the CPU now; otherwise call ``check_models`` before ``label``.
            Models on GPUs are always checked now.

    Attributes:
        workers: the concurrency limit.

    Raises:
        ModelError: a model is missing, not valid or gives wrong answers for its golden samples.
        ProviderError: the requested provider does not work.
        WorkerError: no worker starts.
    """

    def __init__(
        self,
        options: Options,
        ensemble: Ensemble | None = None,
        check: StopCheck = never_stop,
        launched: LaunchedWorker | None = None,
        check_now: bool = True,
    ) -> None:
        self.ensemble = ensemble or load_ensemble(options)
        self.device, self.provider_note = choose_ensemble_device(self.ensemble, options.device)
        self.timings = Timings()
        self._options, self._check = options, check
        plan = make_plan(self.ensemble, options.batch_size)
        cores = available_cores()
        if self.device.devices:
            # Imported late: it loads ONNX Runtime, which on a CPU only the workers need.
            from batch.vision.labeller import Labeller

            self._labeller = Labeller(plan, self.device)
            self.timings = self._labeller.timings
            cores *= WORKERS_PER_CORE_ON_GPU
            task, launched = WorkerTask(options.file_limits), None
        else:
            file = launched.file if launched else create_shared_file()
            write_plan(plan, file)
            if launched:
                launched.announce_plan()
            names = self.ensemble.labels, self.ensemble.outputs
            task = WorkerTask(options.file_limits, LABELLING_PROGRAM, file, *names)
        self.workers = options.workers or cores
        self.workers_text = count_text(self.workers, "worker")
        limits = options.file_limits
        patience = PATIENCE_FACTOR * limits.decode_timeout
        self._fetcher = Fetcher(limits.max_file_size, check, patience)
        self._workers = WorkerPool(task, launched)
        if check_now or self.device.devices:
            self.check_models()

    def check_models(self) -> None:
        """Start a worker, which checks the models; see ``Engine``."""
        self._workers.start(self._check)

    def recover_finished(self, journal: Journal) -> Iterable[FinishedFile]:
        """Return nothing: the journal has all rows."""
        return ()

    def clean_up(self, journal: Journal) -> None:
        """Do nothing: there are no files besides the journal."""

    def close(self) -> None:
        """End the workers."""
        self._workers.close()
        self._fetcher.close()

    def label_in_order(self, found: Iterable[Location | Failure | InMemoryFile]) -> Iterator[Row]:
        """Label files, one row each, in order, and then end the workers."""
        with closing(self):
            for finished in self.label(found, in_order=True):
                yield finished.row

    def label(
        self,
        found: Iterable[Location | Failure | InMemoryFile | PendingFile],
        find_known: KnownRowLookup | None = None,
        in_order: bool = False,
    ) -> Iterator[FinishedFile]:
        """Label files, one row each; see ``Engine``."""
        items = (
            self._make_request(item, find_known is not None)
            for item in self._fetcher.prefetch(map(_unwrap_remote, found), in_order)
        )
        if self.device.devices:
            process = partial(self._process_item, find_known)
            with closing(thread_map(process, items, self.workers, in_order)) as finished:
                yield from finished
            return
        with closing(
            self._workers.stream(items, find_known, self.workers, in_order, self._check)
        ) as results:
            for item in results:
                yield item if isinstance(item, FinishedFile) else self._to_finished(*item)

    def _make_request(
        self, item: Location | Failure | InMemoryFile | PendingFile | FetchedFile, has_lookup: bool
    ) -> WorkerRequest | FinishedFile:
        """Make the request for a file; a row if it has failed already."""
        location: Location
        data, may_be_known = None, has_lookup
        if isinstance(item, FetchedFile):
            self.timings.add(READ, item.seconds)
            if isinstance(item.content, Failure):
                return FinishedFile(make_failed_row(item.content))
            location, data = item.url, item.content
        elif isinstance(item, InMemoryFile):
            location, data = item.url, item.data
        elif isinstance(item, PendingFile):
            location, may_be_known = item.location, has_lookup and item.may_be_known
        elif isinstance(item, Failure):
            return FinishedFile(make_failed_row(item))
        else:
            location = item
        salvage, with_location = self._options.salvage, self._options.with_location
        return WorkerRequest(
            location, data, True, may_be_known, salvage, with_location=with_location
        )

    def _process_item(
        self, find_known: KnownRowLookup | None, item: WorkerRequest | FinishedFile
    ) -> FinishedFile:
        if isinstance(item, FinishedFile):
            return item
        return self._to_finished(item, self._workers.process(item, find_known))

    def _to_finished(self, request: WorkerRequest, result: WorkerResult) -> FinishedFile:
        """Make the row of a result; on a GPU, run the models on its photo."""
        self.timings.add_all({READ: result.read_seconds, **result.seconds})
        content, state = result.content, result.state
        if isinstance(content, Photo):
            content = self._labeller.label(content)
        row = make_failed_row(content) if isinstance(content, Failure) else content
        url = request.location
        if isinstance(url, Url):  # size, mtime and ETag are those of the listing
            state = FileState(url.size, url.mtime_ns, state.digest if state else None, url.etag)
        row = replace(row, sha256=state.digest if state else None)
        return FinishedFile(row, state, result.copied, result.text)


def _unwrap_remote(
    item: Location | Failure | InMemoryFile | PendingFile,
) -> Location | Failure | InMemoryFile | PendingFile:
    """Replace a pending remote file by its URL, so that its row is always looked up.

    The lookup costs far less than the fetch that was needed anyway.
    """
    return (
        item.location if isinstance(item, PendingFile) and isinstance(item.location, Url) else item
    )
