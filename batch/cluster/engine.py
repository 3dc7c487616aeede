"""The engine that labels on a Ray cluster: it hands blocks out and takes parts in."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batch.answer import failed_row
from batch.basis import basis_of
from batch.cluster.actor import Answer, Orders
from batch.cluster.block import Block, blocks_of, halves, pack_block, unpack_block
from batch.cluster.connection import check_installed, connected
from batch.cluster.mapping import LOGS, RETRIES, mapped
from batch.cluster.part import OtherBasis, PartError, unpack_part
from batch.cluster.parts import Parts, block_name, new_run, parts_place
from batch.ensemble import load_ensemble
from batch.errors import EngineError
from batch.journal import Journal
from batch.location import Location
from batch.log import PROGRAM, Event, Level, Log
from batch.names import path_text
from batch.options import Job, Options, Place, Provider
from batch.parallel import ordered_map
from batch.records import Failure, Finished, Reason, Stage
from batch.stopping import Stop
from batch.timings import Timings
from batch.worker import Known

if TYPE_CHECKING:
    from types import ModuleType

# What is read at the same time of what earlier runs left.
READERS = 16
WRITERS = 16
# Before a part's name, among the journal's notes.
TAKEN = "part:"
# Photos at a time in one actor: a core each, or what keeps a GPU busy.
WORKERS = 1
WORKERS_ON_A_GPU = 8
WORKERS_A_CORE_ON_A_GPU = 2
SECONDS_TO_WRITE = 15.0


class RayEngine:
    """Labels as ``Pipeline`` does, with a pipeline in each of many actors.

    Nothing is started, and no cluster asked, before there is a file to label.

    Raises:
        UsageError: Ray is not installed.
        ModelError: as ``load_ensemble`` does.
    """

    def __init__(self, job: Job, stop: Stop, log: Log) -> None:
        check_installed()
        self.ensemble = load_ensemble(job.options)
        self.provider_note = ""
        self.timings = Timings()
        self.crew = "actors on Ray"
        self._options = options = _for_actors(job.options)
        self.place = Place(options.provider)
        self._cluster, self._stop, self._log = job.cluster, stop, log
        self._basis = basis_of(self.ensemble.models, options)
        place, self._is_own_place = parts_place(job)
        self._parts = Parts(place)
        self._run = new_run()
        self._nodes: set[str] = set()
        self._journal: Journal | None = None

    def close(self) -> None:
        """Do nothing, for what ``label`` starts ends with it."""

    def resume(self, journal: Journal) -> Iterator[Finished]:
        """Give what is in parts that the journal has not taken in; bad parts are passed over."""
        self._journal = journal
        new = [name for name in self._parts.names() if not _has_taken(journal, name)]
        others = 0
        with closing(ordered_map(self._read, new, READERS)) as read:
            for name, content in zip(new, read, strict=True):
                if isinstance(content, OtherBasis):
                    others += 1
                elif isinstance(content, PartError):
                    message = f"the part {name} in {path_text(self._parts.place)} is passed over"
                    self._log(Event.PART_PASSED_OVER, f"{message}: {content}", Level.WARNING)
                else:
                    yield from content
                    journal.note(TAKEN + name, "")
        if others:
            message = f"{others} parts of other models or settings are passed over"
            self._log(Event.PART_PASSED_OVER, message)

    def label(
        self, found: Iterable[Location | Failure], known: Known | None = None
    ) -> Iterator[Finished]:
        """Label files on the cluster; what is ``known`` of other files' bytes stays here."""
        files = iter(found)
        first = next(files, None)
        if first is None:
            return
        workers = self._options.workers or WORKERS
        with connected(self._cluster.ray_address, workers) as ray:
            size = self._cluster.actors or _room(ray, self._options)
            # Those that could not even be looked at need no cluster.
            failed: list[Failure] = []
            blocks = blocks_of(_without(chain([first], files), failed), size, workers)
            count = self._written(blocks)
            yield from (Finished(failed_row(failure)) for failure in failed)
            try:
                yield from self._done(count, size)
            finally:
                self._parts.remove(self._parts.orders(self._run))

    def _done(self, blocks: int, size: int) -> Iterator[Finished]:
        """Have blocks done, and those anew, in halves, that were lost with their actors."""
        orders = Orders(
            self._options,
            self.ensemble,
            self._basis,
            self._parts,
            self._run,
            version(PROGRAM),
            Path.cwd(),
        )
        pool = (size, _cores(self._options), float(self._options.provider is not Provider.CPU))
        grace = self._options.file_limits.decode_timeout + SECONDS_TO_WRITE
        first = 0
        while blocks:
            numbers = range(first, first + blocks)
            lost = set(numbers)
            with closing(mapped(numbers, orders, pool, self._stop, grace)) as answers:
                for answer in answers:
                    yield from self._taken_in(answer)
                    lost.discard(answer.number)
            if self._stop or not lost:
                return
            if len(lost) == blocks and blocks > 1:
                raise EngineError("actors die, whatever they are given to label", LOGS)
            first += blocks
            blocks = yield from self._anew(sorted(lost), first)

    def _anew(self, lost: list[int], first: int) -> Generator[Finished, None, int]:
        """Write the halves of lost blocks, numbered from ``first`` on; give up single files."""
        halved: list[Block] = []
        for number in lost:
            block = unpack_block(self._parts.read(block_name(self._run, number)))
            name = path_text(block[0])
            self._log(
                Event.ACTOR_LOST,
                f"actors died with {name} and {len(block) - 1} more files, which are tried apart",
                Level.WARNING,
            )
            if len(block) == 1:
                yield _crashed(block[0])
            else:
                halved += halves(block)
        return self._written(halved, first)

    def _written(self, blocks: Iterable[Block], first: int = 0) -> int:
        """Put blocks where actors find them, and count them."""

        def write(numbered: tuple[int, Block]) -> None:
            number, block = numbered
            self._parts.write(block_name(self._run, number), pack_block(block))

        with closing(ordered_map(write, enumerate(blocks, first), WRITERS)) as written:
            return sum(1 for _ in written)

    def settle(self, journal: Journal) -> None:
        """Remove the parts beside the report that the journal, which is on disk, has as well."""
        journal.commit()
        if self._is_own_place:
            names = self._parts.names()
            self._parts.remove([name for name in names if _has_taken(journal, name)])

    def _read(self, name: str) -> list[Finished] | PartError:
        try:
            return unpack_part(self._parts.read(name), self._basis)
        except PartError as error:
            return error

    def _taken_in(self, answer: Answer) -> Iterator[Finished]:
        """Give a part's rows, after a look whether its node sees what this one does."""
        if answer.problem:
            raise EngineError(f"on node {answer.node}, {answer.problem}", answer.remedy)
        self._stop.cut |= answer.undone > 0
        try:
            finished = unpack_part(answer.data, self._basis)
        except PartError as error:
            raise EngineError(
                f"node {answer.node} sent something else than a part: {error}",
                f"install the same {PROGRAM} everywhere",
            ) from error
        self._check_photos(finished, answer.node)
        if finished and answer.node not in self._nodes and not self._parts.has(answer.part):
            raise EngineError(
                f"what node {answer.node} writes into {path_text(self._parts.place)} is not seen "
                "here",
                "name a folder that all machines share, or a URL, with --parts",
            )
        self._nodes.add(answer.node)
        for stage, seconds in answer.seconds.items():
            self.timings.add(stage, seconds)
        yield from finished
        if self._journal is not None:
            self._journal.note(TAKEN + answer.part, "")

    def _check_photos(self, finished: list[Finished], node: str) -> None:
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


def _for_actors(options: Options) -> Options:
    """Settle what is found out on each machine otherwise, for the run knows nothing of nodes."""
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    usual = WORKERS if provider is Provider.CPU else WORKERS_ON_A_GPU
    return replace(options, provider=provider, workers=options.workers or usual)


def _cores(options: Options) -> int:
    workers = options.workers or WORKERS
    on_cpu = options.provider is Provider.CPU
    return workers if on_cpu else max(1, workers // WORKERS_A_CORE_ON_A_GPU)


def _room(ray: ModuleType, options: Options) -> int:
    """Count the actors for which the cluster has room, if it had nothing else to do."""
    has = ray.cluster_resources()
    room = has.get("CPU", 0) // _cores(options)
    if options.provider is not Provider.CPU:
        room = min(room, has.get("GPU", 0))
    return max(1, int(room))


def _has_taken(journal: Journal, name: str) -> bool:
    return journal.noted(TAKEN + name) is not None


def _has_vanished(finished: Finished) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED


def _crashed(file: Location) -> Finished:
    detail = f"{RETRIES + 1} actors in a row died of it"
    return Finished(failed_row(Failure(file, Stage.DECODE, Reason.CRASHED, detail)))


def _without(files: Iterable[Location | Failure], failed: list[Failure]) -> Iterator[Location]:
    for file in files:
        if isinstance(file, Failure):
            failed.append(file)
        else:
            yield file
