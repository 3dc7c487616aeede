"""The engine that labels on a Ray cluster: it hands blocks out and takes parts in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from batch.answer import failed_row
from batch.basis import basis_of
from batch.cluster.actor import Answer, LabelActor, Orders
from batch.cluster.block import blocks_of
from batch.cluster.connection import check_installed, connected
from batch.cluster.crew import TRIES, Crew
from batch.cluster.hiring import cores_of, for_actors, hiring, room_for
from batch.cluster.part import OtherBasis, PartError, unpack_part
from batch.cluster.parts import Parts, new_run, parts_place
from batch.ensemble import load_ensemble
from batch.errors import EngineError, OutputError
from batch.journal import Journal
from batch.location import Location
from batch.log import PROGRAM, Event, Level, Log
from batch.names import path_text
from batch.options import Job, Place
from batch.parallel import ordered_map
from batch.records import Failure, Finished, Reason, Stage
from batch.stopping import Stop
from batch.timings import Timings
from batch.worker import Known

if TYPE_CHECKING:
    from types import ModuleType

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
        self._parts = Parts(place)
        self._run, self._numbers = new_run(), count()
        self._journal: Journal | None = None
        self._opened = ExitStack()

    def close(self) -> None:
        """Send actors home, wherever ``label`` was left, and leave the cluster."""
        self._opened.close()

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
        self.close()  # of an earlier time, of which the caller's error still holds the iterator
        with ExitStack() as self._opened:
            address, cores = self._cluster.ray_address, cores_of(self._options)
            ray = self._opened.enter_context(connected(address, cores))
            size = self._cluster.actors or room_for(ray, self._options)
            crew = self._crew(ray, size)
            self._opened.callback(crew.dismiss)
            workers, nodes = self._options.workers or 1, set[str]()
            blocks = blocks_of(chain([first], files), size, workers, self._numbers)
            for block, answer in crew.work(blocks):
                if answer is None:
                    yield from map(_crashed, block.files)
                else:
                    yield from self._taken_in(answer, nodes)

    def settle(self, journal: Journal) -> None:
        """Remove the parts beside the report that the journal, which is on disk, has as well."""
        journal.commit()
        if not self._is_own_place:
            return
        try:
            names = self._parts.names()
            self._parts.remove([name for name in names if _has_taken(journal, name)])
        except OutputError as refusal:  # the report is out
            self._log(Event.PARTS_LEFT, str(refusal), Level.WARNING)

    def _read(self, name: str) -> list[Finished] | PartError:
        try:
            return unpack_part(self._parts.read(name), self._basis)
        except PartError as error:
            return error

    def _crew(self, ray: ModuleType, size: int) -> Crew:
        orders = Orders(
            options=self._options,
            ensemble=self.ensemble,
            basis=self._basis,
            parts=self._parts,
            run=self._run,
            version=version(PROGRAM),
            folder=Path.cwd(),
        )
        hire = hiring(ray, LabelActor, orders)
        grace = self._options.file_limits.decode_timeout + SECONDS_TO_WRITE
        return Crew(ray, hire, size, self._numbers, self._stop, self._log, grace)

    def _taken_in(self, answer: Answer, nodes: set[str]) -> Iterator[Finished]:
        """Give a part's rows, after a look whether its node sees what this one does."""
        try:
            finished = unpack_part(answer.data, self._basis)
        except PartError as error:
            raise EngineError(
                f"node {answer.node} sent something else than a part: {error}",
                f"install the same {PROGRAM} everywhere",
            ) from error
        self._check_photos(finished, answer.node)
        if answer.node not in nodes and not self._parts.has(answer.part):
            raise EngineError(
                f"what node {answer.node} writes into {path_text(self._parts.place)} is not seen "
                "here",
                "name a folder that all machines share, or a URL, with --parts",
            )
        nodes.add(answer.node)
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


def _has_taken(journal: Journal, name: str) -> bool:
    return journal.noted(TAKEN + name) is not None


def _has_vanished(finished: Finished) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED


def _crashed(file: Location | Failure) -> Finished:
    if isinstance(file, Failure):
        return Finished(failed_row(file))
    detail = f"{TRIES} actors in a row died of it"
    return Finished(failed_row(Failure(file, Stage.DECODE, Reason.CRASHED, detail)))
