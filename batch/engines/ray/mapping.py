"""How many actors there are, and what one takes of a cluster."""

from __future__ import annotations

import logging
import queue
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from batch.engines.ray.actor import ActorConfig, BlockResult, LabelActor, unpack_results
from batch.engines.ray.parts import stop_name
from batch.errors import EngineError
from batch.options import Options, Provider
from batch.path_text import printable_text
from batch.stopping import Stop

if TYPE_CHECKING:
    from types import ModuleType


# Photos at a time in one actor: a core each, or what keeps a GPU busy.
CPU_WORKERS = 1
GPU_WORKERS = 8
GPU_WORKERS_PER_CORE = 2


@dataclass(frozen=True)
class ActorPool:
    """Actors at most, 0 for as many as there is room for, and the cores and GPUs of each."""

    size: int
    cores: int
    gpus: int

    @classmethod
    def from_options(cls, options: Options, actors: int | None) -> ActorPool:
        """Make the pool for options that are ``set_actor_defaults``."""
        workers = options.workers or CPU_WORKERS
        if options.provider is Provider.CPU:
            return cls(actors or 0, workers, 0)
        return cls(actors or 0, max(1, workers // GPU_WORKERS_PER_CORE), 1)

    def fit_to_cluster(self, ray: ModuleType) -> ActorPool:
        """Fill a cluster that has nothing else to do, unless a number of actors was named."""
        has = ray.cluster_resources()
        room = has.get("CPU", 0) // self.cores
        if self.gpus:
            room = min(room, has.get("GPU", 0) // self.gpus)
        return replace(self, size=self.size or max(1, int(room)))


def set_actor_defaults(options: Options) -> Options:
    """Settle what is found out on each machine otherwise, for the run knows nothing of nodes."""
    provider = Provider.CPU if options.provider is Provider.AUTO else options.provider
    usual = CPU_WORKERS if provider is Provider.CPU else GPU_WORKERS
    return replace(options, provider=provider, workers=options.workers or usual)


# == Blocks mapped to answers by Ray Data, with a pool of actors, while somebody may want to stop.

# Seconds between two looks whether the run is to end.
STOP_POLL_SECONDS = 0.2
# Seconds that Ray Data has to end its work, once the run has what it wants of it.
END_TIMEOUT_SECONDS = 10.0
# Answers that wait for the run to take them in: with more, Ray Data holds its actors back.
MAX_WAITING_RESULTS = 16
# Times that Ray gives a block to another actor, when the one that had it died.
BLOCK_RETRIES = 1
LOGS_REMEDY = "see /tmp/ray/session_latest/logs on the nodes: mostly memory runs short"

# What is read of Ray Data: a batch of answers, what went wrong, or None at the end.
ResultQueue: TypeAlias = "queue.Queue[list[BlockResult] | Exception | None]"


def map_blocks(
    blocks: range,
    orders: ActorConfig,
    pool: ActorPool,
    stop: Stop,
    grace: float,
) -> Generator[BlockResult, None, None]:
    """Have the blocks of these numbers labelled and give their answers as they come.

    A block that was lost with several actors has no answer. Once the run is to end, actors have
    ``grace`` seconds to finish what they have in hand.

    Raises:
        EngineError: Ray gives up.
    """
    answers: ResultQueue = queue.Queue(MAX_WAITING_RESULTS)
    is_left = threading.Event()
    dataset = _make_dataset(blocks, orders, pool)
    reader = threading.Thread(target=_read_results, args=(dataset, answers, is_left), daemon=True)
    reader.start()
    ends_at = None
    idle = 0
    try:
        while True:
            if stop.requested and ends_at is None:
                ends_at = time.monotonic() + grace
                orders.parts.write(stop_name(orders.run), b"")
            # Each actor that has nothing in hand any more gives its next block back untouched.
            if ends_at is not None and (time.monotonic() > ends_at or idle > pool.size):
                stop.stopped_early = True
                return
            try:
                taken = answers.get(timeout=STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if taken is None:
                return
            if isinstance(taken, Exception):
                raise EngineError(
                    f"Ray gave up: {_describe_ray_error(taken)}", LOGS_REMEDY
                ) from taken
            for answer in taken:
                idle += bool(answer.unstarted and not answer.data)
                yield answer
    finally:
        is_left.set()
        # Before the cluster is left, which Ray Data needs to tell its actors that they may go. It
        # can't be told so while it waits for an actor; for one that hangs, nobody waits longer.
        reader.join(END_TIMEOUT_SECONDS)


def _make_dataset(blocks: range, orders: ActorConfig, pool: ActorPool) -> Any:
    import pyarrow as pa
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A block that no actor survives is told by its missing answer.
    context.max_errored_blocks = -1
    for name in ("ray.data", "ray.data._internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Numbers alone, one in each of Ray's blocks; blocks of files are read where they are needed.
    # Not by `range`, whose tasks would wait for cores that the actors have taken.
    numbers = [pa.table({"number": [number]}) for number in blocks]
    with warnings.catch_warnings():
        # Of arguments that go on to Ray's core: Ray Data has no names of its own for them yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        return data.from_arrow(numbers).map_batches(
            LabelActor,
            fn_constructor_args=(orders,),
            batch_size=1,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(min_size=1, max_size=pool.size, initial_size=pool.size),
            num_cpus=pool.cores,
            num_gpus=pool.gpus,
            max_restarts=-1,
            max_task_retries=BLOCK_RETRIES,
        )


def _read_results(dataset: Any, answers: ResultQueue, is_left: threading.Event) -> None:
    def give(taken: list[BlockResult] | Exception | None) -> None:
        while not is_left.is_set():
            with suppress(queue.Full):
                answers.put(taken, timeout=STOP_POLL_SECONDS)
                return

    try:
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
        # Closed here, as Python would only print what goes wrong with one that it collects.
        with closing(iter(batches)) as tables:
            for table in tables:
                give(unpack_results(table))
                if is_left.is_set():
                    return
        give(None)
    except Exception as error:  # Ray raises many kinds, and they have no base in common
        give(error)


def _describe_ray_error(error: Exception) -> str:
    """Give the last line of what Ray says of an error, where the cause is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable_text(lines[-1]) if lines else type(error).__name__
