"""Measure the command's speed, memory, growth and waiting times; see docs/performance.md."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.command import CommandError
from bench.plan import FULL, LARGE, QUICK
from bench.results import Benchmark, Measurement
from bench.sets import CameraError, SetError
from bench.tables import format_results

PEER = Path(".venv-peers/bin/python")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON on request, and return the exit code."""
    asked = _parser().parse_args(arguments)
    started = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr, flush=True)

    plan = QUICK if asked.quick else LARGE if asked.large else FULL
    try:
        with _home(asked.sets) as home:
            labelled = tuple(asked.labelled)
            bench = Benchmark(plan, asked.photos, home, asked.peer, tell, labelled, asked.against)
            results = bench.measure(asked.parts)
    except (SetError, CameraError, CommandError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(format_results(results, asked.markdown))
    if asked.json:
        asked.json.write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    tell("done")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--photos", type=Path, required=True, help="zip file with JPEGs")
    add("--sets", type=Path, help="keep the photo sets in this folder (4 GB)")
    add(
        "--peer",
        type=Path,
        default=PEER,
        help="Python that has fer and facex installed (make bench-peers)",
    )
    add(
        "--labelled",
        type=Path,
        action="append",
        default=[],
        help="labelled photos for accuracy: a folder or zip file with happy/ and sad/, or FER+; "
        "repeatable",
    )
    add("--against", type=Path, help="another checkout of the project to compare with")
    add(
        "--parts",
        type=Measurement,
        nargs="+",
        default=list(Measurement),
        help=", ".join(Measurement),
    )
    add(
        "--quick", action="store_true", help="measure a few photos once, as a test of the benchmark"
    )
    add(
        "--large",
        action="store_true",
        help="measure growth up to a million files (most of an hour)",
    )
    add("--markdown", action="store_true", help="print the tables of docs/performance.md")
    add("--json", type=Path, help="also write all figures to this file")
    return parser


@contextlib.contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
