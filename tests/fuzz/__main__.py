"""Fuzz all kinds of input files for a long time (``make fuzz``)."""

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
from tests.fuzz import photos
from tests.fuzz.isolation import Outcome, check_in_processes, peak_child_mib
from tests.fuzz.kinds import KINDS, split_cases
from tests.fuzz.labelling import label_files

FOLDER_PHOTOS = 500  # photos that the whole command labels at the end
KEPT = REPOSITORY / "runs" / "fuzz"
PROGRESS_SECONDS = 15.0  # between lines of progress


def main() -> int:
    """Check cases of all kinds, then label broken photos; return 1 if there were troubles."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="number of cases of all kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="only this kind, with all cases; repeatable"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="number of processes"
    )
    parser.add_argument("--write", type=Path, help="only write the broken photos to this folder")
    wanted = parser.parse_args()
    if wanted.write:
        _write(wanted.write, wanted.seed, range(wanted.first, wanted.first + wanted.cases))
        return 0
    split = dict.fromkeys(wanted.kind, wanted.cases) if wanted.kind else split_cases(wanted.cases)
    started = time.monotonic()
    outcomes = _check_all(split, wanted.seed, wanted.first, wanted.jobs)
    seconds = time.monotonic() - started
    for kind, outcome in outcomes.items():
        _tell_outcome(kind, outcome)
    total = sum(outcome.words.total() + len(outcome.troubles) for outcome in outcomes.values())
    troubles = sum(len(outcome.troubles) for outcome in outcomes.values())
    own = max(max(outcome.peak_mib, outcome.workers_mib) for outcome in outcomes.values())
    _tell(
        f"{total:,} broken files in {seconds:.0f} s, {total / seconds:.0f} per second; "
        f"{troubles} troubles; peak memory of a process {max(own, peak_child_mib())} MiB; "
        f"seed {wanted.seed}"
    )
    if not wanted.kind:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "photos"
            _write(folder, wanted.seed, range(wanted.first, wanted.first + FOLDER_PHOTOS))
            files = sorted(folder.iterdir())
            for run in label_files(files, Path(place)):
                _tell(f"labelled {len(files)} files: {run}")
    return int(troubles > 0)


def _check_all(split: dict[str, int], seed: int, first: int, jobs: int) -> dict[str, Outcome]:
    """Check cases of all kinds, in up to ``jobs`` processes at a time."""
    outcomes = {kind: Outcome() for kind in split}
    started = told = time.monotonic()
    done, total = 0, sum(split.values())
    with ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[Outcome], tuple[str, int]] = {
            pool.submit(check_in_processes, kind, seed, start, number): (kind, number)
            for kind, start, number in _split_work(split, first)
        }
        for future in as_completed(waiting):
            kind, number = waiting[future]
            outcome = future.result()
            outcomes[kind].add(outcome)
            done += number
            for trouble in outcome.troubles:
                _tell(f"TROUBLE {kind} {trouble}")
                _tell(f"  repeat with: {_repeat_command(kind, seed, trouble)}")
                _tell(f"  kept: {_keep(kind, seed, trouble)}")
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                rate = done / (told - started)
                _tell(
                    f"{done:,} of {total:,}, {rate:.0f} per second, "
                    f"{(total - done) / rate:.0f} s left, "
                    f"{sum(len(o.troubles) for o in outcomes.values())} troubles"
                )
    return outcomes


def _split_work(split: dict[str, int], first: int) -> Iterator[tuple[str, int, int]]:
    """Split the cases into pieces of one process each, with the kinds mixed."""
    pieces: list[tuple[float, str, int, int]] = []
    for kind, number in split.items():
        size = KINDS[kind].at_once
        for at in range(0, number, size):
            pieces.append((at / number, kind, first + at, min(size, number - at)))
    return iter((kind, start, number) for _, kind, start, number in sorted(pieces))


def _number(trouble: str) -> int:
    return int(trouble.partition("-")[0])


def _repeat_command(kind: str, seed: int, trouble: str) -> str:
    which = f"--kind {kind} --seed {seed} --first {_number(trouble)} --cases 1"
    return f"{sys.executable} -m tests.fuzz {which}"


def _keep(kind: str, seed: int, trouble: str) -> Path:
    """Write the broken file of a trouble to the folder of kept files."""
    made = KINDS[kind].load()[0](seed, _number(trouble))
    path = KEPT / kind / f"{seed}-{made.file_name.replace('/', '_')}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.data)
    return path


def _write(folder: Path, seed: int, numbers: Sequence[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        made = photos.make(seed, number)
        (folder / made.file_name).write_bytes(made.data)


def _tell_outcome(kind: str, outcome: Outcome) -> None:
    took, slowest = outcome.slowest
    number = outcome.words.total() + len(outcome.troubles)
    rate = number / outcome.seconds if outcome.seconds else 0
    counts = ", ".join(f"{word} {count:,}" for word, count in outcome.words.most_common())
    _tell(f"{number:,} broken {kind}, {rate:.0f} per second and core: {counts}")
    workers = f", of a worker {outcome.workers_mib} MiB" if outcome.workers_mib else ""
    _tell(f"  peak memory {outcome.peak_mib} MiB{workers}; slowest case {took:.2f} s: {slowest}")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
