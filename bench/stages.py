"""The stages of a photo, each timed alone: the only module here that knows how they are called."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from batch.answer import labelled_row
from batch.decode import decode_bytes, read_with_state
from batch.ensemble import Ensemble
from batch.faces import Detector
from batch.options import DEFAULT_MODEL, Options, Provider
from batch.records import Failure, Photo, Row, Views
from batch.report import open_report

READ, DECODE, DETECT, CROP, CLASSIFY, WRITE = "read decode detect crop classify write".split()
STAGES = (READ, DECODE, DETECT, CROP, CLASSIFY, WRITE)

# Seconds a photo, by stage.
Pass = dict[str, float]


class Stages:
    """Opened models and a detector, through which photos go on one thread, stage by stage."""

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        options = Options(model=model, provider=Provider.CPU)
        self._ensemble = Ensemble(options)
        self._detector = Detector(Provider.CPU)
        self._batch_size = options.batch_size

    def once(self, paths: Sequence[Path]) -> Pass:
        """Take all photos through all stages once.

        A photo is read, decoded and cropped before the next one is, and classified in batches, as
        the command does, so that memory and caches are used as they are there.
        """
        clock = _Clock()
        views = [self._views(path, clock) for path in paths]
        rows: list[Row] = []
        for at in range(0, len(views), self._batch_size):
            rows += self._rows(views[at : at + self._batch_size], clock)
        self._write(rows, clock)
        return {stage: clock.seconds[stage] / len(paths) for stage in STAGES}

    def _views(self, path: Path, clock: _Clock) -> Views:
        with clock.of(READ):
            read = read_with_state(path)
        assert not isinstance(read, Failure), read
        with clock.of(DECODE):
            photo = decode_bytes(path, read[0])
        assert isinstance(photo, Photo), photo
        with clock.of(DETECT):
            boxes = self._detector.detect(photo)
        with clock.of(CROP):
            return self._ensemble.views(photo, boxes)

    def _rows(self, views: list[Views], clock: _Clock) -> list[Row]:
        with clock.of(CLASSIFY):
            evidence = self._ensemble.ask(views)
            return [
                labelled_row(view, seen, self._ensemble)
                for view, seen in zip(views, evidence, strict=True)
            ]

    def _write(self, rows: list[Row], clock: _Clock) -> None:
        with tempfile.TemporaryDirectory() as folder, clock.of(WRITE):
            output = str(Path(folder) / "r.csv")
            with open_report(output, self._ensemble.labels, False, sys.stdout.buffer) as report:
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
