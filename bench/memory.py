"""Memory of a process and its descendants, read from /proc."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")
# Seconds between two samples. The kernel takes about a millisecond per process to add up shared
# pages, so runs whose whole tree is sampled are not timed.
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Peak:
    """Peak memory of a process tree, in MiB.

    Attributes:
        greatest: the largest peak of resident memory of any process (VmHWM).
        together: the largest sampled sum of the proportional set sizes of all processes, in which
            a page that several processes share counts once.
    """

    greatest: float
    together: float


class MemorySampler:
    """Samples the memory of a process in a thread until it ends.

    ``ru_maxrss`` is no alternative: a child inherits it from its parent, so it would report the
    peak of the benchmark itself.

    Args:
        process: the process ID.
        whole_tree: whether to sample all descendants, too, which is slower.
    """

    def __init__(self, process: int, *, whole_tree: bool = True) -> None:
        self._process, self._whole_tree = process, whole_tree
        self._own = self._greatest = self._together = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._thread.start()

    def end(self) -> tuple[float | None, Peak | None]:
        """Stop sampling.

        Returns:
            The peak memory of the process itself in MiB, and that of its tree. Both are None
            without /proc; the latter is None unless the whole tree is sampled.
        """
        self._ended.set()
        self._thread.join()
        peak = Peak(self._greatest / 1024, self._together / 1024) if self._greatest else None
        return self._own / 1024 or None, peak

    def _sample(self) -> None:
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
    """List the IDs of a process and its descendants; empty without /proc."""
    children: dict[int, list[int]] = {}
    for folder in PROCESSES.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may contain anything; the parent is the second field after it.
            behind = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(behind[1]), []).append(int(folder.name))
    found = [process] if (PROCESSES / str(process)).is_dir() else []
    for parent in found:
        found += children.get(parent, [])
    return found


def read_kibibytes(process: int, file: str, key: str) -> int:
    """Read a size of a process, in KiB, from a file of /proc; 0 if missing."""
    with suppress(OSError):
        for line in (PROCESSES / str(process) / file).read_text(errors="replace").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0
