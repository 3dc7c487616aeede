"""Memory and speed of the main process of a run on Ray, with simulated actors.

Only the main process is real: the files do not exist, and the actors return rows without reading
anything. ``python -m bench.driver 1000000`` prints the figures for a million files as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from batch.engines.local import LocalEngine
from batch.engines.ray import actors
from batch.engines.ray.actors import LabelActor
from batch.engines.ray.exchange import Block
from batch.engines.ray.ray_engine import RayEngine
from batch.found import FoundFile
from batch.journal.missing import InputCoverage
from batch.labelling import LabellingRun, Terminal
from batch.log import LogFormat, open_log
from batch.options import ClusterOptions, EngineKind, Job, Options, Provider
from batch.progress import NoProgress
from batch.recording.recorder import Recorder
from batch.records import Answer, Box, FileState, FinishedFile, Row, Source, Status
from batch.stopping import Stop
from bench.command import CommandError
from bench.memory import read_kibibytes

SAMPLE_SECONDS = 0.2
BOX = Box(101.25, 57.75, 143.5, 143.5, 0.9172636270523071)


@dataclass(frozen=True)
class DriverRun:
    """Memory and time of the main process of a run on Ray.

    Memory is the proportional set size, in which memory shared with Ray's object store counts in
    part.

    Attributes:
        files: the number of files.
        before: memory before labelling, in MiB.
        peak: peak memory until the report was published, in MiB.
        seconds: time from discovery to the published report.
        journal_bytes: size of the journal, in bytes.
    """

    files: int
    before: float
    peak: float
    seconds: float
    journal_bytes: int


class SyntheticActor(LabelActor):
    """An actor that returns the same row for every file."""

    def _label_files(self, engine: LocalEngine, block: Block) -> Iterator[FinishedFile]:
        answer = Answer(Status.OK, "happy", 0.8731, {"happy": 0.8731, "sad": 0.1269}, BOX)
        for number, file in enumerate(block):
            state = FileState(20_000, number, os.urandom(32))
            row = Row(file, Status.OK, answer, Source.FACE, (answer,), 350, 350)
            yield FinishedFile(row, state)


def measure_driver(files: int) -> DriverRun:
    """Measure a run in a process of its own.

    Raises:
        CommandError: the run failed.
    """
    command = [sys.executable, "-m", "bench.driver", str(files)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise CommandError(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr}")
    return DriverRun(**json.loads(ran.stdout))


def _simulate_files(number: int) -> Iterator[FoundFile]:
    for file in range(number):
        yield FoundFile(
            f"s3://photos/{file // 1000:06}/{file:09}.jpg", 20_000, file, etag=f"{file:032x}"
        )


def _measure_run(files: int, folder: Path) -> DriverRun:
    vars(actors)["LabelActor"] = SyntheticActor
    log = open_log(sys.stderr, LogFormat.TEXT, quiet=True)
    job = Job(
        (),
        str(folder / "r.csv"),
        options=Options(provider=Provider.CPU),
        cluster=ClusterOptions(EngineKind.RAY, actors=1),
    )
    stop, recorder = Stop(), Recorder(job, log)
    samples, ended = [], threading.Event()

    def read_own_mebibytes() -> float:
        return read_kibibytes(os.getpid(), "smaps_rollup", "Pss") / 1024

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            samples.append(read_own_mebibytes())

    ray = RayEngine(job, stop, log)
    before = read_own_mebibytes()
    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    terminal = Terminal(sys.stdin.buffer, sys.stdout.buffer, log, NoProgress())
    try:
        files_found = InputCoverage(_simulate_files(files), ())
        LabellingRun(job, terminal, stop, recorder, ray, files_found).run(files_found)
    finally:
        ended.set()
        watcher.join()
    seconds = time.perf_counter() - started
    journal = (folder / ".r.csv.journal").stat().st_size
    return DriverRun(files, before, max(samples), seconds, journal)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(asdict(_measure_run(int(sys.argv[1]), Path(place)))))
