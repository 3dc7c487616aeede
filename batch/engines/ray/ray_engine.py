"""The nodes of a cluster, whose answers count where they see what this machine sees."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batch.engines.ray.actor import ActorConfig, BlockResult
from batch.engines.ray.blocks import Block, BlockStore, split_into_blocks, split_lost_block
from batch.engines.ray.connection import check_ray_installed, connect_to_ray
from batch.engines.ray.mapping import (
    BLOCK_RETRIES,
    LOGS_REMEDY,
    ActorPool,
    map_blocks,
    set_actor_defaults,
)
from batch.engines.ray.parts import (
    BasisMismatch,
    PartError,
    PartStore,
    find_parts_folder,
    make_run_name,
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


class NodeChecker:
    """Looks at what nodes answer, whose parts are to be in ``parts`` and to have this ``basis``."""

    def __init__(self, parts: PartStore, basis: bytes) -> None:
        self._parts = parts
        self._basis = basis
        self._sharing: set[str] = set()

    def check_result(self, answer: BlockResult) -> list[FinishedFile]:
        """Give the rows of an answer's part, none where it has no part.

        Raises:
            EngineError: its node can't work, or sees other photos or another place for parts
                than this machine.
            OutputError: the place of the parts can't be looked at.
        """
        if answer.problem:
            raise EngineError(f"on node {answer.node}, {answer.problem}", answer.remedy)
        if not answer.data:
            return []
        try:
            finished = unpack_part(answer.data, self._basis)
        except PartError as error:
            raise EngineError(
                f"node {answer.node} sent something else than a part: {error}",
                f"install the same {PROGRAM} everywhere",
            ) from error
        _check_photos(finished, answer.node)
        self._check_folder(answer)
        return finished

    def _check_folder(self, answer: BlockResult) -> None:
        """Make sure, once for each node, that a part it has written can be read here."""
        if answer.node not in self._sharing and not self._parts.exists(answer.part):
            raise EngineError(
                f"what node {answer.node} writes into {path_text(self._parts.place)} is not seen "
                "here",
                "name a folder that all machines share, or a URL, with --parts",
            )
        self._sharing.add(answer.node)


def _check_photos(finished: list[FinishedFile], node: str) -> None:
    """Make sure that files have not only vanished from where an actor looks.

    Raises:
        EngineError: all of them have, and one is here.
    """
    if not all(_has_vanished(one) for one in finished):
        return
    for one in finished:
        if isinstance(one.row.path, Path) and one.row.path.is_file():
            raise EngineError(
                f"node {node} does not see {path_text(one.row.path)}, which is here",
                "put the photos on a disk that all machines share under the same path, or "
                "name them by URL",
            )


def _has_vanished(finished: FinishedFile) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED


# == The engine that labels on a Ray cluster: it hands blocks out and takes parts in.

# What is read at the same time of what earlier runs left.
READER_THREADS = 16
# Before a part's name, among the journal's notes.
PART_NOTE_PREFIX = "part:"
WRITE_GRACE_SECONDS = 15.0


class RayEngine:
    """Labels as ``Pipeline`` does, with a pipeline in each of many actors.

    Nothing is started, and no cluster asked, before there is a file to label.

    Raises:
        UsageError: Ray is not installed.
        ModelError: as ``load_ensemble`` does.
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
        place, self._is_own_place = find_parts_folder(job)
        self._parts = PartStore(place, self._is_own_place)
        self._run = make_run_name()
        self._blocks = BlockStore(self._parts, self._run)
        self._nodes = NodeChecker(self._parts, self._basis)
        self._journal: Journal | None = None
        self._opened = ExitStack()

    def check_models(self) -> None:
        """Do nothing: each actor opens its models before its first photo."""

    def close(self) -> None:
        """Send actors home, wherever ``label`` was left, and leave the cluster."""
        self._opened.close()

    def recover_finished(self, journal: Journal) -> Iterator[FinishedFile]:
        """Give what is in parts that the journal has not taken in; bad parts are passed over."""
        self._journal = journal
        new = [name for name in self._parts.list_parts() if not _is_part_recorded(journal, name)]
        others = 0
        with closing(thread_map(self._read_part, new, READER_THREADS)) as read:
            for name, content in zip(new, read, strict=True):
                if isinstance(content, BasisMismatch):
                    others += 1
                elif isinstance(content, PartError):
                    message = f"the part {name} in {path_text(self._parts.place)} is passed over"
                    self._log(Event.PART_PASSED_OVER, f"{message}: {content}", Level.WARNING)
                else:
                    yield from content
                    journal.write_note(PART_NOTE_PREFIX + name, "")
        if others:
            message = f"{others} parts of other models or settings are passed over"
            self._log(Event.PART_PASSED_OVER, message)

    def label(
        self,
        found: Iterable[Failure | PendingFile],
        known: KnownRowLookup | None = None,
        in_order: bool = False,
    ) -> Iterator[FinishedFile]:
        """Label files on the cluster, as they are ready.

        What is ``known`` of other files' bytes stays here.
        """
        files = iter(found)
        first = next(files, None)
        if first is None:
            return
        self.close()  # of an earlier time, of which the caller's error still holds the iterator
        with ExitStack() as self._opened:
            pool = ActorPool.from_options(self._options, self._cluster.actors)
            ray = self._opened.enter_context(connect_to_ray(self._cluster.ray_address, pool.cores))
            pool = pool.fit_to_cluster(ray)
            # Those that could not even be looked at need no cluster.
            failed: list[Failure] = []
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
        """Have blocks done, and those anew, in pieces, that were lost with their actors."""
        orders = ActorConfig(
            options=self._options,
            # Apart, as each actor's own arguments are to be small.
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
            with closing(map_blocks(numbers, orders, pool, self._stop, grace)) as answers:
                for answer in answers:
                    yield from self._record_result(answer)
                    lost.discard(answer.number)
            if self._stop or not lost:
                return
            if len(lost) == blocks and blocks > 1:
                raise EngineError("actors die, whatever they are given to label", LOGS_REMEDY)
            first += blocks
            blocks = yield from self._split_lost_blocks(sorted(lost), first)

    def _split_lost_blocks(self, lost: list[int], first: int) -> Generator[FinishedFile, None, int]:
        """Write the pieces of lost blocks, numbered from ``first`` on; give up single files."""
        smaller: list[Block] = []
        for number in lost:
            block = self._blocks.read(number)
            name = path_text(block[0])
            self._log(
                Event.ACTOR_LOST,
                f"actors died with {name} and {len(block) - 1} more files, which are tried apart",
                Level.WARNING,
            )
            if len(block) == 1:
                yield _make_crashed(block[0])
            else:
                smaller += split_lost_block(block)
        return self._blocks.write(smaller, first)

    def clean_up(self, journal: Journal) -> None:
        """Remove the parts beside the report that the journal, which is on disk, has as well.

        Notes of parts that are gone go too. A place of the user's where none is left may be away.
        """
        journal.commit()
        try:
            names = self._parts.list_parts()
            if self._is_own_place:
                taken = [name for name in names if _is_part_recorded(journal, name)]
                # Runs that were killed leave blocks, and none but this one is at work here.
                self._parts.remove([*taken, *self._parts.list_run_files()])
                names = self._parts.list_parts()
            elif not names:
                return
        except OutputError as refusal:  # the report is out
            self._log(Event.PARTS_LEFT, str(refusal), Level.WARNING)
        else:
            journal.delete_notes(PART_NOTE_PREFIX, {PART_NOTE_PREFIX + name for name in names})

    def _read_part(self, name: str) -> list[FinishedFile] | PartError:
        try:
            return unpack_part(self._parts.read(name), self._basis)
        except PartError as error:
            return error

    def _record_result(self, answer: BlockResult) -> Iterator[FinishedFile]:
        """Give the rows of an answer, and note that the journal has its part."""
        self._stop.stopped_early |= answer.unstarted > 0
        finished = self._nodes.check_result(answer)
        for stage, seconds in answer.seconds.items():
            self.timings.add(stage, seconds)
        yield from finished
        if answer.part and self._journal is not None:
            self._journal.write_note(PART_NOTE_PREFIX + answer.part, "")


def _is_part_recorded(journal: Journal, name: str) -> bool:
    return journal.read_note(PART_NOTE_PREFIX + name) is not None


def _make_crashed(file: Location) -> FinishedFile:
    detail = f"{BLOCK_RETRIES + 1} actors in a row died of it"
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
            # Blocks lie on disk, so they do not have what would open it.
            detail = "a URL with a signature or password is not for --engine ray: label it without"
            failed.append(Failure(file, Stage.READ, Reason.UNREADABLE, detail))
        else:
            yield file
