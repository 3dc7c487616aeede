"""Drift: whether tonight's answers look like the last run's and the training data's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

from batch.names import printable
from batch.recording.profile import Profile
from batch.records import Source

# Photos. With fewer, the noise of chance alone is larger than the changes looked for.
MIN_PHOTOS = 100
# Total variation distance: the share of photos that would have to change their label.
MAX_CHANGE_OF_SHARES = 0.10
# Training data are collected for learning, and nobody's folder has their shares. Only a gap
# this wide says that answers pile up on one label.
MAX_DISTANCE_FROM_MODEL = 0.25
MAX_CHANGE_OF_CONFIDENCE = 0.05
# How likely about each check is to warn by chance alone: once in 27 years of nights.
FALSE_ALARMS = 1e-4
# Standard deviations that a normal variable exceeds, up or down, with that probability.
_DEVIATIONS = NormalDist().inv_cdf(1 - FALSE_ALARMS / 2)

# How far, None where that can't be told, and a line for people where it is too far.
Finding: TypeAlias = tuple[float | None, str | None]


@dataclass(frozen=True)
class Drift:
    """How far a run's answers are from what was expected; None where that can't be told.

    ``photos`` are those with a sure label that were compared. ``from_last_run`` and
    ``from_model`` are total variation distances, 0 to 1; ``confidence_change`` is the mean
    confidence less the last run's. ``warnings`` are lines for people, mostly none;
    ``since_last_run`` are those of them that tell of a change.
    """

    photos: int
    mean_confidence: float | None
    from_last_run: float | None
    from_model: float | None
    confidence_change: float | None
    warnings: tuple[str, ...]
    since_last_run: tuple[str, ...] = ()


def find_drift(
    now: Profile, last: Profile | None, shares: Mapping[Source, Mapping[str, float]]
) -> Drift:
    """Compare a run's answers with the last published run's and the models' training data.

    ``shares`` has each model's ``label_shares`` under the source that it answers for. What
    has fewer than ``MIN_PHOTOS`` on either side is not compared, nor are runs of different
    labels; a difference that chance explains is told but gives no warning.
    """
    if last is not None and set(last.by_label) != set(now.by_label):
        last = None
    since = _since(now, last) if last else (None, None)
    change = _change(now, last) if last else (None, None)
    from_model = _from_model(now, _expected(now, shares))
    return Drift(
        photos=now.sure,
        mean_confidence=now.mean_confidence,
        from_last_run=since[0],
        confidence_change=change[0],
        from_model=from_model[0],
        warnings=tuple(filter(None, (since[1], change[1], from_model[1]))),
        since_last_run=tuple(filter(None, (since[1], change[1]))),
    )


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Measure the total variation distance of two distributions, 0 to 1."""
    labels = {**one, **other}
    return sum(abs(one.get(label, 0) - other.get(label, 0)) for label in labels) / 2


def chance(shares: Mapping[str, float], inverse: float) -> float:
    """Bound the distance that a sample of a distribution has from it by chance.

    ``inverse`` is 1/n for a sample of n photos, 1/n + 1/m for two samples compared. It is at
    most the expected distance (by Jensen's inequality) plus what McDiarmid's (1989) says is
    exceeded with a probability of ``FALSE_ALARMS``: one photo moves the distance by 1/n.
    """
    expected = sum(math.sqrt(share * (1 - share) * inverse) for share in shares.values()) / 2
    return expected + math.sqrt(math.log(1 / FALSE_ALARMS) * inverse / 2)


def _since(now: Profile, last: Profile) -> Finding:
    if min(now.sure, last.sure) < MIN_PHOTOS:
        return None, None
    own, before = _shares(now.by_label), _shares(last.by_label)
    together = _shares({label: n + last.by_label[label] for label, n in now.by_label.items()})
    far = distance(own, before)
    if far <= max(MAX_CHANGE_OF_SHARES, chance(together, 1 / now.sure + 1 / last.sure)):
        return far, None
    return far, _words("the last run", own, before)


def _change(now: Profile, last: Profile) -> Finding:
    if min(now.answers, last.answers) < MIN_PHOTOS:
        return None, None
    mean, before = now.confidence / now.answers, last.confidence / last.answers
    noise = _DEVIATIONS * math.sqrt(now.variance + last.variance)
    if abs(mean - before) <= max(MAX_CHANGE_OF_CONFIDENCE, noise):
        return mean - before, None
    return mean - before, f"the mean confidence is {mean:.2f}, not {before:.2f} as in the last run"


def _from_model(now: Profile, expected: Mapping[str, float]) -> Finding:
    if not expected or now.sure < MIN_PHOTOS:
        return None, None
    own = _shares(now.by_label)
    far = distance(own, expected)
    if far <= max(MAX_DISTANCE_FROM_MODEL, chance(expected, 1 / now.sure)):
        return far, None
    return far, _words("the model's training data", own, expected)


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {label: count / total for label, count in counts.items()} if total else {}


def _expected(now: Profile, shares: Mapping[Source, Mapping[str, float]]) -> dict[str, float]:
    """Mix the models' shares as their answers are mixed; what both answered counts half each."""
    mixed = dict.fromkeys(now.by_label, 0.0)
    for source, count in now.by_source.items():
        both = (Source.FACE, Source.IMAGE) if source == Source.BOTH else (Source(source),)
        for part in both if count else ():
            own = shares.get(part, {})
            if set(own) != set(now.by_label) or not _is_distribution(own):
                return {}  # the model's makers did not say, so nothing is expected
            for label, share in _shares(own).items():
                mixed[label] += count / len(both) * share
    return _shares(mixed)


def _is_distribution(shares: Mapping[str, object]) -> bool:
    numbers = [share for share in shares.values() if isinstance(share, int | float)]
    sound = all(math.isfinite(number) and number >= 0 for number in numbers)
    return sound and len(numbers) == len(shares) and sum(numbers) > 0


def _words(than: str, own: Mapping[str, float], expected: Mapping[str, float]) -> str:
    label = max(own, key=lambda name: round(abs(own[name] - expected[name]), 9))
    return (
        f"the labels' shares are far from those of {than}: "
        f"{printable(label)} is {own[label]:.0%}, not {expected[label]:.0%}"
    )
