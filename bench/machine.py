"""The machine that is measured: what it is, and which of its cores are used."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from batch.parallel import available_cores

CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """What figures depend on; ``memory_gib`` is None where the system does not say."""

    processor: str
    cores: int
    memory_gib: float | None
    system: str


def describe_machine() -> Machine:
    """Describe the machine; ``cores`` are those that this process may use."""
    kilobytes = _read_value(MEMORY_INFO, "MemTotal").split(" ")[0]
    return Machine(
        processor=_read_value(CPU_INFO, "model name") or platform.processor() or platform.machine(),
        cores=available_cores(),
        memory_gib=round(int(kilobytes) / 1024**2, 1) if kilobytes else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def list_usable_cores() -> list[int]:
    """Number the cores that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(available_cores()))


@contextlib.contextmanager
def pin_to_cores(cores: Collection[int]) -> Iterator[None]:
    """Keep this thread, and the processes that it starts meanwhile, on some cores.

    Where a system has no such thing (macOS) they run where they like.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _read_value(file: Path, key: str) -> str:
    """Look a key up in a file of ``key : value`` lines; empty where there is none."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
