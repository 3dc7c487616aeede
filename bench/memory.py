"""The memory of a process and all that it started, as the kernel counts it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
# Seconds between two looks. To sum up shared pages takes the kernel about a millisecond a process,
# so that no run is timed while its whole tree is looked at.
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Peak:
    """Peaks in MiB.

    Attributes:
        greatest: the most that any one process had resident (VmHWM, which the kernel keeps).
        together: the greatest sum that was seen of all processes' proportional set sizes: a page
            that several processes share counts once.
    """

    greatest: float
    together: float


class MemorySampler:
    """Looks at a process from time to time, until it has ended.

    Not ``ru_maxrss``, which the kernel carries over from the process that started this one: a
    benchmark that once held much would find its own peak in every run. To look at the process alone
    takes next to no time; ``whole_tree`` looks at all that it started, too.
    """

    def __init__(self, process: int, *, whole_tree: bool = True) -> None:
        self._process, self._whole_tree = process, whole_tree
        self._own = self._greatest = self._together = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()

    def end(self) -> tuple[float | None, Peak | None]:
        """End, and give the peak of the process alone, in MiB, and that of its tree.

        None where there is no /proc, and for a tree that was not looked at.
        """
        self._ended.set()
        self._thread.join()
        peak = Peak(self._greatest / 1024, self._together / 1024) if self._greatest else None
        return self._own / 1024 or None, peak

    def _look(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._own = max(self._own, read_kibibytes(self._process, "status", "VmHWM"))
            if not self._whole_tree:
                continue
            processes = list_process_tree(self._process)
            peaks = [read_kibibytes(process, "status", "VmHWM") for process in processes]
            self._greatest = max(self._greatest, *peaks, 0)
            shares = [read_kibibytes(process, "smaps_rollup", "Pss") for process in processes]
            self._together = max(self._together, sum(shares))


def list_process_tree(process: int) -> list[int]:
    """Number a process and all that it and its children started; empty without /proc."""
    children: dict[int, list[int]] = {}
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may hold anything; the parent is the second field behind it.
            behind = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(behind[1]), []).append(int(folder.name))
    found = [process] if (PROCESSES / str(process)).is_dir() else []
    for parent in found:
        found += children.get(parent, [])
    return found


def read_kibibytes(process: int, file: str, key: str) -> int:
    """Read a size of a process from a file of /proc; 0 where the kernel does not say."""
    with suppress(OSError):
        for line in (PROCESSES / str(process) / file).read_text(errors="replace").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0
