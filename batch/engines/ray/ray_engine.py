"""The labelling backend of a Ray cluster.

``RayEngine`` writes blocks of files, has them labelled by actors, checks the results and records in
the journal which parts it has. Blocks whose actors died are split until the file that causes it is
alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batch.engines.ray.actors import (
    BLOCK_RETRIES,
    LOGS_REMEDY,
    ActorConfig,
    ActorPool,
    BlockResult,
    map_blocks,
    set_actor_defaults,
)
from batch.engines.ray.connection import check_ray_installed, connect_to_ray
from batch.engines.ray.exchange import (
    BasisMismatch,
    Block,
    BlockStore,
    PartError,
    PartStore,
    find_parts_folder,
    make_run_name,
    split_into_blocks,
    split_lost_block,
    unpack_part,
)
from batch.errors import EngineError, OutputError
from batch.journal.journal import Journal
from batch.location import Location, Url, restore_secrets, strip_member
from batch.log import PROGRAM, Event, Level, Log
from batch.models.ensemble import load_ensemble
from batch.options import Device, Job
from batch.parallel import thread_map
from batch.path_text import path_text
from batch.records import Failure, FinishedFile, PendingFile, Reason, Stage
from batch.stopping import Stop
from batch.timings import Timings
from batch.vision.basis import compute_basis
from batch.vision.decide import make_failed_row
from batch.workers.worker import KnownRowLookup

if TYPE_CHECKING:
    from types import ModuleType

# Parts of earlier runs that are read at a time.
READER_THREADS = 16
# Prefix of the notes of the journal with the names of the parts that it has.
PART_NOTE_PREFIX = "part:"
# Seconds that actors have to write their parts, after their current photos, once the run stops.
WRITE_GRACE_SECONDS = 15.0


class RayEngine:
    """Labels on a Ray cluster, with a ``LocalEngine`` in each actor; see ``Engine``.

    It connects to the cluster when there is a file to label.

    Raises:
        UsageError: Ray is not installed.
        ModelError: a model is missing or not valid.
    """

    def __init__(self, job: Job, stop: Stop, log: Log) -> None:
        check_ray_installed()
        self.ensemble = load_ensemble(job.options)
        self.provider_note = ""
        self.timings = Timings()
        self.workers_text = "actors on Ray"
        self._options = options = set_actor_defaults(job.options)
        self.device = Device(options.provider)
        self._cluster, self._stop, self._log = job.cluster, stop, log
        self._basis = compute_basis(self.ensemble.models, options)
        folder, self._is_own_folder = find_parts_folder(job)
        self._parts = PartStore(folder, self._is_own_folder)
        self._run = make_run_name()
        self._blocks = BlockStore(self._parts, self._run)
        self._nodes = NodeChecker(self._parts, self._basis)
        self._journal: Journal | None = None
        self._opened = ExitStack()

    def check_models(self) -> None:
        """Do nothing: each actor checks its models before its first photo."""

    def close(self) -> None:
        """End the actors and disconnect from the cluster."""
        self._opened.close()

    def recover_finished(self, journal: Journal) -> Iterator[FinishedFile]:
        """Yield the rows of parts that the journal does not have; invalid parts are skipped."""
        self._journal = journal
        new = [name for name in self._parts.list_parts() if not _is_part_recorded(journal, name)]
        others = 0
        with closing(thread_map(self._read_part, new, READER_THREADS)) as read:
            for name, content in zip(new, read, strict=True):
                if isinstance(content, BasisMismatch):
                    others += 1
                elif isinstance(content, PartError):
                    message = f"the part {name} in {path_text(self._parts.folder)} is skipped"
                    self._log(Event.PART_PASSED_OVER, f"{message}: {content}", Level.WARNING)
                else:
                    yield from content
                    journal.write_note(PART_NOTE_PREFIX + name, "")
        if others:
            message = f"{others} parts of other models or settings are skipped"
            self._log(Event.PART_PASSED_OVER, message)

    def label(
        self,
        found: Iterable[Failure | PendingFile],
        find_known: KnownRowLookup | None = None,
        in_order: bool = False,
    ) -> Iterator[FinishedFile]:
        """Label files on the cluster, and yield them as soon as they are ready.

        ``find_known`` and ``in_order`` are ignored: actors do not have the journal.
        """
        files = iter(found)
        first = next(files, None)
        if first is None:
            return
        self.close()  # an earlier iterator may not have been closed
        with ExitStack() as self._opened:
            pool = ActorPool.from_options(self._options, self._cluster.actors)
            ray = self._opened.enter_context(connect_to_ray(self._cluster.ray_address, pool.cores))
            pool = pool.fit_to_cluster(ray)
            failed: list[Failure] = []  # files that need no actor
            workers = self._options.workers or 1
            blocks = split_into_blocks(
                _drop_failures(chain([first], files), failed), pool.size, workers
            )
            self._opened.callback(self._blocks.clear)
            number = self._blocks.write(blocks, first=0)
            yield from (FinishedFile(make_failed_row(failure)) for failure in failed)
            yield from self._label_blocks(ray, number, pool)

    def _label_blocks(
        self, ray: ModuleType, blocks: int, pool: ActorPool
    ) -> Iterator[FinishedFile]:
        """Label the first ``blocks`` blocks, then lost ones again in smaller blocks."""
        config = ActorConfig(
            options=self._options,
            # In Ray's object store, to keep the arguments of actors small.
            ensemble=partial(ray.get, ray.put(self.ensemble)),
            basis=self._basis,
            parts=self._parts,
            run=self._run,
            version=version(PROGRAM),
            folder=Path.cwd(),
        )
        grace = self._options.file_limits.decode_timeout + WRITE_GRACE_SECONDS
        first = 0
        while blocks:
            numbers = range(first, first + blocks)
            lost = set(numbers)
            with closing(map_blocks(numbers, config, pool, self._stop, grace)) as results:
                for result in results:
                    yield from self._record_result(result)
                    lost.discard(result.number)
            if self._stop.requested or not lost:
                return
            if len(lost) == blocks and blocks > 1:
                raise EngineError("all actors died, with all blocks of files", LOGS_REMEDY)
            first += blocks
            blocks = yield from self._split_lost_blocks(sorted(lost), first)

    def _split_lost_blocks(self, lost: list[int], first: int) -> Generator[FinishedFile, None, int]:
        """Split lost blocks and write them, numbered from ``first`` on; fail single files."""
        smaller: list[Block] = []
        for number in lost:
            block = self._blocks.read(number)
            name = path_text(block[0])
            self._log(
                Event.ACTOR_LOST,
                f"actors died with {name} and {len(block) - 1} more files: retrying smaller blocks",
                Level.WARNING,
            )
            if len(block) == 1:
                yield _make_crashed(block[0])
            else:
                smaller += split_lost_block(block)
        return self._blocks.write(smaller, first)

    def clean_up(self, journal: Journal) -> None:
        """Remove the parts that the journal has, if they lie beside the report.

        Notes of removed parts are deleted, but not those of an empty ``--parts`` folder, which may
        be unavailable.
        """
        journal.commit()
        try:
            names = self._parts.list_parts()
            if self._is_own_folder:
                taken = [name for name in names if _is_part_recorded(journal, name)]
                # Killed runs leave blocks, and the lock excludes another active run.
                self._parts.remove([*taken, *self._parts.list_run_files()])
                names = self._parts.list_parts()
            elif not names:
                return
        except OutputError as refusal:  # the report is published
            self._log(Event.PARTS_LEFT, str(refusal), Level.WARNING)
        else:
            journal.delete_notes(PART_NOTE_PREFIX, {PART_NOTE_PREFIX + name for name in names})

    def _read_part(self, name: str) -> list[FinishedFile] | PartError:
        try:
            return unpack_part(self._parts.read(name), self._basis)
        except PartError as error:
            return error

    def _record_result(self, result: BlockResult) -> Iterator[FinishedFile]:
        """Yield the rows of a result, then note that the journal has its part."""
        self._stop.stopped_early |= result.unstarted > 0
        finished = self._nodes.check_result(result)
        for stage, seconds in result.seconds.items():
            self.timings.add(stage, seconds)
        yield from finished
        if result.part and self._journal is not None:
            self._journal.write_note(PART_NOTE_PREFIX + result.part, "")


def _is_part_recorded(journal: Journal, name: str) -> bool:
    return journal.read_note(PART_NOTE_PREFIX + name) is not None


def _make_crashed(file: Location) -> FinishedFile:
    detail = f"{BLOCK_RETRIES + 1} actors in a row died with it"
    return FinishedFile(make_failed_row(Failure(file, Stage.DECODE, Reason.CRASHED, detail)))


def _drop_failures(
    files: Iterable[Failure | PendingFile], failed: list[Failure]
) -> Iterator[Location]:
    for item in files:
        if isinstance(item, Failure):
            failed.append(item)
            continue
        file = item.location
        if isinstance(file, Url) and restore_secrets(strip_member(file.text)) != strip_member(
            file.text
        ):
            # Blocks lie on disk and must not contain credentials.
            detail = "--engine ray does not support a URL with a signature or password"
            failed.append(Failure(file, Stage.READ, Reason.UNREADABLE, detail))
        else:
            yield file


class NodeChecker:
    """Checks that nodes see the same photos and parts folder as this machine.

    Args:
        parts: the folder of the parts.
        basis: digest of models and settings.
    """

    def __init__(self, parts: PartStore, basis: bytes) -> None:
        self._parts = parts
        self._basis = basis
        self._sharing: set[str] = set()

    def check_result(self, result: BlockResult) -> list[FinishedFile]:
        """Return the rows of a result's part, or none without a part.

        Raises:
            EngineError: the node can't label, or sees other photos or another parts folder.
            OutputError: the parts folder can't be read.
        """
        if result.problem:
            raise EngineError(f"on node {result.node}, {result.problem}", result.remedy)
        if not result.data:
            return []
        try:
            finished = unpack_part(result.data, self._basis)
        except PartError as error:
            raise EngineError(
                f"node {result.node} sent an invalid part: {error}",
                f"install the same {PROGRAM} everywhere",
            ) from error
        _check_photos(finished, result.node)
        self._check_folder(result)
        return finished

    def _check_folder(self, result: BlockResult) -> None:
        """Check, once per node, that its parts can be read here."""
        if result.node not in self._sharing and not self._parts.exists(result.part):
            raise EngineError(
                f"node {result.node} writes its parts to another {path_text(self._parts.folder)} "
                "than this machine's",
                "choose a folder that all machines share, or a URL, with --parts",
            )
        self._sharing.add(result.node)


def _check_photos(finished: list[FinishedFile], node: str) -> None:
    """Check that a node has not failed to find all files while one exists here.

    Raises:
        EngineError: it has.
    """
    if not all(_has_vanished(one) for one in finished):
        return
    for one in finished:
        if isinstance(one.row.path, Path) and one.row.path.is_file():
            raise EngineError(
                f"node {node} does not find {path_text(one.row.path)}, which exists here",
                "put the photos on a disk that all machines share under the same path, or "
                "give their URL",
            )


def _has_vanished(finished: FinishedFile) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED
