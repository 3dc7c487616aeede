"""Times of the single stages of a photo, on one core or on several cores at once.

Two virtual processors may be two threads of one core. The rate that independent processes reach
together is therefore the capacity of the machine: a command that reaches it has nothing to gain.
No other module of the benchmark knows how the stages are called.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from batch import timings
from batch.models.ensemble import load_ensemble
from batch.options import DEFAULT_MODEL, Device, Options, Provider
from batch.records import Failure, Photo, Row
from batch.reports.report import open_report
from batch.vision.decode import decode_bytes
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from batch.vision.read_file import read_file_with_state
from bench.machine import pin_to_cores

READ, DECODE, DETECT, CROP, CLASSIFY, WRITE = "read decode detect crop classify write".split()
STAGES = (READ, DECODE, DETECT, CROP, CLASSIFY, WRITE)
# Photos that are processed before the clock starts, to warm up memory and caches.
WARM_UP = 4
BARRIER_SECONDS = 120.0  # wait for the other processes to start

# Seconds per photo, by stage.
StageSeconds = dict[str, float]


class Stages:
    """The models and stages of a worker, on one thread of this process."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        options = Options(model=model)
        ensemble = load_ensemble(options)
        plan = make_plan(ensemble, options.batch_size)
        self._labels = ensemble.labels
        self._labeller = Labeller(plan, Device(Provider.CPU))

    def measure_once(self, paths: Sequence[Path]) -> StageSeconds:
        """Run all photos through all stages, one photo after the other."""
        clock = _Clock()
        before = self._labeller.timings.seconds()
        rows = [self._label(path, clock) for path in paths]
        after = self._labeller.timings.seconds()
        for stage, name in (
            (DECODE, timings.DECODE),
            (DETECT, timings.FACES),
            (CROP, timings.CROP),
        ):
            spent = after.get(name, 0.0) - before.get(name, 0.0)
            clock.seconds[stage] += spent
            # The rest of the labeller's time is inference and building the row.
            clock.seconds[CLASSIFY] -= spent
        self._write(rows, clock)
        return {stage: clock.seconds[stage] / len(paths) for stage in STAGES}

    def _label(self, path: Path, clock: _Clock) -> Row:
        with clock.of(READ):
            read = read_file_with_state(path)
        assert not isinstance(read, Failure), read
        with clock.of(DECODE):
            photo = decode_bytes(path, read[0])
        assert isinstance(photo, Photo), photo
        with clock.of(CLASSIFY):
            return self._labeller.label(photo)

    def _write(self, rows: list[Row], clock: _Clock) -> None:
        with tempfile.TemporaryDirectory() as folder, clock.of(WRITE):
            output = str(Path(folder) / "r.csv")
            with open_report(output, self._labels, False, sys.stdout.buffer) as report:
                for row in rows:
                    report.add(row)
                report.publish()


class _Clock:
    """Seconds by stage, at a finer resolution than the milliseconds of the run record."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


def measure_each_core(
    paths: Sequence[Path], cores: Sequence[int], passes: int
) -> list[list[StageSeconds]]:
    """Run photos through the stages on several cores at once, with one process per core.

    The processes share nothing. They open their models before the clock starts, and start
    together.

    Args:
        paths: the photos, which every process runs through.
        cores: the numbers of the cores.
        passes: how often each process runs through the photos.

    Returns:
        The passes of each core.
    """
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(cores), context) as pool:
        gate = manager.Barrier(len(cores))
        running = [pool.submit(_run_passes, paths, core, passes, gate) for core in cores]
        return [work.result() for work in running]


def compute_rate(passes: Sequence[StageSeconds]) -> float:
    """Compute the photos per second of one process from its passes."""
    return len(passes) / sum(sum(once.values()) for once in passes)


def _run_passes(
    paths: Sequence[Path], core: int, passes: int, gate: threading.Barrier
) -> list[StageSeconds]:
    with pin_to_cores({core}):
        stages = Stages()
        stages.measure_once(paths[:WARM_UP])
        gate.wait(BARRIER_SECONDS)
        return [stages.measure_once(paths) for _ in range(passes)]
