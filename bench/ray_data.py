"""What a block costs on Ray by itself: through Ray Data, and through actors that are called.

Blocks of made-up files, as a run would hand them out, go to two actors that only count them.
``python -m bench.ray_data 1000 1024`` prints for 1,000 blocks of 1,024 files the seconds to the
first and to the last answer, and the memory of the process that hands out, before and at the end.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.memory import kibibytes

ACTORS = 2


@dataclass(frozen=True)
class Passed:
    """Seconds to the first and the last answer, and MiB that were resident before and after."""

    way: str
    blocks: int
    first: float
    last: float
    before: float
    after: float


class Counting:
    """Counts the files of a block, in either way."""

    def __call__(self, block: Any) -> dict[str, list[int]]:
        return {"files": [block.num_rows]}

    def count(self, block: Any) -> int:
        return int(block.num_rows)


def by_ray_data(ray: Any, blocks: Iterator[Any]) -> Iterator[int]:
    """Put all blocks, for Ray Data takes them before it begins, and map them."""
    import ray.data as data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    found = data.from_arrow_refs([ray.put(block) for block in blocks]).map_batches(
        Counting,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=data.ActorPoolStrategy(size=ACTORS),
        num_cpus=1,
    )
    batch: Any
    for batch in found.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from (int(files) for files in batch["files"].to_pylist())


def by_calls(ray: Any, blocks: Iterator[Any]) -> Iterator[int]:
    """Give each actor one block at a time."""
    actors = [ray.remote(num_cpus=1)(Counting).remote() for _ in range(ACTORS)]
    calls = {actor.count.remote(block): actor for actor, block in zip(actors, blocks)}  # noqa: B905
    while calls:
        ready, _ = ray.wait(list(calls))
        for call in ready:
            actor = calls.pop(call)
            yield ray.get(call)
            block = next(blocks, None)
            if block is not None:
                calls[actor.count.remote(block)] = actor


WAYS = {"Ray Data": by_ray_data, "calls of actors": by_calls}


def passed(way: str, blocks: int, files: int) -> Passed:
    """Measure one way in this process, on a cluster of its own."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        address="local",
        num_cpus=ACTORS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 1024**2,
    )
    before, started, first, done = _resident(), time.perf_counter(), 0.0, 0
    for counted in WAYS[way](ray, _blocks(blocks, files)):
        first = first or time.perf_counter() - started
        done += counted
    last, after = time.perf_counter() - started, _resident()
    ray.shutdown()
    assert done == blocks * files
    return Passed(way, blocks, first, last, before, after)


def show(measured: Passed) -> None:
    """Print what was measured as a line of JSON."""
    print(json.dumps(asdict(measured)))


def _blocks(number: int, files: int) -> Iterator[Any]:
    import pyarrow as pa

    for block in range(number):
        paths = [b"s3://photos/%06d/%09d.jpg" % (block, file) for file in range(files)]
        numbers = pa.array(range(files))
        yield pa.table({"path": pa.array(paths), "size": numbers, "mtime_ns": numbers})


def _resident() -> float:
    return kibibytes(os.getpid(), "status", "VmRSS") / 1024


if __name__ == "__main__":
    for name in WAYS:
        # As a module that actors can import, and in a process of its own for its memory.
        measure = f"from bench.ray_data import *; show(passed({name!r}, {', '.join(sys.argv[1:])}))"
        subprocess.run([sys.executable, "-c", measure], check=True)
