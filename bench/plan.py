"""How much is measured: enough for figures that hold, or just enough to see that all works."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.camera import Camera
from bench.sets import Kind


@dataclass(frozen=True)
class Lot:
    """A set of photos and what of it is measured.

    The stages go over ``sample`` photos, the command over the first ``measured``, and
    for its memory over as many as each of ``growth``.
    """

    kind: Kind
    sample: int
    measured: int
    growth: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often.

    The peer labels ``peer_pictures`` different photos of the first lot, the command that many
    ``peer_copies`` times; ``nights`` and ``drivers`` are numbers of files.
    """

    rounds: int
    repeats: int
    lots: tuple[Lot, ...]
    peer_pictures: int
    peer_copies: int
    nights: tuple[int, ...]
    drivers: tuple[int, ...] = ()


# As a camera's JPEGs weigh: 2 to 4 MB at 12 million pixels, and as much a pixel at others.
MP_2 = Camera(side=1414, least=330_000, most=670_000)
MP_12 = Camera(side=3464, least=2_000_000, most=4_000_000)
MP_24 = Camera(side=4899, least=4_000_000, most=8_000_000)
NO_FACE = "without a face"  # so that the detail of large ones is looked into

FULL = Plan(
    rounds=3,
    repeats=5,
    lots=(
        Lot(
            Kind("as they are", count=3_600, bases=900),
            sample=300,
            measured=3_600,
            growth=(300, 1_200),
        ),
        Lot(Kind("2 MP", count=200, bases=30, camera=MP_2), sample=40, measured=200),
        Lot(
            Kind("12 MP", count=1_200, bases=10, camera=MP_12),
            sample=20,
            measured=120,
            growth=(300, 1_200),
        ),
        Lot(Kind("24 MP", count=60, bases=5, camera=MP_24), sample=10, measured=60),
        *(
            Lot(
                Kind(f"{name} {NO_FACE}", 60, 5, replace(camera, shuffled=True)),
                sample=10,
                measured=60,
            )
            for name, camera in (("2 MP", MP_2), ("12 MP", MP_12), ("24 MP", MP_24))
        ),
    ),
    peer_pictures=600,
    peer_copies=2,
    nights=(1_000, 100_000),
    drivers=(100_000, 1_000_000),
)
QUICK = Plan(
    rounds=1,
    repeats=1,
    lots=(
        Lot(Kind("as they are", count=60, bases=60), sample=20, measured=60),
        Lot(Kind("2 MP", count=20, bases=4, camera=MP_2), sample=8, measured=20),
        Lot(Kind("12 MP", count=40, bases=2, camera=MP_12), sample=4, measured=20, growth=(20, 40)),
        Lot(Kind(f"12 MP {NO_FACE}", 20, 2, replace(MP_12, shuffled=True)), sample=4, measured=20),
    ),
    peer_pictures=20,
    peer_copies=3,
    nights=(1_000,),
    drivers=(1_000,),
)
