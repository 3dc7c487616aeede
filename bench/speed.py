"""How near the command comes to what the cores could do if they did nothing but its stages.

A virtual machine's neighbours change every rate by a third, and not for long enough to be seen.
So all that is compared is measured in rounds, one after the other in each, and ratios are taken
inside a round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.command import label
from bench.cores import on_each_core, rate
from bench.figure import Figure
from bench.machine import usable_cores
from bench.sets import PhotoSet
from bench.stages import STAGES, Pass
from bench.turns import take_turns

PASSES = 3
CPU = ("--provider", "cpu")
DEFAULT = "default"
# Ways to measure besides the settings: the stages on one core, and on each core at once.
ALONE, TOGETHER = "stages alone", "stages together"


@dataclass(frozen=True)
class Setting:
    """A way to call the command; ``workers`` are those that it then has."""

    name: str
    workers: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class Reached:
    """What the command reaches with a setting, start-up included.

    ``rate``: photos a second. ``of_floor``: its share of the rate of as many cores that do nothing
    but the stages, if cores were independent; ``of_machine``: of what processes that share
    nothing reach on this machine. ``to_one_worker``: its ratio to the rate with one worker.
    """

    setting: str
    rate: Figure
    of_floor: Figure
    of_machine: Figure
    to_one_worker: Figure


@dataclass(frozen=True)
class Speed:
    """What was measured on one set of photos.

    ``stages_ms``: milliseconds a photo on one core. ``one_core``: photos a second of all stages
    on one core; ``floor``: that of all cores, if they were independent; ``scaling``: how many
    cores they are worth, by processes that share nothing.
    """

    photos: str
    count: int
    mean_bytes: int
    stages_ms: dict[str, Figure]
    sum_ms: Figure
    one_core: Figure
    floor: Figure
    scaling: Figure
    reached: list[Reached]


@dataclass(frozen=True)
class _Round:
    """One round's stages, rate of one core, cores' worth, and rates by setting."""

    stages: Pass
    one_core: float
    scaling: float
    rates: dict[str, float]


def measure_speed(photos: PhotoSet, sample: int, rounds: int) -> Speed:
    """Measure stages on ``sample`` photos out of all of them, and the command on all."""
    cores = usable_cores()
    chosen = settings(len(cores))
    paths = photos.spread(sample)
    ways: dict[str, Callable[[int], Any]] = {
        # Another core each time.
        ALONE: lambda number: on_each_core(paths, [cores[number % len(cores)]], PASSES),
        TOGETHER: lambda _: on_each_core(paths, cores, PASSES),
        **{setting.name: partial(_command_rate, photos, setting) for setting in chosen},
    }
    if len(cores) == 1:
        del ways[TOGETHER]
    found = take_turns(ways, rounds)
    done = [_round({name: values[n] for name, values in found.items()}) for n in range(rounds)]
    return Speed(
        photos=photos.name,
        count=photos.count,
        mean_bytes=photos.mean_bytes,
        stages_ms={s: Figure.of(1000 * r.stages[s] for r in done) for s in STAGES},
        sum_ms=Figure.of(1000 / r.one_core for r in done),
        one_core=Figure.of(r.one_core for r in done),
        floor=Figure.of(len(cores) * r.one_core for r in done),
        scaling=Figure.of(r.scaling for r in done),
        reached=[_reached(setting, done, len(cores)) for setting in chosen],
    )


def settings(cores: int) -> list[Setting]:
    """Choose the settings to compare: 1, 2, 4, ... workers up to the cores, and the default."""
    workers = [2**n for n in range(cores.bit_length()) if 2**n < cores] + [cores]
    numbered = [Setting(_named(n), n, (*CPU, "--workers", str(n))) for n in workers]
    return [*numbered, Setting(DEFAULT, cores, ())]


def _command_rate(photos: PhotoSet, setting: Setting, _: int) -> float:
    run = label(photos.folders(), *setting.options, expected=photos.count)
    return photos.count / run.seconds


def _round(found: dict[str, Any]) -> _Round:
    (alone,) = found.pop(ALONE)
    together = found.pop(TOGETHER, [alone])
    return _Round(
        stages={s: Figure.of(once[s] for once in alone).median for s in STAGES},
        one_core=rate(alone),
        scaling=sum(map(rate, together)) / rate(alone),
        rates=found,
    )


def _reached(setting: Setting, done: list[_Round], cores: int) -> Reached:
    name, first = setting.name, _named(1)
    return Reached(
        setting=name,
        rate=Figure.of(r.rates[name] for r in done),
        of_floor=Figure.of(r.rates[name] / (r.one_core * setting.workers) for r in done),
        of_machine=Figure.of(
            r.rates[name] / (r.one_core * _worth(setting.workers, cores, r.scaling)) for r in done
        ),
        to_one_worker=Figure.of(r.rates[name] / r.rates[first] for r in done),
    )


def _worth(workers: int, cores: int, scaling: float) -> float:
    """How many independent cores some workers are worth, between one and all of them."""
    if cores == 1:
        return 1.0
    return 1 + (scaling - 1) * (workers - 1) / (cores - 1)


def _named(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")
