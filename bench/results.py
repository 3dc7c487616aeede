"""A whole run of the benchmark, and its results."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from batch.recording.run_record import find_versions
from bench.comparisons import (
    CheckoutComparison,
    EngineComparison,
    compare_checkouts,
    compare_engines,
)
from bench.driver import DriverRun, measure_driver
from bench.growth import Footprint, Growth, measure_footprint, measure_growth
from bench.machine import Machine, describe_machine
from bench.peers import Peer, measure_peers
from bench.plan import BenchPlan, Lot
from bench.sets import PhotoSet, make_set
from bench.speed import Speed, measure_speed
from bench.training import TrainingSpeed, measure_training
from bench.unchanged import UnchangedRuns, measure_unchanged
from bench.waits import WaitTimes, measure_waits


class Measurement(StrEnum):
    """Parts of the benchmark that can be run separately."""

    SPEED = "speed"
    WAITS = "waits"
    PEERS = "peers"
    AGAINST = "against"
    MEMORY = "memory"
    UNCHANGED = "unchanged"
    GROWTH = "growth"
    RAY = "ray"
    TRAINING = "training"


# Parts that need the photos of one or more lots.
PHOTO_MEASUREMENTS = {
    Measurement.SPEED,
    Measurement.WAITS,
    Measurement.PEERS,
    Measurement.AGAINST,
    Measurement.MEMORY,
    Measurement.RAY,
    Measurement.TRAINING,
}


@dataclass
class Results:
    """Results of all parts; a part that was not requested or not possible is empty."""

    machine: Machine = field(default_factory=describe_machine)
    versions: dict[str, str | None] = field(default_factory=find_versions)
    date: str = field(default_factory=lambda: f"{datetime.now().astimezone():%Y-%m-%d}")
    speed: list[Speed] = field(default_factory=list)
    waits: WaitTimes | None = None
    peers: list[Peer] = field(default_factory=list)
    against: list[CheckoutComparison] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    unchanged: list[UnchangedRuns] = field(default_factory=list)
    growth: Growth | None = None
    clustered: list[EngineComparison] = field(default_factory=list)
    drivers: list[DriverRun] = field(default_factory=list)
    training: list[TrainingSpeed] = field(default_factory=list)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on the photos of a zip file.

    Attributes:
        plan: the sizes of the measurements.
        source: the zip file.
        home: the folder of the photo sets.
        peer: a Python that has the other programs installed.
        tell: called with lines of progress.
        labelled: folders or zip files of labelled photos, for accuracy.
        checkout: another checkout of the project to compare with; None for no comparison.
    """

    plan: BenchPlan
    source: Path
    home: Path
    peer: Path
    tell: Callable[[str], None]
    labelled: tuple[Path, ...] = ()
    checkout: Path | None = None

    def measure(self, parts: Collection[Measurement]) -> Results:
        """Run some parts of the benchmark.

        Raises:
            SetError, CameraError: a photo set can't be made.
            CommandError: the command or another program failed.
        """
        results = Results()
        sets = self._make_sets(parts)
        for photos, lot in sets:
            if Measurement.SPEED in parts:
                self.tell(f"speed: {photos.name}")
                measured = photos.first(lot.measured)
                results.speed.append(measure_speed(measured, lot.sample, self.plan.rounds))
            if Measurement.MEMORY in parts and lot.memory:
                self.tell(f"memory: {photos.name}")
                results.footprints += measure_footprint(photos, lot.memory)
        if Measurement.WAITS in parts:
            self.tell("waits")
            results.waits = measure_waits(sets[0][0], self.plan.repeats)
        if Measurement.PEERS in parts:
            results.peers = self._measure_peers(sets[0][0])
        if Measurement.AGAINST in parts:
            results.against = self._measure_against(sets)
        if Measurement.UNCHANGED in parts:
            for files in self.plan.unchanged:
                self.tell(f"runs without changes: {files:,} files")
                results.unchanged.append(measure_unchanged(files, self.plan.rounds))
        if Measurement.GROWTH in parts:
            self.tell(f"photos: {self.plan.first_runs.count:,} {self.plan.first_runs.name}")
            photos = make_set(self.plan.first_runs, self.source, self.home)
            results.growth = measure_growth(photos, self.plan.growth, self.tell)
        if Measurement.RAY in parts:
            self._measure_ray(sets[0][0], results)
        if Measurement.TRAINING in parts:
            self.tell("training")
            results.training = measure_training(sets[0][0], self.plan.training, self.plan.rounds)
        return results

    def _make_sets(self, parts: Collection[Measurement]) -> list[tuple[PhotoSet, Lot]]:
        """Make the photo sets that the parts need; most parts need the first lot only."""
        sets = []
        for lot in self.plan.lots if PHOTO_MEASUREMENTS & set(parts) else ():
            needed = (
                lot is self.plan.lots[0]
                or Measurement.SPEED in parts
                or (Measurement.MEMORY in parts and lot.memory)
                or (Measurement.AGAINST in parts and self.checkout and lot.against)
            )
            if needed:
                self.tell(f"photos: {lot.spec.count:,} {lot.spec.name}")
                sets.append((make_set(lot.spec, self.source, self.home), lot))
        return sets

    def _measure_ray(self, photos: PhotoSet, results: Results) -> None:
        if find_spec("ray") is None:
            self.tell("ray skipped: not installed (pip install 'batch-label[ray]')")
            return
        self.tell("ray: as many actors as workers")
        measured = photos.first(self.plan.clustered)
        workers = results.machine.cores
        results.clustered = [compare_engines(measured, workers, self.plan.rounds)]
        for files in self.plan.drivers:
            self.tell(f"ray: the main process alone over {files:,} files")
            results.drivers.append(measure_driver(files))

    def _measure_peers(self, photos: PhotoSet) -> list[Peer]:
        plan, python = self.plan, self.peer if self.peer.is_file() else None
        if python is None:
            self.tell(f"fer and facex skipped: {self.peer} does not exist (make bench-peers)")
        if not self.labelled:
            self.tell("accuracy skipped: no labelled photos given (--labelled)")
        self.tell("peers")
        ours = photos.first(plan.peer_pictures * plan.peer_copies)
        return measure_peers(
            python, ours, plan.peer_pictures, plan.rounds, self.labelled, plan.judged
        )

    def _measure_against(self, sets: list[tuple[PhotoSet, Lot]]) -> list[CheckoutComparison]:
        if self.checkout is None:
            self.tell("comparison with another checkout skipped: none given (--against)")
            return []
        self.tell(f"against {self.checkout}")
        chosen = [photos.first(lot.against) for photos, lot in sets if lot.against]
        return compare_checkouts(self.checkout, chosen, self.plan.rounds)
