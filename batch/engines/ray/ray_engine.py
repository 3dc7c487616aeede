"""The nodes of a cluster, whose answers count where they see what this machine sees."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batch.engines.ray.actor import Answer, Orders
from batch.engines.ray.blocks import Block, Blocks, blocks_of, pieces
from batch.engines.ray.connection import check_installed, connected
from batch.engines.ray.mapping import LOGS, RETRIES, Pool, for_actors, mapped
from batch.engines.ray.parts import OtherBasis, PartError, Parts, new_run, parts_place, unpack_part
from batch.errors import EngineError, OutputError
from batch.journal.journal import Journal
from batch.location import Location, Url, archive_of, with_secrets
from batch.log import PROGRAM, Event, Level, Log
from batch.models.ensemble import load_ensemble
from batch.options import Job, Place
from batch.parallel import thread_map
from batch.path_text import path_text
from batch.records import Failure, Finished, Pending, Reason, Stage
from batch.stopping import Stop
from batch.timings import Timings
from batch.vision.basis import basis_of
from batch.vision.decide import failed_row
from batch.workers.worker import Known

if TYPE_CHECKING:
    from types import ModuleType


class Nodes:
    """Looks at what nodes answer, whose parts are to be in ``parts`` and to have this ``basis``."""

    def __init__(self, parts: Parts, basis: bytes) -> None:
        self._parts = parts
        self._basis = basis
        self._sharing: set[str] = set()

    def finished(self, answer: Answer) -> list[Finished]:
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
        self._check_place(answer)
        return finished

    def _check_place(self, answer: Answer) -> None:
        """Make sure, once for each node, that a part it has written can be read here."""
        if answer.node not in self._sharing and not self._parts.has(answer.part):
            raise EngineError(
                f"what node {answer.node} writes into {path_text(self._parts.place)} is not seen "
                "here",
                "name a folder that all machines share, or a URL, with --parts",
            )
        self._sharing.add(answer.node)


def _check_photos(finished: list[Finished], node: str) -> None:
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


def _has_vanished(finished: Finished) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED


# == The engine that labels on a Ray cluster: it hands blocks out and takes parts in.

# What is read at the same time of what earlier runs left.
READERS = 16
# Before a part's name, among the journal's notes.
TAKEN = "part:"
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
        self._options = options = for_actors(job.options)
        self.place = Place(options.provider)
        self._cluster, self._stop, self._log = job.cluster, stop, log
        self._basis = basis_of(self.ensemble.models, options)
        place, self._is_own_place = parts_place(job)
        self._parts = Parts(place, self._is_own_place)
        self._run = new_run()
        self._blocks = Blocks(self._parts, self._run)
        self._nodes = Nodes(self._parts, self._basis)
        self._journal: Journal | None = None
        self._opened = ExitStack()

    def prove(self) -> None:
        """Do nothing: each actor opens its models before its first photo."""

    def close(self) -> None:
        """Send actors home, wherever ``label`` was left, and leave the cluster."""
        self._opened.close()

    def resume(self, journal: Journal) -> Iterator[Finished]:
        """Give what is in parts that the journal has not taken in; bad parts are passed over."""
        self._journal = journal
        new = [name for name in self._parts.names() if not _has_taken(journal, name)]
        others = 0
        with closing(thread_map(self._read, new, READERS)) as read:
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
        self,
        found: Iterable[Failure | Pending],
        known: Known | None = None,
        in_order: bool = False,
    ) -> Iterator[Finished]:
        """Label files on the cluster, as they are ready.

        What is ``known`` of other files' bytes stays here.
        """
        files = iter(found)
        first = next(files, None)
        if first is None:
            return
        self.close()  # of an earlier time, of which the caller's error still holds the iterator
        with ExitStack() as self._opened:
            pool = Pool.of(self._options, self._cluster.actors)
            ray = self._opened.enter_context(connected(self._cluster.ray_address, pool.cores))
            pool = pool.fitted(ray)
            # Those that could not even be looked at need no cluster.
            failed: list[Failure] = []
            workers = self._options.workers or 1
            blocks = blocks_of(_without(chain([first], files), failed), pool.size, workers)
            self._opened.callback(self._blocks.clear)
            number = self._blocks.write(blocks, first=0)
            yield from (Finished(failed_row(failure)) for failure in failed)
            yield from self._done(ray, number, pool)

    def _done(self, ray: ModuleType, blocks: int, pool: Pool) -> Iterator[Finished]:
        """Have blocks done, and those anew, in pieces, that were lost with their actors."""
        orders = Orders(
            options=self._options,
            # Apart, as each actor's own arguments are to be small.
            ensemble=partial(ray.get, ray.put(self.ensemble)),
            basis=self._basis,
            parts=self._parts,
            run=self._run,
            version=version(PROGRAM),
            folder=Path.cwd(),
        )
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
                yield _crashed(block[0])
            else:
                smaller += pieces(block)
        return self._blocks.write(smaller, first)

    def settle(self, journal: Journal) -> None:
        """Remove the parts beside the report that the journal, which is on disk, has as well.

        Notes of parts that are gone go too. A place of the user's where none is left may be away.
        """
        journal.commit()
        try:
            names = self._parts.names()
            if self._is_own_place:
                taken = [name for name in names if _has_taken(journal, name)]
                # Runs that were killed leave blocks, and none but this one is at work here.
                self._parts.remove([*taken, *self._parts.orders()])
                names = self._parts.names()
            elif not names:
                return
        except OutputError as refusal:  # the report is out
            self._log(Event.PARTS_LEFT, str(refusal), Level.WARNING)
        else:
            journal.forget_notes(TAKEN, {TAKEN + name for name in names})

    def _read(self, name: str) -> list[Finished] | PartError:
        try:
            return unpack_part(self._parts.read(name), self._basis)
        except PartError as error:
            return error

    def _taken_in(self, answer: Answer) -> Iterator[Finished]:
        """Give the rows of an answer, and note that the journal has its part."""
        self._stop.cut |= answer.undone > 0
        finished = self._nodes.finished(answer)
        for stage, seconds in answer.seconds.items():
            self.timings.add(stage, seconds)
        yield from finished
        if answer.part and self._journal is not None:
            self._journal.note(TAKEN + answer.part, "")


def _has_taken(journal: Journal, name: str) -> bool:
    return journal.noted(TAKEN + name) is not None


def _crashed(file: Location) -> Finished:
    detail = f"{RETRIES + 1} actors in a row died of it"
    return Finished(failed_row(Failure(file, Stage.DECODE, Reason.CRASHED, detail)))


def _without(files: Iterable[Failure | Pending], failed: list[Failure]) -> Iterator[Location]:
    for item in files:
        if isinstance(item, Failure):
            failed.append(item)
            continue
        file = item.location
        if isinstance(file, Url) and with_secrets(archive_of(file.text)) != archive_of(file.text):
            # Blocks lie on disk, so they do not have what would open it.
            detail = "a URL with a signature or password is not for --engine ray: label it without"
            failed.append(Failure(file, Stage.READ, Reason.UNREADABLE, detail))
        else:
            yield file
