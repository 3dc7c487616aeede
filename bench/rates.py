"""How fast photos are decoded, labelled by the command, and run through the models in batches."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from batch.errors import ExitCode, ProviderError
from batch.inference.session import open_session
from batch.models.model import Model
from batch.options import DEFAULT_BATCH_SIZE, ConvolutionSearch, Device, Provider
from batch.parallel import available_cores
from batch.records import Failure, Photo
from batch.vision.decode import decode_bytes
from batch.vision.read_file import read_file_with_state

# Workers mostly wait for the GPU, so more of them than cores may pay.
WORKERS_A_CORE = (1, 2, 4)
# Photos that each process decodes unmeasured, and photos that it is handed at a time.
WARM_UP, CHUNK = 4, 4


def measure_decoding(photos: list[Path], runs: int) -> dict[str, float]:
    """Read and decode all photos, one process per core, which no GPU can make faster."""
    cores, rates = available_cores(), []
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        list(pool.map(_is_decoded, photos[:1] * cores * WARM_UP))  # which starts all of them
        for _ in range(runs):
            started = time.perf_counter()
            decoded = sum(pool.map(_is_decoded, photos, chunksize=CHUNK))
            rates.append(decoded / (time.perf_counter() - started))
    return {"cores": cores, "rate": max(rates)}


def _is_decoded(path: Path) -> bool:
    read = read_file_with_state(path)
    return not isinstance(read, Failure) and isinstance(decode_bytes(path, read[0]), Photo)


def measure_commands(
    photos: list[Path], place: Device, runs: int, workers: tuple[int, ...] | None
) -> list[dict[str, float]]:
    """Run the whole command, start-up and journal included, with several numbers of workers."""
    where = ["--provider", place.provider.value]
    if place.provider is not Provider.CPU:
        where += ["--devices", ",".join(map(str, place.devices))]
    results = []
    for number in workers or [available_cores() * each for each in WORKERS_A_CORE]:
        timed = [measure_command(photos, number, where) for _ in range(runs)]
        results.append({"workers": number, "rate": max(timed)})
    return results


def measure_command(photos: list[Path], workers: int, where: list[str]) -> float:
    """Run the command once; the provider is named, so that it runs on that one or not at all.

    Raises:
        ProviderError: it labelled nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = ["-o", str(Path(folder) / "r.csv"), "-q", "--workers", str(workers), *where]
        started = time.perf_counter()
        ran = subprocess.run([sys.executable, "-m", "batch", str(photos[0].parent), *own])
        passed = time.perf_counter() - started
    if ran.returncode not in (ExitCode.OK, ExitCode.INCOMPLETE):
        raise ProviderError(f"the command ended with code {ran.returncode}", "see what it said")
    return len(photos) / passed


def measure_searches(models: Sequence[Model], place: Device, runs: int) -> list[dict[str, Any]]:
    """Open the models with each way to search, and run full batches; the CPU knows none."""
    on_gpu = place.provider is not Provider.CPU
    ways = list(ConvolutionSearch) if on_gpu else [place.search]
    return [
        {"search": way.value if on_gpu else None}
        | measure_search(models, replace(place, search=way), runs)
        for way in ways
    ]


def measure_search(models: Sequence[Model], place: Device, runs: int) -> dict[str, float]:
    """Seconds to open the models, and milliseconds that a full batch of each takes in sum."""
    random = np.random.default_rng(0)
    opened, spent = 0.0, 0.0
    for model in models:
        shape = (DEFAULT_BATCH_SIZE, model.height, model.width, model.channels)
        batch = random.integers(0, 256, shape, dtype=np.uint8)
        started = time.perf_counter()
        session = open_session(model.graph, place, batch[:1], batch=len(batch))
        opened += time.perf_counter() - started
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            session.run(batch)
            times.append(time.perf_counter() - started)
        spent += min(times)
    return {"open_s": opened, "batch_ms": spent * 1000}
