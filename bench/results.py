"""All that one run of the benchmark measures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from batch.recording.run_record import find_versions
from bench.against import CheckoutComparison, measure_against
from bench.cluster import EngineComparison, measure_cluster
from bench.driver import DriverRun, measure_driver
from bench.footprint import Footprint, measure_footprint
from bench.growth import Growth, measure_growth
from bench.machine import Machine, describe_machine
from bench.peers import Peer, measure_peers
from bench.plan import BenchPlan, Lot
from bench.sets import PhotoSet, make_set
from bench.speed import Speed, measure_speed
from bench.unchanged import UnchangedRuns, measure_unchanged
from bench.waits import WaitTimes, measure_waits


class Measurement(StrEnum):
    """What can be measured by itself."""

    SPEED = "speed"
    WAITS = "waits"
    PEERS = "peers"
    AGAINST = "against"
    MEMORY = "memory"
    UNCHANGED = "unchanged"
    GROWTH = "growth"
    RAY = "ray"


# Measured on the photos of one lot or of several.
PHOTO_MEASUREMENTS = {
    Measurement.SPEED,
    Measurement.WAITS,
    Measurement.PEERS,
    Measurement.AGAINST,
    Measurement.MEMORY,
    Measurement.RAY,
}


@dataclass
class Results:
    """What was measured; a part that was not asked for, or could not be had, is empty."""

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


@dataclass(frozen=True)
class Benchmark:
    """A benchmark on the photos of a zip file.

    Attributes:
        plan: how much is measured.
        source: the zip file.
        home: where sets of photos are made.
        peer: the Python that has the other programs.
        tell: takes lines for people.
        labelled: folders or zip files of labelled photos, to judge answers by.
        checkout: another checkout of the project to compare with; None for none.
    """

    plan: BenchPlan
    source: Path
    home: Path
    peer: Path
    tell: Callable[[str], None]
    labelled: tuple[Path, ...] = ()
    checkout: Path | None = None

    def measure(self, parts: Collection[Measurement]) -> Results:
        """Measure some parts.

        Raises:
            SetError, CameraError: there are no photos to measure on.
            CommandError: the command or another program failed.
        """
        results = Results()
        sets = self._sets(parts)
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
            results.peers = self._peers(sets[0][0])
        if Measurement.AGAINST in parts:
            results.against = self._against(sets)
        if Measurement.UNCHANGED in parts:
            for files in self.plan.unchanged:
                self.tell(f"runs without changes: {files:,} files")
                results.unchanged.append(measure_unchanged(files, self.plan.rounds))
        if Measurement.GROWTH in parts:
            self.tell(f"photos: {self.plan.first_runs.count:,} {self.plan.first_runs.name}")
            photos = make_set(self.plan.first_runs, self.source, self.home)
            results.growth = measure_growth(photos, self.plan.growth, self.tell)
        if Measurement.RAY in parts:
            self._ray(sets[0][0], results)
        return results

    def _sets(self, parts: Collection[Measurement]) -> list[tuple[PhotoSet, Lot]]:
        """Make the sets that the parts need; the first lot serves most of them."""
        sets = []
        for lot in self.plan.lots if PHOTO_MEASUREMENTS & set(parts) else ():
            needed = (
                lot is self.plan.lots[0]
                or Measurement.SPEED in parts
                or (Measurement.MEMORY in parts and lot.memory)
                or (Measurement.AGAINST in parts and self.checkout and lot.against)
            )
            if needed:
                self.tell(f"photos: {lot.kind.count:,} {lot.kind.name}")
                sets.append((make_set(lot.kind, self.source, self.home), lot))
        return sets

    def _ray(self, photos: PhotoSet, results: Results) -> None:
        if find_spec("ray") is None:
            self.tell("ray is left out: it is not installed (pip install 'batch-label[ray]')")
            return
        self.tell("ray: as many actors as workers")
        measured = photos.first(self.plan.clustered)
        workers = results.machine.cores
        results.clustered = [measure_cluster(measured, workers, self.plan.rounds)]
        for files in self.plan.drivers:
            self.tell(f"ray: the run itself over {files:,} files")
            results.drivers.append(measure_driver(files))

    def _peers(self, photos: PhotoSet) -> list[Peer]:
        plan, python = self.plan, self.peer if self.peer.is_file() else None
        if python is None:
            self.tell(f"fer and facex are left out: there is no {self.peer} (make bench-peers)")
        if not self.labelled:
            self.tell("answers are left out: no labelled photos are named (--labelled)")
        self.tell("peers")
        ours = photos.first(plan.peer_pictures * plan.peer_copies)
        return measure_peers(
            python, ours, plan.peer_pictures, plan.rounds, self.labelled, plan.judged
        )

    def _against(self, sets: list[tuple[PhotoSet, Lot]]) -> list[CheckoutComparison]:
        if self.checkout is None:
            self.tell("another checkout is left out: none is named (--against)")
            return []
        self.tell(f"against {self.checkout}")
        chosen = [photos.first(lot.against) for photos, lot in sets if lot.against]
        return measure_against(self.checkout, chosen, self.plan.rounds)
