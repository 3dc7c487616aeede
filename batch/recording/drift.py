"""Drift: whether a run's answers look like the last run's and the training data's."""

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
# Total variation distance: the share of photos that would have to change their outcome.
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

    Attributes:
        photos: photos whose answer counts: a sure label, ``neither`` or ``no_person``.
        mean_confidence: over photos with a label, unsure ones included.
        from_last_run: total variation distance of the outcomes, 0 to 1.
        from_model: total variation distance of the labels, 0 to 1.
        confidence_change: the mean confidence less the last run's.
        warnings: lines for people, mostly none.
        since_last_run: the warnings that tell of a change.
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

    What has fewer than ``MIN_PHOTOS`` on either side is not compared, nor are runs of different
    labels. Runs of the same labels but different abstain outputs are compared by their labels
    alone. A difference that chance explains is told but gives no warning.

    Args:
        now: the photos that the run labelled.
        last: those of the last published report.
        shares: each model's ``label_shares`` under the source that it answers for.
    """
    if last is not None and set(last.by_label) != set(now.by_label):
        last = None
    since = _since(now, last) if last else (None, None)
    change = _change(now, last) if last else (None, None)
    from_model = _from_model(now, _expected(now, shares))
    return Drift(
        photos=sum(now.by_outcome.values()),
        mean_confidence=now.mean_confidence,
        from_last_run=since[0],
        confidence_change=change[0],
        from_model=from_model[0],
        warnings=tuple(filter(None, (since[1], change[1], from_model[1]))),
        since_last_run=tuple(filter(None, (since[1], change[1]))),
    )


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Measure the total variation distance of two distributions, 0 to 1."""
    names = {**one, **other}
    return sum(abs(one.get(name, 0) - other.get(name, 0)) for name in names) / 2


def chance(shares: Mapping[str, float], inverse: float) -> float:
    """Bound the distance that a sample of a distribution has from it by chance.

    ``inverse`` is 1/n for a sample of n photos, 1/n + 1/m for two samples compared. It is at
    most the expected distance (by Jensen's inequality) plus what McDiarmid's (1989) says is
    exceeded with a probability of ``FALSE_ALARMS``: one photo moves the distance by 1/n.
    """
    expected = sum(math.sqrt(share * (1 - share) * inverse) for share in shares.values()) / 2
    return expected + math.sqrt(math.log(1 / FALSE_ALARMS) * inverse / 2)


def _since(now: Profile, last: Profile) -> Finding:
    alike = set(now.by_abstain) == set(last.by_abstain)
    counts = now.by_outcome if alike else now.by_label
    counts_before = last.by_outcome if alike else last.by_label
    photos, photos_before = sum(counts.values()), sum(counts_before.values())
    if min(photos, photos_before) < MIN_PHOTOS:
        return None, None
    own, before = _shares(counts), _shares(counts_before)
    together = _shares({name: count + counts_before[name] for name, count in counts.items()})
    far = distance(own, before)
    if far <= max(MAX_CHANGE_OF_SHARES, chance(together, 1 / photos + 1 / photos_before)):
        return far, None
    what = "answers" if alike and now.by_abstain else "labels"
    return far, _words(what, "the last run", own, before)


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
    return far, _words("labels", "the model's training data", own, expected)


def _shares(counts: Mapping[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


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


def _words(what: str, than: str, own: Mapping[str, float], expected: Mapping[str, float]) -> str:
    most = max(own, key=lambda name: round(abs(own[name] - expected[name]), 9))
    return (
        f"the {what}' shares are far from those of {than}: "
        f"{printable(most)} is {own[most]:.0%}, not {expected[most]:.0%}"
    )
