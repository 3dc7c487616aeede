"""Inject kills and errors into many runs of the command (``make endurance``)."""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.faults.driver import Baseline, Outcome, ReportStore, inject_faults, prepare
from tests.faults.scenarios import SCENARIOS, Scenario, find_scenario
from tests.faults.shim import CHANGES, KILL, READS, SENDS, TEAR, Fault, build_shim
from tests.support.object_store import find_missing_s3_package, serve_s3

FAILED = REPOSITORY / "runs" / "endurance"
PROGRESS_SECONDS = 15.0  # between lines of progress
# A full or read-only disk refuses changes from then on; a bad sector fails a read or a write, once
# or permanently.
FULL = ("ENOSPC", "EDQUOT")
READ_ONLY = "EROFS"
BAD_SECTOR = "EIO"
# Numbers of successive kills, with their relative frequency.
KILL_COUNTS = (1, 1, 1, 1, 2, 3)


@dataclass(frozen=True)
class Case:
    """A scenario with its faults, which depend on the number and the seed.

    Attributes:
        number: the number of the case.
        baseline: the scenario and its run without faults.
        faults: the faults, one per run.
    """

    number: int
    baseline: Baseline
    faults: list[Fault]

    @property
    def command(self) -> str:
        """The command line that repeats this case."""
        faults = " ".join(f"--fault='{fault}'" for fault in self.faults)
        name = self.baseline.scenario.name
        return f"{Path(sys.executable)} -m tests.faults --scenario='{name}' {faults}"

    @property
    def kills(self) -> bool:
        """Whether the faults are kills."""
        return self.faults[0].kills


@dataclass
class Totals:
    """Results of the cases of a scenario.

    Attributes:
        kills: kills that were injected.
        errors: errors that were injected.
        resumed: cases that kept all promises.
        failed: cases that broke a promise.
    """

    kills: int = 0
    errors: int = 0
    resumed: int = 0
    failed: int = 0


def main() -> int:
    """Inject the requested number of faults; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="number of kills")
    parser.add_argument("--errors", type=int, default=300, help="number of runs with an error")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="number of concurrent runs")
    parser.add_argument("--scenario", action="append", help="only this scenario; repeatable")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        help="exactly this fault; repeat it for successive runs",
    )
    wanted = parser.parse_args()
    if build_shim() is None:
        sys.stderr.write("no C compiler found; install one (Debian: apt install gcc libc6-dev)\n")
        return 2
    scenarios = [find_scenario(name) for name in wanted.scenario or ()] or list(SCENARIOS)
    if missing := find_missing_s3_package():
        _tell(f"scenarios with an object store skipped: {missing} is not installed")
        scenarios = [scenario for scenario in scenarios if not scenario.needs_store]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        store = None
        if any(scenario.needs_store for scenario in scenarios):
            store = ReportStore.connect(stack.enter_context(serve_s3(work)))
        with ThreadPoolExecutor(wanted.jobs) as pool:
            folders = (work / f"scenario-{number}" for number in itertools.count())
            baselines = list(pool.map(prepare, scenarios, folders, itertools.repeat(store)))
            endurance = Endurance(pool, work, wanted.seed, baselines)
            if wanted.fault:
                faults = [Fault.parse(text) for text in wanted.fault]
                endurance.run_cases(Case(1, baseline, faults) for baseline in baselines)
            else:
                endurance.kill(wanted.kills)
                endurance.refuse(wanted.errors)
        endurance.tell_totals()
        return int(endurance.done["failed"] > 0)


def choose_kills(baseline: Baseline, rng: random.Random) -> list[Fault]:
    """Choose the calls at which successive runs are killed; mostly there is one."""
    kinds = CHANGES + (SENDS if baseline.store else ())
    calls = max(1, baseline.calls(kinds))
    number = rng.choice(KILL_COUNTS)
    return [
        Fault(rng.choice((KILL, KILL, TEAR)), rng.randint(1, calls), kinds) for _ in range(number)
    ]


def choose_errors(baseline: Baseline, rng: random.Random) -> list[Fault]:
    """Choose an error and the call that fails with it."""
    act = rng.choice((*FULL, READ_ONLY, BAD_SECTOR, BAD_SECTOR))
    kinds: tuple[str, ...]
    if act == BAD_SECTOR:
        kinds = rng.choice((("write", "sync"), (*CHANGES, *READS), READS))
        lasting = rng.random() < 0.3
    else:
        # A full disk refuses new files, but allows their removal.
        kinds = ("write", "sync", "open") if act in FULL else CHANGES
        lasting = rng.random() < 0.7
    at = rng.randint(1, max(1, baseline.calls(kinds)))
    return [Fault(act, at, kinds, lasting)]


class Endurance:
    """Injects faults into runs of all scenarios, and counts the results."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        work: Path,
        seed: int,
        baselines: Sequence[Baseline],
    ) -> None:
        self._pool, self._work, self._seed = pool, work, seed
        # Each scenario as often as its weight.
        self._cycle = itertools.cycle(u for u in baselines for _ in range(u.scenario.weight))
        self._totals: dict[str, Totals] = {}
        self._started = self._told = time.monotonic()
        self.done: Counter[str] = Counter()

    def kill(self, kills_wanted: int) -> None:
        """Kill runs until the number of kills is reached; some runs end before the chosen call."""
        numbers = itertools.count(1)
        while (missing := kills_wanted - self.done["kills"]) > 0:
            cases: list[Case] = []
            while sum(len(case.faults) for case in cases) < missing:
                baseline, number = next(self._cycle), next(numbers)
                faults = choose_kills(baseline, random.Random(f"kill {self._seed} {number}"))
                cases.append(Case(number, baseline, faults))
            self.run_cases(cases)

    def refuse(self, errors_wanted: int) -> None:
        """Inject one error into each of ``errors_wanted`` runs."""
        self.run_cases(
            Case(number, u, choose_errors(u, random.Random(f"error {self._seed} {number}")))
            for number, u in zip(range(1, errors_wanted + 1), self._cycle, strict=False)
        )

    def run_cases(self, cases: Iterable[Case]) -> None:
        """Run cases concurrently and count their results."""
        for case, outcome in self._pool.map(self._run_case, cases):
            row = self._totals.setdefault(case.baseline.scenario.name, Totals())
            row.kills += outcome.hit if case.kills else 0
            row.errors += 0 if case.kills else outcome.hit
            row.resumed += not outcome.broken
            row.failed += bool(outcome.broken)
            self.done["kills" if case.kills else "errors"] += outcome.hit
            self.done["failed"] += bool(outcome.broken)
            if time.monotonic() - self._told > PROGRESS_SECONDS:
                self._told = time.monotonic()
                done = ", ".join(
                    f"{self.done[what]} {what}" for what in ("kills", "errors", "failed")
                )
                _tell(f"{done}, {self._told - self._started:.0f} s")

    def _run_case(self, case: Case) -> tuple[Case, Outcome]:
        """Run a case; keep its folder if it broke a promise."""
        kind = "kill" if case.kills else "error"
        name = f"{_file_name(case.baseline.scenario)}-{kind}-{case.number}"
        folder = self._work / name
        outcome = inject_faults(case.baseline, case.faults, folder)
        if outcome.broken:
            kept = FAILED / name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, kept, symlinks=True)
            told = "\n  ".join(outcome.broken)
            _tell(f"FAILED {case.baseline.scenario.name}\n  {told}\n"
                  f"  repeat with: {case.command}\n  kept: {kept}")  # fmt: skip
        for path in (folder, *self._work.glob(f"{name}.*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return case, outcome

    def tell_totals(self) -> None:
        """Print a table of all scenarios."""
        everything = Totals()
        _tell(f"\n{'scenario':<26}{'kills':>8}{'errors':>8}{'resumed':>9}{'failures':>10}")
        for name, row in self._totals.items():
            _tell(_line(name, row))
            for column, value in vars(row).items():
                setattr(everything, column, getattr(everything, column) + value)
        _tell(_line("all", everything))
        _tell(f"{time.monotonic() - self._started:.0f} s, seed {self._seed}")


def _line(name: str, row: Totals) -> str:
    return f"{name:<26}{row.kills:>8}{row.errors:>8}{row.resumed:>9}{row.failed:>10}"


def _file_name(scenario: Scenario) -> str:
    return "".join(c if c.isalnum() else "-" for c in scenario.name).strip("-").lower()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
