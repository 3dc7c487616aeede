"""Sizes of a benchmark: full, large, or a quick test of the benchmark itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.growth import GrowthSizes
from bench.sets import Camera, SetSpec
from bench.training import TrainingSizes


@dataclass(frozen=True)
class Lot:
    """A photo set and the numbers of its photos that are measured.

    Attributes:
        spec: the photo set.
        sample: photos for the times of the stages.
        measured: photos for the speed of the command.
        memory: numbers of photos for the memory of the command.
        against: photos for the comparison with another checkout; 0 for no comparison.
    """

    spec: SetSpec
    sample: int
    measured: int
    memory: tuple[int, ...] = ()
    against: int = 0


@dataclass(frozen=True)
class BenchPlan:
    """Sizes and repetitions of all measurements.

    Attributes:
        rounds: rounds of most measurements.
        repeats: rounds of the waiting times.
        lots: the photo sets.
        peer_pictures: different photos of the first lot that other programs label.
        peer_copies: how often each of these is repeated for the command.
        judged: photos of each labelled set for accuracy.
        unchanged: numbers of files for runs without changes.
        clustered: photos that are labelled on Ray.
        drivers: numbers of files for simulated runs on Ray.
        growth: sizes of the measurements by size.
        first_runs: the photos of the first runs by size.
        training: sizes of the trainings.
    """

    rounds: int
    repeats: int
    lots: tuple[Lot, ...]
    peer_pictures: int
    peer_copies: int
    judged: int
    unchanged: tuple[int, ...]
    clustered: int
    drivers: tuple[int, ...]
    growth: GrowthSizes
    first_runs: SetSpec
    training: TrainingSizes


# File sizes of a camera's JPEGs: 2 to 4 MB for 12 million pixels, in proportion for others.
MP_2 = Camera(side=1414, least=330_000, most=670_000)
MP_12 = Camera(side=3464, least=2_000_000, most=4_000_000)
NO_FACE = "without a face"  # which makes the detector search large photos in detail
FIRST_RUNS = SetSpec("first runs", count=10_000, bases=900)

FULL = BenchPlan(
    rounds=3,
    repeats=5,
    lots=(
        Lot(
            SetSpec("as they are", count=4_800, bases=900),
            sample=300,
            measured=4_800,
            memory=(300, 1_200),
            against=1_200,
        ),
        # Enough photos that start-up is a small part of the run.
        Lot(
            SetSpec("2 MP", count=800, bases=30, camera=MP_2), sample=40, measured=800, against=200
        ),
        Lot(
            SetSpec("12 MP", count=1_200, bases=10, camera=MP_12),
            sample=20,
            measured=300,
            memory=(300, 1_200),
            against=60,
        ),
        Lot(
            SetSpec(f"12 MP {NO_FACE}", 60, 5, replace(MP_12, shuffled=True)),
            sample=10,
            measured=60,
        ),
    ),
    peer_pictures=200,
    peer_copies=6,
    judged=400,
    unchanged=(1_000, 100_000),
    clustered=1_200,
    drivers=(100_000,),
    growth=GrowthSizes(
        photos=(1_000, 10_000),
        rounds=2,
        rows=(10_000, 30_000, 100_000),
        workers=16,
        one_folder=(1_000, 100_000, 300_000),
        nested=(30_000,),
    ),
    first_runs=FIRST_RUNS,
    training=TrainingSizes(photos=100, epochs=3),
)
# The largest sizes take most of an hour.
LARGE = replace(
    FULL,
    drivers=(100_000, 1_000_000),
    growth=replace(
        FULL.growth,
        photos=(1_000, 10_000, 100_000),
        rounds=1,
        rows=(10_000, 100_000, 1_000_000),
    ),
    first_runs=replace(FIRST_RUNS, count=100_000),
)
QUICK = BenchPlan(
    rounds=1,
    repeats=1,
    lots=(
        Lot(SetSpec("as they are", count=60, bases=60), sample=20, measured=60, against=20),
        Lot(SetSpec("2 MP", count=20, bases=4, camera=MP_2), sample=8, measured=20, against=20),
        Lot(SetSpec("12 MP", count=20, bases=1, camera=MP_12), sample=4, measured=20, memory=(20,)),
    ),
    peer_pictures=20,
    peer_copies=3,
    judged=10,
    unchanged=(1_000,),
    clustered=20,
    drivers=(1_000,),
    growth=GrowthSizes(
        photos=(20, 40), rounds=1, rows=(100,), workers=2, one_folder=(100,), nested=(100,)
    ),
    first_runs=SetSpec("first runs", count=40, bases=40),
    training=TrainingSizes(photos=40, epochs=1),
)
