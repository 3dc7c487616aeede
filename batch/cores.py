"""How many cores this process may use: its affinity, and the quotas of the groups it is in.

Control groups: the kernel's Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and
Documentation/scheduler/sched-bwc.rst (version 1, ``cpu.cfs_quota_us``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

MEMBERSHIP = Path("/proc/self/cgroup")
CONTROL_GROUPS = Path("/sys/fs/cgroup")


def available_cores(membership: Path = MEMBERSHIP, groups: Path = CONTROL_GROUPS) -> int:
    """Count the cores that this process may use, at least 1.

    A container that is given one and a half cores still sees all of the machine's; more threads
    than its quota would only be stopped in turns. A part of a core counts as one.
    ``membership`` says which control groups the process is in, ``groups`` is where they are
    mounted.
    """
    return min([_allowed_cores(), *(max(1, math.ceil(q)) for q in _quotas(membership, groups))])


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(membership: Path, groups: Path) -> Iterator[float]:
    """Give the cores that each group around the process is limited to, if it is."""
    for line in _text(membership).splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0":
            # Beside version 1 (a hybrid system) version 2 is mounted one level down.
            for root in (groups, groups / "unified"):
                yield from _along(root, group, _quota_v2)
        elif "cpu" in controllers.split(","):
            for root in (groups / "cpu", groups / controllers):
                yield from _along(root, group, _quota_v1)


def _along(root: Path, group: str, quota_of: Callable[[Path], float | None]) -> Iterator[float]:
    """Ask a group and all above it: the smallest quota counts, whoever set it."""
    inside = PurePosixPath(group.lstrip("/"))
    # In a container the group's path may be the host's, and only the root is there.
    for part in (inside, *inside.parents):
        quota = quota_of(root / part)
        if quota is not None:
            yield quota


def _quota_v2(group: Path) -> float | None:
    return _ratio(*_text(group / "cpu.max").split()[:2])


def _quota_v1(group: Path) -> float | None:
    return _ratio(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _ratio(quota: str = "", period: str = "") -> float | None:
    """Microseconds of work over those of a period; None for "max", -1 and what can't be read."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
