"""The measured machine: its description, and pinning to its cores."""

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
    """A description of the machine.

    Attributes:
        processor: the model of the processor.
        cores: the number of cores that this process may use.
        memory_gib: the memory in GiB; None if the system does not tell.
        system: the operating system, its release, and the architecture.
    """

    processor: str
    cores: int
    memory_gib: float | None
    system: str


def describe_machine() -> Machine:
    """Describe this machine."""
    kilobytes = _read_value(MEMORY_INFO, "MemTotal").split(" ")[0]
    return Machine(
        processor=_read_value(CPU_INFO, "model name") or platform.processor() or platform.machine(),
        cores=available_cores(),
        memory_gib=round(int(kilobytes) / 1024**2, 1) if kilobytes else None,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def list_usable_cores() -> list[int]:
    """List the numbers of the cores that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(available_cores()))


@contextlib.contextmanager
def pin_to_cores(cores: Collection[int]) -> Iterator[None]:
    """Pin this thread, and the processes that it starts, to some cores.

    Has no effect on systems without CPU affinity (macOS).
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
    """Return the value of a key in a file of ``key : value`` lines; empty if missing."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
