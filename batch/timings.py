"""Seconds spent in each stage, summed over all workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

DISCOVER: Final = "discover"
READ: Final = "read"
DECODE: Final = "decode"
FACES: Final = "faces"
CROP: Final = "crop"
CLASSIFY: Final = "classify"
REPORT: Final = "report"


class Timings:
    """Collects seconds by stage; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.add_all({stage: seconds})

    def add_all(self, seconds: Mapping[str, float]) -> None:
        """Add seconds by stage."""
        with self._lock:
            for stage, more in seconds.items():
                self._seconds[stage] = self._seconds.get(stage, 0.0) + more

    def take(self) -> dict[str, float]:
        """Return the seconds by stage since the last call, and reset them."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken

    def seconds(self) -> dict[str, float]:
        """Return the seconds by stage so far."""
        with self._lock:
            return dict(self._seconds)
