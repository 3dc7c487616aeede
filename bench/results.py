"""All that one run of the benchmark measures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from batch.recording.host import installed_versions
from bench.cluster import Clustered, measure_cluster
from bench.containment import Containment, measure_containment
from bench.driver import Driver, measure_driver
from bench.growth import Growth, measure_growth
from bench.machine import Machine, this_machine
from bench.night import Night, measure_night
from bench.peers import Peer, measure_peer
from bench.plan import Lot, Plan
from bench.sets import PhotoSet, make_set
from bench.speed import Speed, measure_speed
from bench.waits import Waits, measure_waits


class Part(StrEnum):
    """What can be measured by itself."""

    SPEED = "speed"
    WAITS = "waits"
    PEER = "peer"
    GROWTH = "growth"
    NIGHT = "night"
    CONTAINMENT = "containment"
    RAY = "ray"


@dataclass
class Results:
    """What was measured; a part that was not asked for, or could not be had, is empty."""

    machine: Machine = field(default_factory=this_machine)
    versions: dict[str, str | None] = field(default_factory=installed_versions)
    date: str = field(default_factory=lambda: f"{datetime.now().astimezone():%Y-%m-%d}")
    speed: list[Speed] = field(default_factory=list)
    waits: Waits | None = None
    peer: Peer | None = None
    growth: list[Growth] = field(default_factory=list)
    night: list[Night] = field(default_factory=list)
    containment: list[Containment] = field(default_factory=list)
    clustered: list[Clustered] = field(default_factory=list)
    drivers: list[Driver] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """A benchmark on the photos of a zip file.

    ``home`` is where sets of photos are made, ``peer`` the Python that has fer; ``tell`` takes
    lines for people.
    """

    plan: Plan
    source: Path
    home: Path
    peer: Path
    tell: Callable[[str], None]

    def measure(self, parts: Collection[Part]) -> Results:
        """Measure some parts.

        Raises:
            SetError, CameraError: there are no photos to measure on.
            CommandError: the command or the peer failed.
        """
        results = Results()
        sets = self._sets(parts)
        for photos, lot in sets:
            if Part.SPEED in parts:
                self.tell(f"speed: {photos.name}")
                measured = photos.first(lot.measured)
                results.speed.append(measure_speed(measured, lot.sample, self.plan.rounds))
            if Part.CONTAINMENT in parts:
                self.tell(f"containment: {photos.name}")
                cost = measure_containment(photos, lot.sample, self.plan.rounds)
                results.containment.append(cost)
            if Part.GROWTH in parts and lot.growth:
                self.tell(f"memory: {photos.name}")
                results.growth += measure_growth(photos, lot.growth)
        if Part.WAITS in parts:
            self.tell("waits")
            results.waits = measure_waits(sets[0][0], self.plan.repeats)
        if Part.PEER in parts:
            results.peer = self._peer(sets[0][0])
        if Part.NIGHT in parts:
            self.tell("nights without changes")
            results.night = [measure_night(files) for files in self.plan.nights]
        if Part.RAY in parts:
            self._ray(sets[0], results)
        return results

    def _sets(self, parts: Collection[Part]) -> list[tuple[PhotoSet, Lot]]:
        """Make the sets that the parts need; the first lot is for all but the nights."""
        sets = []
        for lot in self.plan.lots if set(parts) - {Part.NIGHT} else ():
            first = lot is self.plan.lots[0]
            everywhere = {Part.SPEED, Part.CONTAINMENT} & set(parts)
            if first or everywhere or (Part.GROWTH in parts and lot.growth):
                self.tell(f"photos: {lot.kind.count:,} {lot.kind.name}")
                sets.append((make_set(lot.kind, self.source, self.home), lot))
        return sets

    def _ray(self, first: tuple[PhotoSet, Lot], results: Results) -> None:
        if find_spec("ray") is None:
            self.tell("ray is left out: it is not installed (pip install 'batch-label[ray]')")
            return
        photos, lot = first
        self.tell("ray: as many actors as workers")
        measured = photos.first(lot.measured)
        workers = results.machine.cores
        results.clustered = [measure_cluster(measured, workers, self.plan.rounds)]
        for files in self.plan.drivers:
            self.tell(f"ray: the run itself over {files:,} files")
            results.drivers.append(measure_driver(files))

    def _peer(self, photos: PhotoSet) -> Peer | None:
        if not self.peer.is_file():
            self.tell(f"fer is left out: there is no {self.peer} (make bench-peers)")
            return None
        self.tell("peer: fer")
        pictures = self.plan.peer_pictures
        ours = photos.first(pictures * self.plan.peer_copies)
        return measure_peer(self.peer, ours, pictures, self.plan.rounds)
