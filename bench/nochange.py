"""How long a night takes on which nothing has changed, against a mere listing of the files.

    python bench/nochange.py [FILES ...]

makes folders with so many tiny pictures, labels them once, and then compares
`find -type f -printf` with a second run: discovery and comparison, which may take three times as
long, and everything else. Peak memory is that of the whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

PER_FOLDER = 1_000
COUNTS = (1_000, 100_000)
RUNS = 3


def main() -> None:
    """Print a line for each number of files."""
    counts = [int(text) for text in sys.argv[1:]] or COUNTS
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            print(json.dumps(measure(Path(folder) / str(count), count)), flush=True)


def measure(home: Path, count: int) -> dict[str, float]:
    """Label a tree of pictures, then run again and compare with a listing.

    Times in seconds, the best of ``RUNS``; memory in MiB.
    """
    photos, report = home / "photos", home / "r.csv"
    make(photos, count)
    first, first_memory = run(photos, report)
    listing = min(listed(photos) for _ in range(RUNS))
    again = [run(photos, report) for _ in range(RUNS)]
    record, memory = min(again, key=lambda pair: pair[0]["seconds"]["discover"])
    assert record["counts"]["found"] == record["counts"]["reused"] == count
    return {
        "files": count,
        "find": round(listing, 3),
        "discover_and_compare": record["seconds"]["discover"],
        "ratio": round(record["seconds"]["discover"] / listing, 2),
        "report": record["seconds"]["report"],
        "wall": record["seconds"]["wall"],
        "first_wall": first["seconds"]["wall"],
        "first_peak_mib": first_memory,
        "peak_mib": memory,
    }


def make(photos: Path, count: int) -> None:
    """Fill folders with copies of one tiny picture, of which the first alone is labelled."""
    picture = tiny_picture()
    for n in range(count):
        folder = photos / f"{n // PER_FOLDER:04}"
        if n % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{n:07}.jpg").write_bytes(picture)


def tiny_picture() -> bytes:
    """Give a JPEG of 8 x 8 pixels."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        Image.new("RGB", (8, 8), "grey").save(file.name)
        return Path(file.name).read_bytes()


def listed(photos: Path) -> float:
    """Time a listing of all files with size and time."""
    started = time.perf_counter()
    command = ["find", str(photos), "-type", "f", "-printf", "%s %T@ %p\n"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def run(photos: Path, report: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Label the tree and give the run's record and its peak memory in MiB."""
    command = [sys.executable, "-m", "batch", str(photos), "-q", "-m", "people", "-o", str(report)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the run failed")
    record = json.loads(report.with_name(f"{report.name}.run.json").read_text())
    scale = 1024 if sys.platform == "linux" else 1024**2
    return record, round(usage.ru_maxrss / scale, 1)


if __name__ == "__main__":
    main()
