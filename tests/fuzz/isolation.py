"""Checks cases in separate processes, so that crashes and hangs are reported as troubles."""

from __future__ import annotations

import faulthandler
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tests.fuzz.cases import Case
from tests.fuzz.kinds import KINDS, FuzzKind

MAX_CASE_SECONDS = 20.0  # for one case, on a busy machine or under a sanitizer
PROCESS_SECONDS = 600.0  # for all cases of a process
MAX_ADDRESS_BYTES = 8 * 1024**3  # address space of a process; a case that needs more is a trouble


@dataclass
class Outcome:
    """Outcomes of several cases.

    Attributes:
        words: the number of cases by outcome.
        troubles: what went wrong, with the names of the cases.
        peak_mib: peak memory of a process that checks cases, in MiB.
        workers_mib: peak memory of a worker of such a process, in MiB.
        seconds: the run time of all processes.
        slowest: seconds and name of the slowest case.
    """

    words: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    peak_mib: int = 0
    workers_mib: int = 0
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def add(self, other: Outcome) -> None:
        """Add the outcomes of more cases."""
        self.words += other.words
        self.troubles += other.troubles
        self.peak_mib = max(self.peak_mib, other.peak_mib)
        self.workers_mib = max(self.workers_mib, other.workers_mib)
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)


def check_in_processes(kind: str | FuzzKind, seed: int, first: int, count: int) -> Outcome:
    """Check cases in other processes; a case that kills or hangs one is a trouble."""
    outcome = Outcome()
    kind = KINDS[kind] if isinstance(kind, str) else kind
    at, end = first, first + count
    while at < end:
        stop = min(end, at + kind.at_once)
        done, at = _run_process(kind, seed, at, stop)
        outcome.add(done)
    return outcome


def _run_process(kind: FuzzKind, seed: int, first: int, stop: int) -> tuple[Outcome, int]:
    """Check cases in one process.

    Returns:
        The outcome, and the number of the next case: ``stop``, or the one after a fatal case.
    """
    with tempfile.TemporaryDirectory() as folder:
        progress_file = Path(folder) / "progress"
        command = [sys.executable, "-W", "error", "-m", __name__]
        arguments = [kind.make, kind.check, str(seed), str(first), str(stop), str(progress_file)]
        try:
            ran = subprocess.run(
                command + arguments,
                cwd=REPOSITORY,
                capture_output=True,
                timeout=PROCESS_SECONDS,
                text=True,
                errors="replace",
            )
            why = f"exit code {ran.returncode}\n{ran.stderr[-2000:]}"
            if ran.returncode == 0:
                return _parse_outcome(json.loads(ran.stdout)), stop
        except subprocess.TimeoutExpired:
            why = f"more than {PROCESS_SECONDS} s"
        fatal = int(progress_file.read_text()) if progress_file.exists() else first
        # Check the cases before it again for their outcomes, which are lost with the process.
        before = _run_process(kind, seed, first, fatal)[0] if fatal > first else Outcome()
        before.troubles.append(f"{kind.load()[0](seed, fatal).name}: {why}")
        return before, fatal + 1


def _parse_outcome(values: dict[str, Any]) -> Outcome:
    took, name = values.pop("slowest")
    words = Counter(values.pop("words"))
    return Outcome(words=words, slowest=(took, name), **values)


def _check_cases(kind: FuzzKind, seed: int, first: int, stop: int, progress_file: Path) -> Outcome:
    outcome = Outcome()
    make, check = kind.load()
    started = time.monotonic()
    for number in range(first, stop):
        progress_file.write_text(str(number))
        made = make(seed, number)
        before = time.monotonic()
        for trouble in _check_case(outcome, check, made):
            outcome.troubles.append(f"{made.name}: {trouble}")
        took = time.monotonic() - before
        outcome.slowest = max(outcome.slowest, (took, made.name))
        if took > MAX_CASE_SECONDS:
            outcome.troubles.append(f"{made.name}: took {took:.1f} s")
    outcome.seconds = time.monotonic() - started
    outcome.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    outcome.workers_mib = peak_child_mib()
    return outcome


def peak_child_mib() -> int:
    """Return the peak memory, in MiB, of the child processes that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def _check_case(outcome: Outcome, check: Callable[[Case], str], made: Case) -> Iterator[str]:
    try:
        outcome.words[check(made)] += 1
    except Exception as error:  # any exception that the check does not expect is a trouble
        at = traceback.extract_tb(error.__traceback__)[-1]
        yield f"{type(error).__name__}: {str(error)[:500]} ({at.filename}:{at.lineno})"


if __name__ == "__main__":
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, resource.RLIM_INFINITY))
    asked = FuzzKind("", sys.argv[1], sys.argv[2])
    seed, first, stop = map(int, sys.argv[3:6])
    done = _check_cases(asked, seed, first, stop, Path(sys.argv[6]))
    json.dump(vars(done), sys.stdout)
