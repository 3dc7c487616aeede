"""How long a model takes for one picture, on the processor at hand."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from batch.inference.session import open_session
from batch.options import Provider
from trainer.data import Pixels

WARM_UP_RUNS, TIMED_RUNS = 10, 100
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class InferenceTime:
    """Median milliseconds for a batch of one picture on one thread of a processor."""

    milliseconds: float
    processor: str


def measure_inference(graph: bytes, pixels: Pixels) -> InferenceTime:
    """Time an ONNX file's bytes on the CPU, as the runner opens it, on the first picture."""
    session = open_session(graph, Provider.CPU, pixels[:1])
    times = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        start = time.perf_counter()
        session.run(pixels[:1])
        times.append(time.perf_counter() - start)
    return InferenceTime(1000 * statistics.median(times[WARM_UP_RUNS:]), read_processor_name())


def read_processor_name() -> str:
    """Name the processor as its maker does, or by its architecture where it can't be read."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
