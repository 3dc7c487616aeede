"""Speed of the command, in relation to the time of its stages alone.

Neighbours on a virtual machine change every rate by up to a third, for a short time. Everything
that is compared is therefore measured in the same round, and ratios are taken within a round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.command import label_photos
from bench.machine import list_usable_cores
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet
from bench.stages import STAGES, StageSeconds, compute_rate, measure_each_core

PASSES = 3
CPU = ("--provider", "cpu")
DEFAULT = "default"
# Measured besides the settings: the stages on one core, and on all cores at once.
ALONE, TOGETHER = "stages alone", "stages together"


@dataclass(frozen=True)
class Setting:
    """Options of the command, and the number of workers that it then has."""

    name: str
    workers: int
    options: tuple[str, ...]


@dataclass(frozen=True)
class SettingResult:
    """Rates of the command with one setting, start-up included.

    Attributes:
        setting: the name of the setting.
        rate: photos per second.
        of_floor: the rate over that of the stages alone on as many independent cores.
        of_machine: the rate over that of as many processes that run the stages alone.
        to_one_worker: the rate over that with one worker.
    """

    setting: str
    rate: MedianRange
    of_floor: MedianRange
    of_machine: MedianRange
    to_one_worker: MedianRange


@dataclass(frozen=True)
class Speed:
    """Speed on one photo set.

    Attributes:
        photos: the name of the photo set.
        count: the number of photos.
        mean_bytes: the mean size of a photo, in bytes.
        stages_ms: milliseconds per photo of each stage, on one core.
        sum_ms: milliseconds per photo of all stages, on one core.
        one_core: photos per second of all stages on one core.
        floor: photos per second of all stages on all cores, if the cores were independent.
        scaling: the number of independent cores that all cores are worth, measured with
            processes that share nothing.
        reached: the rates of the command with each setting.
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
    """The measurements of one round, as in ``Speed``; ``rates`` are by setting."""

    stages: StageSeconds
    one_core: float
    scaling: float
    rates: dict[str, float]


def measure_speed(photos: PhotoSet, sample: int, rounds: int) -> Speed:
    """Measure the stages on ``sample`` photos of a set, and the command on all of them."""
    cores = list_usable_cores()
    chosen = choose_settings(len(cores))
    paths = photos.sample_evenly(sample)
    ways: dict[str, Callable[[int], Any]] = {
        # A different core in each round.
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
    """Estimate how many independent cores some workers are worth, by linear interpolation."""
    if cores == 1:
        return 1.0
    return 1 + (scaling - 1) * (workers - 1) / (cores - 1)


def _name_workers(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")
