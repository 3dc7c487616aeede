"""The stages on one core, and on several at once by processes that share nothing.

Two virtual processors may be two threads of one core. What independent processes reach together
is what the machine has to give; a command that reaches as much has nothing left to gain.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.machine import pin_to_cores
from bench.stages import Stages, StageSeconds

# Photos that pass unmeasured, so that memory is there and code is warm.
WARM_UP = 4
# Seconds after which processes no longer wait for one that does not come.
BARRIER_SECONDS = 120.0


def measure_each_core(
    paths: Sequence[Path], cores: Sequence[int], passes: int
) -> list[list[StageSeconds]]:
    """Take photos through the stages on each core at the same time, ``passes`` times.

    Gives the passes of each core's process. They open their models before the clock runs, and
    begin together.
    """
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(cores), context) as pool:
        gate = manager.Barrier(len(cores))
        running = [pool.submit(_run_passes, paths, core, passes, gate) for core in cores]
        return [work.result() for work in running]


def compute_rate(passes: Sequence[StageSeconds]) -> float:
    """Photos a second of one process over its passes."""
    return len(passes) / sum(sum(once.values()) for once in passes)


def _run_passes(
    paths: Sequence[Path], core: int, passes: int, gate: threading.Barrier
) -> list[StageSeconds]:
    with pin_to_cores({core}):
        stages = Stages()
        stages.measure_once(paths[:WARM_UP])
        gate.wait(BARRIER_SECONDS)
        return [stages.measure_once(paths) for _ in range(passes)]
