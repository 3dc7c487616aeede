"""A few kills and errors in each scenario; ``make endurance`` injects as many as you like."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.driver import (
    Baseline,
    ReportStore,
    find_torn,
    inject_faults,
    prepare,
)
from tests.faults.scenarios import SCENARIOS, Scenario, find_scenario
from tests.faults.shim import CHANGES, KILL, READS, TEAR, Fault, build_shim, shim_environment
from tests.support.object_store import find_missing_s3_package, serve_s3


@pytest.fixture(scope="session")
def shim() -> Path:
    built = build_shim()
    if built is None:
        pytest.skip("no C compiler that can build the shim")
    return built


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportStore | None]:
    if find_missing_s3_package():
        yield None
        return
    with serve_s3(tmp_path_factory.mktemp("store")) as endpoint:
        yield ReportStore.connect(endpoint)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_disturbed_run_breaks_no_promise(
    shim: Path, store: ReportStore | None, scenario: Scenario, tmp_path: Path
) -> None:
    if scenario.needs_store and store is None:
        pytest.skip(f"{find_missing_s3_package()} is not installed")
    baseline = prepare(scenario, tmp_path, store)
    # The most critical calls: the rename of the report, a write, and a read of the journal or an
    # input; then a full disk.
    changes = baseline.calls(CHANGES)
    faults = [
        Fault(KILL, _find_publishing_call(baseline)),
        Fault(TEAR, max(1, changes // 3)),
        Fault("EIO", max(1, baseline.calls(READS) * 2 // 3), READS),
        Fault("ENOSPC", max(1, changes // 4), ("write", "sync", "open"), lasting=True),
    ]
    outcome = inject_faults(baseline, faults, tmp_path / "faults")
    assert outcome.broken == []
    assert outcome.hit >= 2


def _find_publishing_call(baseline: Baseline) -> int:
    """Return the number of the call that renames the report, or of the last change."""
    lines = [line for line in baseline.ended.calls if line.split(" ", 2)[1] in CHANGES]
    for number, line in enumerate(lines, start=1):
        path = line.split(" ", 3)[3]
        if " name rename" in line and Path(path).name in baseline.scenario.published:
            return number
    return len(lines)


_WRITER = """
import os, subprocess, sys
for number in range(4):
    try:
        with open(f"{number}.txt", "wb", buffering=0) as file:
            file.write(b"0123456789")
    except OSError as error:
        print(number, error.errno)
subprocess.run([sys.executable, "-c", "open('child.txt', 'wb').write(b'0123456789')"], check=True)
"""


@pytest.mark.parametrize(
    ("act", "lasting", "code", "sizes", "output"),
    [
        (KILL, False, -9, [10, 10, 0], ""),
        (TEAR, False, -9, [10, 10, 5], ""),
        ("EIO", False, 0, [10, 10, 0, 10, 10], "2 5\n"),
        # The write is cut short when the disk is full.
        ("ENOSPC", True, 0, [10, 10, 5, 0, 10], "3 28\n"),
    ],
)
def test_the_shim_injects_the_fault_at_the_chosen_call(
    shim: Path, tmp_path: Path, act: str, lasting: bool, code: int, sizes: list[int], output: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    variables = shim_environment(shim, place, tmp_path / "log", Fault(act, 3, ("write",), lasting))
    ran = subprocess.run(
        [sys.executable, "-c", _WRITER], cwd=place, env=variables, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (code, output)
    assert [path.stat().st_size for path in sorted(place.iterdir())] == sizes
    calls = (tmp_path / "log").read_text().splitlines()
    # Calls of the child process and writes to standard output do not count.
    assert len(calls) == (3 if code else 4)
    assert calls[2] == f"3 write write {place}/2.txt FAULT"


def test_a_fault_can_be_parsed_from_its_text() -> None:
    for fault in (Fault(KILL, 7), Fault("ENOSPC", 1, ("write",), lasting=True)):
        assert Fault.parse(str(fault)) == fault


def test_a_truncated_report_is_found(shim: Path, tmp_path: Path) -> None:
    baseline = prepare(find_scenario("manifest"), tmp_path)
    place = baseline.copy_template(tmp_path / "torn")
    assert list(find_torn(baseline, place)) == []
    report = place.folder / place.scenario.published[0]
    report.write_bytes(report.read_bytes()[:5])
    assert len(list(find_torn(baseline, place))) == 1
