"""Speed of training whole photos, beside a minimal training script."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.command import CommandError
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet

NETWORK: Literal["efficientnet-lite0"] = "efficientnet-lite0"
SIDE, BATCH_SIZE, LEARNING_RATE = 160, 32, 2e-3
CLASSES = ("one", "other")  # which photo is in which does not change the speed
MIN_SECONDS = 0.01
PLAIN, TRAINER = "plain_training.py", "trainer train"


@dataclass(frozen=True)
class TrainingSizes:
    """Sizes of the benchmark of training.

    Attributes:
        photos: the number of photos.
        epochs: epochs that are timed, after a first one.
    """

    photos: int
    epochs: int


@dataclass(frozen=True)
class TrainingSpeed:
    """Speed of one program.

    Attributes:
        name: the program.
        photos: the number of photos.
        start: seconds of a whole process with one epoch.
        rate: photos per second in the epochs after the first.
        times: ``rate`` over that of the first program, within a round.
    """

    name: str
    photos: int
    start: MedianRange
    rate: MedianRange
    times: MedianRange


def measure_training(photos: PhotoSet, sizes: TrainingSizes, rounds: int) -> list[TrainingSpeed]:
    """Train with each program in turn, each time for one epoch and for some more.

    Raises:
        CommandError: a program failed.
    """
    paths = photos.sample_evenly(sizes.photos)
    with tempfile.TemporaryDirectory() as home:
        data, settings = Path(home) / "data", Path(home) / "settings.toml"
        settings.write_text(
            f'network = "{NETWORK}"\ninit = ""\nbatch_size = {BATCH_SIZE}\n'
            f"learning_rate = {LEARNING_RATE}\n"
        )
        for n, path in enumerate(paths):
            target = data / CLASSES[n % len(CLASSES)] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())
        plain = [sys.executable, "-m", "bench.plain_training", str(data)]
        own = [sys.executable, "-m", "trainer", "train", "--data", str(data)]
        own += ["--config", str(settings), "--region", "image", "--side", str(SIDE), "--rgb"]

        def measure_plain(_: int) -> tuple[float, float]:
            return _measure(sizes, lambda epochs: _run([*plain, str(epochs)], home))

        def measure_own(number: int) -> tuple[float, float]:
            return _measure(
                sizes,
                lambda epochs: _run(
                    [*own, "--epochs", str(epochs), "--run", f"{home}/{number}-{epochs}"], home
                ),
            )

        found = run_in_turns({PLAIN: measure_plain, TRAINER: measure_own}, rounds)
    return [_summarise(name, len(paths), runs, found[PLAIN]) for name, runs in found.items()]


def _summarise(
    name: str,
    photos: int,
    runs: Sequence[tuple[float, float]],
    first: Sequence[tuple[float, float]],
) -> TrainingSpeed:
    return TrainingSpeed(
        name=name,
        photos=photos,
        start=MedianRange.of(start for start, _ in runs),
        rate=MedianRange.of(photos / seconds for _, seconds in runs),
        times=MedianRange.of(
            other / seconds for (_, seconds), (_, other) in zip(runs, first, strict=True)
        ),
    )


def _measure(sizes: TrainingSizes, run: Callable[[int], float]) -> tuple[float, float]:
    """Measure the seconds of a process with one epoch, and those of each further epoch."""
    one = run(1)
    more = run(1 + sizes.epochs)
    # A machine with other load can take longer for one epoch than for more.
    return one, max(more - one, MIN_SECONDS) / sizes.epochs


def _run(command: Sequence[str], home: str) -> float:
    """Run a program with a cache of its own, and return its seconds."""
    started = time.perf_counter()
    ran = subprocess.run(
        command,
        env={**os.environ, "XDG_CACHE_HOME": f"{home}/cache"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise CommandError(f"{' '.join(command[:4])} failed: {ran.stderr.strip()[-500:]}")
    return time.perf_counter() - started
