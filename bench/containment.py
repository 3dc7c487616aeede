"""What it costs to decode photos in processes of their own.

    python bench/containment.py --photos FOLDER [--rounds N]

Reads, digests and decodes all photos of a folder, by turns in the run's own process and in
processes of their own, with 1, 2, ... threads; then starts and ends a process some times. The
figures are the medians of the rounds.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batch.decode import decode_bytes, read_with_state
from batch.decoder import Decoder
from batch.decoders import Decoders
from batch.discover import discover
from batch.file_limits import FileLimits
from batch.records import Failure
from batch.session import available_cores
from batch.walk import Search

STARTS = 20


def main() -> None:
    """Measure and print a table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--photos", required=True, help="a folder")
    asked.add_argument("--rounds", type=int, default=7)
    given = asked.parse_args()
    paths = [found for found in discover([given.photos], Search()) if isinstance(found, Path)]
    print(f"{len(paths)} photos, {available_cores()} cores, medians of {given.rounds} rounds")
    with Decoders(FileLimits()) as decoders:
        for threads in range(1, available_cores() + 1):
            compare(paths, decoders, threads, given.rounds)
    print(f"start of a process: {start() * 1000:.0f} ms")


def compare(paths: list[Path], decoders: Decoders, threads: int, rounds: int) -> None:
    """Print milliseconds a photo by either way, alternating, and how far they are apart."""
    here: list[float] = []
    there: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            here.append(timed(pool, in_process, paths))
            there.append(timed(pool, lambda path: decoders.decode(path, digest=True), paths))
    inside, outside = statistics.median(here), statistics.median(there)
    print(
        f"{threads} threads: {inside:.3f} ms a photo in the run's process, {outside:.3f} ms in "
        f"their own, ratio {outside / inside:.2f}, {outside - inside:+.3f} ms"
    )


def timed(pool: ThreadPoolExecutor, work: Callable[[Path], object], paths: list[Path]) -> float:
    """Milliseconds a photo on the clock."""
    started = time.perf_counter()
    for _ in pool.map(work, paths):
        pass
    return (time.perf_counter() - started) * 1000 / len(paths)


def in_process(path: Path) -> None:
    """Do the same without another process."""
    read = read_with_state(path)
    if not isinstance(read, Failure):
        hashlib.sha256(read[0]).digest()
        decode_bytes(path, read[0])


def start() -> float:
    """Seconds until a new process is ready; the median of some."""
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        decoder = Decoder(FileLimits())
        seconds.append(time.perf_counter() - started)
        decoder.end()
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
