"""The stages of a photo, each timed alone: the only module here that knows how they are called."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batch import timings
from batch.models.ensemble import LabellingPlan, load_ensemble
from batch.options import DEFAULT_MODEL, Device, Options, Provider
from batch.records import Failure, Photo, Row
from batch.reports.report import open_report
from batch.vision.decode import decode_bytes
from batch.vision.labeller import Labeller
from batch.vision.read_file import read_file_with_state
from batch.vision.yunet_graph import build_detector_graph

READ, DECODE, DETECT, CROP, CLASSIFY, WRITE = "read decode detect crop classify write".split()
STAGES = (READ, DECODE, DETECT, CROP, CLASSIFY, WRITE)

# Seconds a photo, by stage.
StageSeconds = dict[str, float]


class Stages:
    """Models through which photos go on one thread, as a worker of the command takes them."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        options = Options(model=model)
        ensemble = load_ensemble(options)
        plan = LabellingPlan(ensemble, build_detector_graph(), options.batch_size)
        self._labels = ensemble.labels
        self._labeller = Labeller(plan, Device(Provider.CPU))

    def measure_once(self, paths: Sequence[Path]) -> StageSeconds:
        """Take all photos through all stages once, one photo after the other."""
        clock = _Clock()
        before = self._labeller.timings.seconds()
        rows = [self._row(path, clock) for path in paths]
        after = self._labeller.timings.seconds()
        for stage, name in (
            (DECODE, timings.DECODE),
            (DETECT, timings.FACES),
            (CROP, timings.CROP),
        ):
            spent = after.get(name, 0.0) - before.get(name, 0.0)
            clock.seconds[stage] += spent
            # What a worker does besides is to ask the models and to make a row of the answers.
            clock.seconds[CLASSIFY] -= spent
        self._write(rows, clock)
        return {stage: clock.seconds[stage] / len(paths) for stage in STAGES}

    def _row(self, path: Path, clock: _Clock) -> Row:
        with clock.of(READ):
            read = read_file_with_state(path)
        assert not isinstance(read, Failure), read
        with clock.of(DECODE):
            photo = decode_bytes(path, read[0])
        assert isinstance(photo, Photo), photo
        with clock.of(CLASSIFY):
            return self._labeller.label(photo)

    def _write(self, rows: list[Row], clock: _Clock) -> None:
        with tempfile.TemporaryDirectory() as folder, clock.of(WRITE):
            output = str(Path(folder) / "r.csv")
            with open_report(output, self._labels, False, sys.stdout.buffer) as report:
                for row in rows:
                    report.add(row)
                report.publish()


class _Clock:
    """Sums up seconds by stage, finer than the run record's milliseconds."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started
