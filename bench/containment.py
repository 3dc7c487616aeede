"""What it costs to read and decode photos in processes of their own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.decode import decode_bytes
from batch.decoding.file_bytes import read_with_state
from batch.decoding.file_limits import FileLimits
from batch.records import Failure
from batch.workers.pool import Workers
from batch.workers.protocol import Question
from batch.workers.worker import Task
from bench.figure import Figure
from bench.machine import on_cores, usable_cores
from bench.sets import PhotoSet
from bench.stages import Stages

WARM_UP = 8


@dataclass(frozen=True)
class Containment:
    """Milliseconds a photo on one core, by turns in the run's process and in another one.

    ``share``: what the other process adds, as a part of all that is done for a photo.
    """

    photos: str
    inside_ms: Figure
    outside_ms: Figure
    share: Figure


def measure_containment(photos: PhotoSet, sample: int, rounds: int) -> Containment:
    """Read, digest and decode some photos both ways, and take them through all stages."""
    paths = photos.spread(sample)
    inside, outside, shares = [], [], []
    task = Task(FileLimits())
    with on_cores(usable_cores()[:1]), Workers(task) as workers:
        stages = Stages()

        def contained(path: Path) -> object:
            return workers.work(
                Question(path, digest=True, may_be_known=True), lambda path, state: None
            )

        for path in paths[:WARM_UP]:
            contained(path)
        stages.once(paths[:WARM_UP])
        for _ in range(rounds):
            inside.append(_timed(_in_process, paths))
            outside.append(_timed(contained, paths))
            whole = 1000 * sum(stages.once(paths).values())
            shares.append((outside[-1] - inside[-1]) / whole)
    return Containment(photos.name, Figure.of(inside), Figure.of(outside), Figure.of(shares))


def _timed(work: Callable[[Path], object], paths: Sequence[Path]) -> float:
    started = time.perf_counter()
    for path in paths:
        work(path)
    return (time.perf_counter() - started) * 1000 / len(paths)


def _in_process(path: Path) -> None:
    read = read_with_state(path)
    assert not isinstance(read, Failure), read
    hashlib.sha256(read[0]).digest()
    decode_bytes(path, read[0])
