"""How near the command comes to what the cores could do if they did nothing but its stages.

    python bench/throughput.py --photos photos.zip [--json FILE] [--count N]

Takes photos out of a zip file, makes larger copies of some, and measures, side by side in one run:
each stage alone on one core; from these the floor, which is the cores over the sum of the stages;
and the whole command with 1, 2, ... workers, start-up included. Rates are photos a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from batch.answer import labelled_row
from batch.cores import available_cores
from batch.decode import decode_bytes, read_with_state
from batch.ensemble import Ensemble
from batch.faces import Detector
from batch.host import installed_versions
from batch.options import Options, Provider
from batch.records import Failure, Finished, Photo, Views
from batch.report import open_report
from batch.timings import CLASSIFY, DECODE, FACES, READ, REPORT, Timings

# Name, side in pixels (None: as they are), JPEG quality, and how many of the photos.
SETS = (("as they are", None, 0, 1.0), ("2 MP", 1414, 88, 0.3), ("12 MP", 3464, 88, 0.1))
RUNS = 2


def main() -> None:
    """Measure, print a table, and write JSON where that is asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--photos", type=Path, required=True, help="a zip file with JPEGs")
    asked.add_argument("--count", type=int, default=300, help="photos of the first set")
    asked.add_argument("--json", type=Path, help="also as JSON")
    given = asked.parse_args()
    results: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {available_cores()} cores",
        "versions": installed_versions(),
        "sets": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, side, quality, share in SETS:
            photos = Path(folder) / name
            make(photos, given.photos, max(8, int(given.count * share)), side, quality)
            results["sets"].append({"set": name} | measure(photos))
            print(table(results["sets"][-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


def make(folder: Path, source: Path, count: int, side: int | None, quality: int) -> None:
    """Unpack JPEGs, or copies of them that are ``side`` pixels wide and high."""
    folder.mkdir()
    with zipfile.ZipFile(source) as pack:
        names = [name for name in pack.namelist() if name.lower().endswith((".jpg", ".jpeg"))]
        for n, name in enumerate(names[:count]):
            data = pack.read(name)
            if side is not None:
                with Image.open(BytesIO(data)) as image:
                    enlarged = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
                with BytesIO() as stream:
                    enlarged.save(stream, "JPEG", quality=quality)
                    data = stream.getvalue()
            (folder / f"{n:05}.jpg").write_bytes(data)


def measure(folder: Path) -> dict[str, Any]:
    """Measure stages and command on one folder; times in milliseconds a photo, memory in MiB."""
    paths = sorted(folder.iterdir())
    stages = best(lambda: one_core(paths))
    cores = available_cores()
    floor = cores * 1000 / sum(stages.values())
    commands = [command(folder, len(paths), workers) for workers in range(1, cores + 1)]
    for run in commands:
        run["of_floor"] = run["rate"] / (floor * min(run["workers"], cores) / cores)
    return {
        "photos": len(paths),
        "mean_bytes": sum(path.stat().st_size for path in paths) // len(paths),
        "stages_ms": stages,
        "floor": floor,
        "command": commands,
    }


def one_core(paths: list[Path]) -> dict[str, float]:
    """Take all photos through one stage after the other, on one thread."""
    ensemble = Ensemble(Options(provider=Provider.CPU))
    detector = Detector(Provider.CPU)
    timings = Timings()
    views: list[Views] = []
    for path in paths:
        with timings.of(READ):
            read = read_with_state(path)
        assert not isinstance(read, Failure)
        with timings.of(DECODE):
            photo = decode_bytes(path, read[0])
        assert isinstance(photo, Photo)
        with timings.of(FACES):
            boxes = detector.detect(photo)
        with timings.of("crop"):
            views.append(ensemble.views(photo, boxes))
    with timings.of(CLASSIFY):
        finished = list(answered(ensemble, views))
    with timings.of(REPORT):
        write(finished, ensemble.labels)
    spent = timings.seconds()
    return {stage: seconds * 1000 / len(paths) for stage, seconds in spent.items()}


def answered(ensemble: Ensemble, views: list[Views]) -> Iterator[Finished]:
    """Classify views in batches, as the command does."""
    for at in range(0, len(views), 32):
        batch = views[at : at + 32]
        for view, evidence in zip(batch, ensemble.ask(batch), strict=True):
            yield Finished(labelled_row(view, evidence, ensemble))


def write(finished: list[Finished], labels: tuple[str, ...]) -> None:
    """Write a report of the rows."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "r.csv")
        with open_report(output, labels, False, sys.stdout.buffer) as report:
            for item in finished:
                report.add(item.row)
            report.publish()


def best(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Take the least time of each stage, for what disturbs a machine only ever adds."""
    runs = [work() for _ in range(RUNS)]
    return {stage: min(run[stage] for run in runs) for stage in runs[0]}


def command(folder: Path, count: int, workers: int) -> dict[str, float]:
    """Run the command; the best rate of some runs, its peak memory and its start-up."""
    rates, memory, start_up = [], 0.0, float("inf")
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as place:
            report = Path(place) / "r.csv"
            started = time.perf_counter()
            arguments = [str(folder), "-o", str(report), "-q", "--provider", "cpu"]
            process = subprocess.Popen(
                [sys.executable, "-m", "batch", *arguments, "--workers", str(workers)],
                stderr=subprocess.DEVNULL,
            )
            _, _, usage = os.wait4(process.pid, 0)
            passed = time.perf_counter() - started
            record = json.loads(report.with_name("r.csv.run.json").read_text())
        rates.append(count / passed)
        memory = max(memory, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2))
        start_up = min(start_up, passed - record["seconds"]["wall"])
    return {
        "workers": workers,
        "rate": max(rates),
        "peak_mib": round(memory, 1),
        "start_up_s": round(start_up, 3),
    }


def table(result: dict[str, Any]) -> str:
    """Lay a set's figures out for people."""
    stages = ", ".join(f"{stage} {ms:.2f}" for stage, ms in result["stages_ms"].items())
    lines = [
        f"{result['set']}: {result['photos']} photos of {result['mean_bytes']:,} bytes",
        f"  one core, ms a photo: {stages}; sum {sum(result['stages_ms'].values()):.2f}",
        f"  floor: {result['floor']:.1f} photos/s",
    ]
    lines += [
        f"  {run['workers']} workers: {run['rate']:.1f} photos/s, {run['of_floor']:.0%} of their "
        f"floor; peak {run['peak_mib']} MiB, start-up {run['start_up_s']} s"
        for run in result["command"]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
