"""Cases checked in a process of their own, so that a crash or a hang is seen and told."""

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

MAX_CASE_SECONDS = (
    20.0  # seconds that one case may take, on a busy machine and under a sanitizer too
)
PROCESS_SECONDS = 600.0  # seconds for all cases of a process
MAX_ADDRESS_BYTES = (
    8 * 1024**3
)  # bytes of address space, so that a case that asks for more is a trouble


@dataclass
class Outcome:
    """How cases came out: counted by word, and what went wrong by the case's name.

    ``peak_mib`` is the most memory of a process that checked cases, ``workers_mib`` of a worker
    that it had; all processes together took ``seconds``.
    """

    words: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    peak_mib: int = 0
    workers_mib: int = 0
    seconds: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def add(self, other: Outcome) -> None:
        """Take in what became of more cases."""
        self.words += other.words
        self.troubles += other.troubles
        self.peak_mib = max(self.peak_mib, other.peak_mib)
        self.workers_mib = max(self.workers_mib, other.workers_mib)
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)


def check_in_processes(kind: str | FuzzKind, seed: int, first: int, count: int) -> Outcome:
    """Check cases in other processes; one that dies or hangs is a trouble, and the next go on."""
    outcome = Outcome()
    kind = KINDS[kind] if isinstance(kind, str) else kind
    at, end = first, first + count
    while at < end:
        stop = min(end, at + kind.at_once)
        done, at = _run_process(kind, seed, at, stop)
        outcome.add(done)
    return outcome


def _run_process(kind: FuzzKind, seed: int, first: int, stop: int) -> tuple[Outcome, int]:
    """Check cases until ``stop`` or the first that kills; give the number to go on with."""
    with tempfile.TemporaryDirectory() as folder:
        diary = Path(folder) / "diary"
        command = [sys.executable, "-W", "error", "-m", __name__]
        arguments = [kind.make, kind.check, str(seed), str(first), str(stop), str(diary)]
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
                return _outcome(json.loads(ran.stdout)), stop
        except subprocess.TimeoutExpired:
            why = f"more than {PROCESS_SECONDS} s"
        killer = int(diary.read_text()) if diary.exists() else first
        # What came before is checked once more for its counts; it has killed nothing.
        before = _run_process(kind, seed, first, killer)[0] if killer > first else Outcome()
        before.troubles.append(f"{kind.load()[0](seed, killer).name}: {why}")
        return before, killer + 1


def _outcome(told: dict[str, Any]) -> Outcome:
    took, name = told.pop("slowest")
    words = Counter(told.pop("words"))
    return Outcome(words=words, slowest=(took, name), **told)


def _check_cases(kind: FuzzKind, seed: int, first: int, stop: int, diary: Path) -> Outcome:
    outcome = Outcome()
    make, check = kind.load()
    started = time.monotonic()
    for number in range(first, stop):
        diary.write_text(str(number))
        made = make(seed, number)
        before = time.monotonic()
        for trouble in _troubles(outcome, check, made):
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
    """Give the most memory, in MiB, of a process that this one has started and that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def _troubles(outcome: Outcome, check: Callable[[Case], str], made: Case) -> Iterator[str]:
    try:
        outcome.words[check(made)] += 1
    except Exception as error:  # whatever it is, it should have been told in the usual way
        at = traceback.extract_tb(error.__traceback__)[-1]
        yield f"{type(error).__name__}: {str(error)[:500]} ({at.filename}:{at.lineno})"


if __name__ == "__main__":
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, resource.RLIM_INFINITY))
    asked = FuzzKind("", sys.argv[1], sys.argv[2])
    seed, first, stop = map(int, sys.argv[3:6])
    done = _check_cases(asked, seed, first, stop, Path(sys.argv[6]))
    json.dump(vars(done), sys.stdout)
