"""``python -m tests.faults``: a long run of kills and errors, see ``make endurance``."""

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
from tests.faults.cases import choose_errors, choose_kills
from tests.faults.driver import Baseline, Outcome, ReportStore, disturb, prepare
from tests.faults.scenarios import SCENARIOS, Scenario, find_scenario
from tests.faults.shim import Fault, build_shim
from tests.support.object_store import find_missing_s3_package, serve_s3

FAILED = REPOSITORY / "runs" / "endurance"
EVERY = 15.0  # seconds between lines of progress


@dataclass(frozen=True)
class Case:
    """A scenario and its faults, which its number and the seed choose."""

    number: int
    undisturbed: Baseline
    faults: list[Fault]

    @property
    def command(self) -> str:
        """What runs this case again."""
        faults = " ".join(f"--fault='{fault}'" for fault in self.faults)
        name = self.undisturbed.scenario.name
        return f"{Path(sys.executable)} -m tests.faults --scenario='{name}' {faults}"

    @property
    def kills(self) -> bool:
        """Whether the run is killed."""
        return self.faults[0].kills


@dataclass
class Totals:
    """What came of a scenario's cases."""

    kills: int = 0
    errors: int = 0
    resumed: int = 0
    failed: int = 0


def main() -> int:
    """Disturb runs as often as was asked for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--errors", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--scenario", action="append", help="only these")
    parser.add_argument("--fault", action="append", help="exactly these, in a row", default=[])
    wanted = parser.parse_args()
    if build_shim() is None:
        sys.stderr.write("there is no C compiler (Debian: apt install gcc libc6-dev)\n")
        return 2
    scenarios = [find_scenario(name) for name in wanted.scenario or ()] or list(SCENARIOS)
    if missing := find_missing_s3_package():
        _tell(f"without the scenarios that need a store: {missing} is not installed")
        scenarios = [scenario for scenario in scenarios if not scenario.needs_store]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        store = None
        if any(scenario.needs_store for scenario in scenarios):
            store = ReportStore.at(stack.enter_context(serve_s3(work)))
        with ThreadPoolExecutor(wanted.jobs) as pool:
            folders = (work / f"scenario-{number}" for number in itertools.count())
            all_undisturbed = list(pool.map(prepare, scenarios, folders, itertools.repeat(store)))
            endurance = Endurance(pool, work, wanted.seed, all_undisturbed)
            if wanted.fault:
                faults = [Fault.parse(text) for text in wanted.fault]
                endurance.disturb(Case(1, undisturbed, faults) for undisturbed in all_undisturbed)
            else:
                endurance.kill(wanted.kills)
                endurance.refuse(wanted.errors)
        endurance.tell_totals()
        return int(endurance.done["failed"] > 0)


class Endurance:
    """Disturbs runs again and again, and counts."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        work: Path,
        seed: int,
        all_undisturbed: Sequence[Baseline],
    ) -> None:
        self._pool, self._work, self._seed = pool, work, seed
        # Every scenario by its weight.
        self._cycle = itertools.cycle(u for u in all_undisturbed for _ in range(u.scenario.weight))
        self._totals: dict[str, Totals] = {}
        self._started = self._told = time.monotonic()
        self.done: Counter[str] = Counter()

    def kill(self, kills_wanted: int) -> None:
        """Kill runs until so many kills have hit; some runs end before the call comes."""
        numbers = itertools.count(1)
        while (missing := kills_wanted - self.done["kills"]) > 0:
            cases: list[Case] = []
            while sum(len(case.faults) for case in cases) < missing:
                undisturbed, number = next(self._cycle), next(numbers)
                faults = choose_kills(undisturbed, random.Random(f"kill {self._seed} {number}"))
                cases.append(Case(number, undisturbed, faults))
            self.disturb(cases)

    def refuse(self, errors_wanted: int) -> None:
        """Let the system refuse something to as many runs."""
        self.disturb(
            Case(number, u, choose_errors(u, random.Random(f"error {self._seed} {number}")))
            for number, u in zip(range(1, errors_wanted + 1), self._cycle, strict=False)
        )

    def disturb(self, cases: Iterable[Case]) -> None:
        """Disturb runs, some at a time."""
        for case, outcome in self._pool.map(self._disturb, cases):
            row = self._totals.setdefault(case.undisturbed.scenario.name, Totals())
            row.kills += outcome.hit if case.kills else 0
            row.errors += 0 if case.kills else outcome.hit
            row.resumed += not outcome.broken
            row.failed += bool(outcome.broken)
            self.done["kills" if case.kills else "errors"] += outcome.hit
            self.done["failed"] += bool(outcome.broken)
            if time.monotonic() - self._told > EVERY:
                self._told = time.monotonic()
                done = ", ".join(
                    f"{self.done[what]} {what}" for what in ("kills", "errors", "failed")
                )
                _tell(f"{done}, {self._told - self._started:.0f} s")

    def _disturb(self, case: Case) -> tuple[Case, Outcome]:
        """Disturb a run; the folder of one that broke a promise is kept."""
        kind = "kill" if case.kills else "error"
        name = f"{_file_name(case.undisturbed.scenario)}-{kind}-{case.number}"
        folder = self._work / name
        outcome = disturb(case.undisturbed, case.faults, folder)
        if outcome.broken:
            kept = FAILED / name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, kept, symlinks=True)
            told = "\n  ".join(outcome.broken)
            _tell(f"FAILED {case.undisturbed.scenario.name}\n  {told}\n"
                  f"  again: {case.command}\n  kept: {kept}")  # fmt: skip
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
