"""Cases checked in a process of their own, so that a crash or a hang is seen and told."""

from __future__ import annotations

import faulthandler
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.fuzz.cases import Case, case
from tests.fuzz.invariants import check
from tests.fuzz.models import check_model, model_case

AT_ONCE = 1000  # cases for one process
LONGEST = 20.0  # seconds that one case may take, on a busy machine and under a sanitizer too
PATIENCE = 300.0  # seconds for all cases of a process

# How a case of each kind is made and checked.
KINDS: dict[str, tuple[Callable[[int, int], Case], Callable[[Case], str]]] = {
    "photos": (case, check),
    "models": (model_case, check_model),
}


@dataclass
class Outcome:
    """How cases came out: counted by word, and what went wrong by the case's name."""

    words: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    peak_mib: int = 0
    slowest: tuple[float, str] = (0.0, "")

    def add(self, other: Outcome) -> None:
        """Take in what became of more cases."""
        self.words += other.words
        self.troubles += other.troubles
        self.peak_mib = max(self.peak_mib, other.peak_mib)
        self.slowest = max(self.slowest, other.slowest)


def check_apart(kind: str, seed: int, first: int, count: int) -> Outcome:
    """Check cases in other processes; one that dies or hangs is a trouble, and the next go on."""
    outcome = Outcome()
    at, end = first, first + count
    while at < end:
        stop = min(end, at + AT_ONCE)
        done, at = _in_a_process(kind, seed, at, stop)
        outcome.add(done)
    return outcome


def _in_a_process(kind: str, seed: int, first: int, stop: int) -> tuple[Outcome, int]:
    """Check cases until ``stop`` or the first that kills; give the number to go on with."""
    with tempfile.TemporaryDirectory() as folder:
        diary = Path(folder) / "diary"
        command = [sys.executable, "-W", "error", "-m", __name__]
        arguments = [kind, str(seed), str(first), str(stop), str(diary)]
        try:
            ran = subprocess.run(
                command + arguments,
                cwd=REPOSITORY,
                capture_output=True,
                timeout=PATIENCE,
                text=True,
                errors="replace",
            )
            why = f"exit code {ran.returncode}\n{ran.stderr[-2000:]}"
            if ran.returncode == 0:
                return _outcome(json.loads(ran.stdout)), stop
        except subprocess.TimeoutExpired:
            why = f"more than {PATIENCE} s"
        killer = int(diary.read_text()) if diary.exists() else first
        # What came before is checked once more for its counts; it has killed nothing.
        before = _in_a_process(kind, seed, first, killer)[0] if killer > first else Outcome()
        before.troubles.append(f"{KINDS[kind][0](seed, killer).name}: {why}")
        return before, killer + 1


def _outcome(told: dict[str, object]) -> Outcome:
    words, troubles, peak, slowest = told.values()
    assert isinstance(words, dict)
    assert isinstance(troubles, list)
    assert isinstance(peak, int)
    assert isinstance(slowest, list)
    return Outcome(Counter(words), troubles, peak, (slowest[0], slowest[1]))


def _work(kind: str, seed: int, first: int, stop: int, diary: Path) -> Outcome:
    outcome = Outcome()
    for number in range(first, stop):
        diary.write_text(str(number))
        made = KINDS[kind][0](seed, number)
        started = time.monotonic()
        for trouble in _troubles(outcome, kind, made):
            outcome.troubles.append(f"{made.name}: {trouble}")
        took = time.monotonic() - started
        outcome.slowest = max(outcome.slowest, (took, made.name))
        if took > LONGEST:
            outcome.troubles.append(f"{made.name}: took {took:.1f} s")
    outcome.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return outcome


def _troubles(outcome: Outcome, kind: str, made: Case) -> Iterator[str]:
    try:
        outcome.words[KINDS[kind][1](made)] += 1
    except Exception as error:  # whatever it is, it should have been told in the usual way
        yield f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    faulthandler.enable()
    seed, first, stop = map(int, sys.argv[2:5])
    done = _work(sys.argv[1], seed, first, stop, Path(sys.argv[5]))
    json.dump(vars(done), sys.stdout)
