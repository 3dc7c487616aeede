"""``python -m tests.fuzz``: a long run over broken files of every kind, see ``make fuzz``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.fuzz.apart import Outcome, check_in_processes, peak_child_mib
from tests.fuzz.cases import case
from tests.fuzz.kinds import KINDS, split_cases
from tests.fuzz.labelling import label_files

IN_A_FOLDER = 500  # of the photos, as files for the whole command
KEPT = REPOSITORY / "runs" / "fuzz"
EVERY = 15.0  # seconds between lines of progress


def main() -> int:
    """Check all kinds, then label a folder of the photos; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these, all cases each")
    parser.add_argument("--first", type=int, default=0, help="the number of each kind's first case")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", type=Path, help="only write the photos as files into a folder")
    wanted = parser.parse_args()
    if wanted.write:
        _write(wanted.write, wanted.seed, range(wanted.first, wanted.first + wanted.cases))
        return 0
    split = dict.fromkeys(wanted.kind, wanted.cases) if wanted.kind else split_cases(wanted.cases)
    started = time.monotonic()
    outcomes = _check_all(split, wanted.seed, wanted.first, wanted.jobs)
    seconds = time.monotonic() - started
    for kind, outcome in outcomes.items():
        _tell_of(kind, outcome)
    total = sum(outcome.words.total() + len(outcome.troubles) for outcome in outcomes.values())
    troubles = sum(len(outcome.troubles) for outcome in outcomes.values())
    own = max(max(outcome.peak_mib, outcome.workers_mib) for outcome in outcomes.values())
    _tell(
        f"{total:,} broken files in {seconds:.0f} s, {total / seconds:.0f} a second; "
        f"{troubles} troubles; no process took more than {max(own, peak_child_mib())} MiB; "
        f"seed {wanted.seed}"
    )
    if not wanted.kind:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "photos"
            _write(folder, wanted.seed, range(wanted.first, wanted.first + IN_A_FOLDER))
            files = sorted(folder.iterdir())
            for run in label_files(files, Path(place)):
                _tell(f"labelled {len(files)} files: {run}")
    return int(troubles > 0)


def _check_all(split: dict[str, int], seed: int, first: int, jobs: int) -> dict[str, Outcome]:
    """Check cases of all kinds, in as many processes at a time as ``jobs`` says."""
    outcomes = {kind: Outcome() for kind in split}
    started = told = time.monotonic()
    done, total = 0, sum(split.values())
    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[Outcome], tuple[str, int]] = {
            pool.submit(check_in_processes, kind, seed, start, number): (kind, number)
            for kind, start, number in _pieces(split, first)
        }
        for future in as_completed(waiting):
            kind, number = waiting[future]
            outcome = future.result()
            outcomes[kind].add(outcome)
            done += number
            for trouble in outcome.troubles:
                _tell(f"TROUBLE {kind} {trouble}")
                _tell(f"  again: {_again(kind, seed, trouble)}")
                _tell(f"  kept: {_keep(kind, seed, trouble)}")
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                rate = done / (told - started)
                _tell(
                    f"{done:,} of {total:,}, {rate:.0f} a second, "
                    f"{(total - done) / rate:.0f} s to go, "
                    f"{sum(len(o.troubles) for o in outcomes.values())} troubles"
                )
    return outcomes


def _pieces(split: dict[str, int], first: int) -> Iterator[tuple[str, int, int]]:
    """Share each kind's cases out among processes, and mix the kinds."""
    pieces: list[tuple[float, str, int, int]] = []
    for kind, number in split.items():
        size = KINDS[kind].at_once
        for at in range(0, number, size):
            pieces.append((at / number, kind, first + at, min(size, number - at)))
    return iter((kind, start, number) for _, kind, start, number in sorted(pieces))


def _number(trouble: str) -> int:
    return int(trouble.partition("-")[0])


def _again(kind: str, seed: int, trouble: str) -> str:
    which = f"--kind {kind} --seed {seed} --first {_number(trouble)} --cases 1"
    return f"{sys.executable} -m tests.fuzz {which}"


def _keep(kind: str, seed: int, trouble: str) -> Path:
    """Write the file of a trouble where it is found again."""
    made = KINDS[kind].load()[0](seed, _number(trouble))
    path = KEPT / kind / f"{seed}-{made.file_name.replace('/', '_')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.data)
    return path


def _write(folder: Path, seed: int, numbers: Sequence[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        made = case(seed, number)
        (folder / made.file_name).write_bytes(made.data)


def _tell_of(kind: str, outcome: Outcome) -> None:
    took, slowest = outcome.slowest
    number = outcome.words.total() + len(outcome.troubles)
    rate = number / outcome.seconds if outcome.seconds else 0
    _tell(f"{number:,} broken {kind}, {rate:.0f} a second of a core: {_counts(outcome)}")
    workers = f", a worker {outcome.workers_mib} MiB" if outcome.workers_mib else ""
    _tell(f"  at most {outcome.peak_mib} MiB{workers}; the slowest took {took:.2f} s: {slowest}")


def _counts(outcome: Outcome) -> str:
    return ", ".join(f"{word} {count:,}" for word, count in outcome.words.most_common())


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
