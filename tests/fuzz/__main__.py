"""``python -m tests.fuzz``: a long run over broken photos and models, see ``make fuzz``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.apart import Outcome, check_apart
from tests.fuzz.cases import case
from tests.fuzz.labelling import label_files

PHOTOS_A_MODEL = 10  # as many photos are broken as one model, which takes longer to look at
IN_A_FOLDER = 500  # of the cases, as files for the whole command


def main() -> int:
    """Check photos and models, then label a folder of the photos; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--write", type=Path, help="only write the cases as files into a folder")
    wanted = parser.parse_args()
    numbers = range(wanted.first, wanted.first + wanted.cases)
    if wanted.write:
        _write(wanted.write, wanted.seed, numbers)
        return 0
    models = wanted.cases // PHOTOS_A_MODEL
    outcomes = [
        check_apart("photos", wanted.seed, wanted.first, wanted.cases),
        check_apart("models", wanted.seed, wanted.first, models),
    ]
    for kind, outcome in zip(("photos", "models"), outcomes, strict=True):
        _tell_of(kind, outcome)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        _write(folder, wanted.seed, numbers[:IN_A_FOLDER])
        files = sorted(folder.iterdir())
        for run in label_files(files, Path(place)):
            _tell(f"labelled {len(files)} files: {run}")
    return any(outcome.troubles for outcome in outcomes)


def _write(folder: Path, seed: int, numbers: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        made = case(seed, number)
        (folder / made.file_name).write_bytes(made.data)


def _tell_of(kind: str, outcome: Outcome) -> None:
    took, slowest = outcome.slowest
    _tell(f"{outcome.words.total()} broken {kind}: {dict(outcome.words)}")
    _tell(f"at most {outcome.peak_mib} MiB; the slowest took {took:.2f} s: {slowest}")
    for trouble in outcome.troubles:
        _tell(f"TROUBLE {trouble}")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
