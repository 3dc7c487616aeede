"""Cores are counted by affinity and quota; threads keep order and a bound on work in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.parallel import CGROUP_ROOT, ITEMS_PER_WORKER, available_cores, thread_map
from tests.conftest import REPOSITORY

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
needs_two_cores = pytest.mark.skipif(ALLOWED < 2, reason="one core alone can't be limited further")


def _tree(folder: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Write the files of /proc/self/cgroup and /sys/fs/cgroup."""
    own, groups = folder / "cgroup", folder / "groups"
    own.write_text(membership)
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return own, groups


def _v1(group: str, quota: int) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": f"{quota}\n", f"{group}/cpu.cfs_period_us": "100000\n"}


LIMITED_TO_ONE = {
    "version 2": ("0::/job\n", {"job/cpu.max": "100000 100000\n"}),
    "half a core": ("0::/job\n", {"job/cpu.max": "50000 100000\n"}),
    "a group further up": (
        "0::/a/b/c\n",
        {"a/cpu.max": "90000 100000\n", "a/b/cpu.max": "max 100000\n", "a/b/c/cpu.max": "max"},
    ),
    "the smallest of all": (
        "0::/a/b\n",
        {"a/cpu.max": "800000 100000\n", "a/b/cpu.max": "20000 50000\n"},
    ),
    "a container's root": ("0::/\n", {"cpu.max": "100000 100000\n"}),
    "a path of the host": ("0::/docker/1234\n", {"cpu.max": "100000 100000\n"}),
    "version 2 beside 1": ("1:cpu:/\n0::/job\n", {"unified/job/cpu.max": "100000 100000\n"}),
    "version 1": ("3:cpu:/job\n0::/\n", _v1("cpu/job", 100_000)),
    "version 1, joined": ("3:cpu,cpuacct:/job\n", _v1("cpu,cpuacct/job", 70_000)),
    "version 1, further up": ("3:cpu:/a/b\n", _v1("cpu/a", 100_000) | _v1("cpu/a/b", -1)),
    "version 1, a path of the host": ("3:cpu:/docker/1234\n", _v1("cpu", 100_000)),
}
NOT_LIMITED = {
    "no groups": ("", {}),
    "no quota": ("0::/job\n", {"job/cpu.max": "max 100000\n"}),
    "version 1 without a quota": ("3:cpu:/job\n", _v1("cpu/job", -1)),
    "more than there is": ("0::/job\n", {"job/cpu.max": "99900000 100000\n"}),
    "another process' group": ("0::/job\n", {"other/cpu.max": "100000 100000\n"}),
    "other controllers": ("4:cpuset:/job\n", _v1("cpu/job", 100_000)),
    "nonsense": ("0::/job\n3:cpu\n\n:::\n", {"job/cpu.max": "a lot\n"}),
    "a period of nothing": ("0::/job\n", {"job/cpu.max": "100000 0\n"}),
    "an empty file": ("0::/job\n", {"job/cpu.max": ""}),
}


@needs_two_cores
@pytest.mark.parametrize("case", LIMITED_TO_ONE)
def test_a_quota_limits_the_cores(case: str, tmp_path: Path) -> None:
    assert available_cores(*_tree(tmp_path, *LIMITED_TO_ONE[case])) == 1


@pytest.mark.parametrize("case", NOT_LIMITED)
def test_without_a_quota_the_affinity_counts(case: str, tmp_path: Path) -> None:
    assert available_cores(*_tree(tmp_path, *NOT_LIMITED[case])) == ALLOWED


@needs_two_cores
def test_a_part_of_a_core_counts_as_one(tmp_path: Path) -> None:
    assert available_cores(*_tree(tmp_path, "0::/", {"cpu.max": "100001 100000"})) == 2


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A control group limited to half a core; skipped if none can be created."""
    name = f"batch-label-test-{os.getpid()}"
    for parent, limits in (
        (CGROUP_ROOT / "cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
        (CGROUP_ROOT, {"cpu.max": "50000 100000"}),
    ):
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, text in limits.items():
                (group / file).write_text(text)
            yield group
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("no control group can be made here")


@needs_two_cores
def test_a_real_group_limits_a_real_process(half_a_core: Path) -> None:
    code = (
        "import os, pathlib, sys; from batch.parallel import available_cores; "
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid())); "
        "print(available_cores())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(half_a_core)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1\n"


def test_results_come_in_order() -> None:
    def slow_when_even(n: int) -> int:
        time.sleep(0.02 if n % 2 == 0 else 0)
        return n * n

    assert list(thread_map(slow_when_even, range(20), workers=4)) == [n * n for n in range(20)]


def test_work_in_flight_is_bounded() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield n

    results = thread_map(lambda n: n, items(), workers=2)
    next(results)
    assert taken <= 2 * ITEMS_PER_WORKER
    results.close()
    assert taken <= 2 * ITEMS_PER_WORKER


def test_workers_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(thread_map(lambda _: meeting.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_an_exception_reaches_the_reader() -> None:
    with pytest.raises(ZeroDivisionError):
        list(thread_map(lambda n: 1 // n, [1, 0, 1], workers=2))
