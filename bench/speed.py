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

from bench.command import label_photos
from bench.cores import compute_rate, measure_each_core
from bench.figure import MedianRange
from bench.machine import list_usable_cores
from bench.sets import PhotoSet
from bench.stages import STAGES, StageSeconds
from bench.turns import run_in_turns

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
class SettingResult:
    """What the command reaches with a setting, start-up included.

    ``compute_rate``: photos a second. ``of_floor``: its share of the rate of as many cores that do nothing
    but the stages, if cores were independent; ``of_machine``: of what processes that share
    nothing reach on this machine. ``to_one_worker``: its ratio to the rate with one worker.
    """

    setting: str
    rate: MedianRange
    of_floor: MedianRange
    of_machine: MedianRange
    to_one_worker: MedianRange


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
    stages_ms: dict[str, MedianRange]
    sum_ms: MedianRange
    one_core: MedianRange
    floor: MedianRange
    scaling: MedianRange
    reached: list[SettingResult]


@dataclass(frozen=True)
class _Round:
    """One round's stages, rate of one core, cores' worth, and rates by setting."""

    stages: StageSeconds
    one_core: float
    scaling: float
    rates: dict[str, float]


def measure_speed(photos: PhotoSet, sample: int, rounds: int) -> Speed:
    """Measure stages on ``sample`` photos out of all of them, and the command on all."""
    cores = list_usable_cores()
    chosen = choose_settings(len(cores))
    paths = photos.sample_evenly(sample)
    ways: dict[str, Callable[[int], Any]] = {
        # Another core each time.
        ALONE: lambda number: measure_each_core(paths, [cores[number % len(cores)]], PASSES),
        TOGETHER: lambda _: measure_each_core(paths, cores, PASSES),
        **{setting.name: partial(_command_rate, photos, setting) for setting in chosen},
    }
    if len(cores) == 1:
        del ways[TOGETHER]
    found = run_in_turns(ways, rounds)
    done = [_to_round({name: values[n] for name, values in found.items()}) for n in range(rounds)]
    return Speed(
        photos=photos.name,
        count=photos.count,
        mean_bytes=photos.mean_bytes,
        stages_ms={s: MedianRange.of(1000 * r.stages[s] for r in done) for s in STAGES},
        sum_ms=MedianRange.of(1000 / r.one_core for r in done),
        one_core=MedianRange.of(r.one_core for r in done),
        floor=MedianRange.of(len(cores) * r.one_core for r in done),
        scaling=MedianRange.of(r.scaling for r in done),
        reached=[_to_result(setting, done, len(cores)) for setting in chosen],
    )


def choose_settings(cores: int) -> list[Setting]:
    """Choose the settings to compare: 1, 2, 4, ... workers up to the cores, and the default."""
    workers = [2**n for n in range(cores.bit_length()) if 2**n < cores] + [cores]
    numbered = [Setting(_name_workers(n), n, (*CPU, "--workers", str(n))) for n in workers]
    return [*numbered, Setting(DEFAULT, cores, ())]


def _command_rate(photos: PhotoSet, setting: Setting, _: int) -> float:
    run = label_photos(photos.folders(), *setting.options, expected=photos.count)
    return photos.count / run.seconds


def _to_round(found: dict[str, Any]) -> _Round:
    (alone,) = found.pop(ALONE)
    together = found.pop(TOGETHER, [alone])
    return _Round(
        stages={s: MedianRange.of(once[s] for once in alone).median for s in STAGES},
        one_core=compute_rate(alone),
        scaling=sum(map(compute_rate, together)) / compute_rate(alone),
        rates=found,
    )


def _to_result(setting: Setting, done: list[_Round], cores: int) -> SettingResult:
    name, first = setting.name, _name_workers(1)
    return SettingResult(
        setting=name,
        rate=MedianRange.of(r.rates[name] for r in done),
        of_floor=MedianRange.of(r.rates[name] / (r.one_core * setting.workers) for r in done),
        of_machine=MedianRange.of(
            r.rates[name] / (r.one_core * _estimate_worth(setting.workers, cores, r.scaling))
            for r in done
        ),
        to_one_worker=MedianRange.of(r.rates[name] / r.rates[first] for r in done),
    )


def _estimate_worth(workers: int, cores: int, scaling: float) -> float:
    """How many independent cores some workers are worth, between one and all of them."""
    if cores == 1:
        return 1.0
    return 1 + (scaling - 1) * (workers - 1) / (cores - 1)


def _name_workers(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")
