"""Drift detection: compares the answers of a run with those of earlier runs.

A ``Profile`` sums up the answers of a run, the ``Baseline`` those of earlier runs, and
``find_drift`` tests whether the two differ by more than photos and sampling error explain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import TypeAlias

import msgspec

from batch.path_text import printable_text
from batch.records import Row, Source, Status

# Fewest photos on either side. With fewer, sampling error exceeds the changes to be detected.
MIN_PHOTOS = 100
# Total variation distance: the share of photos that would have to change their outcome. A change of
# subject, from smiling portraits to others, reaches 0.85.
MAX_SHARE_CHANGE = 0.9
# Changes of subject hardly affect the mean confidence; a broken camera or model does.
MAX_CONFIDENCE_DROP = 0.05
# Where a model's answer can come from.
_MODEL_SOURCES = (Source.FACE, Source.IMAGE, Source.BOTH)
# Probability that a check warns by chance: once in 27 years of nightly runs.
FALSE_ALARM_RATE = 1e-4
# Standard deviations that a normal variable exceeds on either side with that probability.
_DEVIATIONS = NormalDist().inv_cdf(1 - FALSE_ALARM_RATE / 2)

# A difference, None if it can't be measured, and a warning if it is too large.
Finding: TypeAlias = tuple[float | None, str | None]


@dataclass(frozen=True)
class Profile:
    """Sums over a set of answers.

    Attributes:
        by_label: photos of status ``ok`` by label, for every label of the model.
        by_source: the same photos by source.
        answers: photos with an answer: a sure or unsure label, or an abstain output.
        confidence: sum of their confidences.
        confidence_squared: sum of the squared confidences.
        by_abstain: photos by abstain output; empty for models without such outputs.
    """

    by_label: Mapping[str, int]
    by_source: Mapping[str, int]
    answers: int
    confidence: float
    confidence_squared: float
    by_abstain: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Profile) -> Profile:
        """Add up two profiles."""
        return Profile(
            by_label=_add_counts(self.by_label, other.by_label),
            by_source=_add_counts(self.by_source, other.by_source),
            answers=self.answers + other.answers,
            confidence=self.confidence + other.confidence,
            confidence_squared=self.confidence_squared + other.confidence_squared,
            by_abstain=_add_counts(self.by_abstain, other.by_abstain),
        )

    @property
    def sure(self) -> int:
        """Photos of status ``ok``."""
        return sum(self.by_label.values())

    @property
    def by_outcome(self) -> dict[str, int]:
        """Photos of status ``ok`` by label, and photos without a label by abstain output."""
        return {**self.by_label, **self.by_abstain}

    @property
    def mean_confidence(self) -> float | None:
        """Mean over photos with an answer, 0 to 1; None without such photos."""
        return self.confidence / self.answers if self.answers else None

    @property
    def variance(self) -> float:
        """Variance of the mean confidence due to sampling."""
        if not self.answers:
            return math.inf
        mean = self.confidence / self.answers
        return max(0.0, self.confidence_squared / self.answers - mean**2) / self.answers


def _add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


@dataclass
class ProfileBuilder:
    """Builds the profile of rows one at a time.

    Attributes:
        labels: the labels of the model.
        abstain: the abstain outputs of the model.
    """

    labels: Sequence[str]
    abstain: Sequence[str] = ()
    _by_label: Counter[str] = field(default_factory=Counter, init=False)
    _by_source: Counter[str] = field(default_factory=Counter, init=False)
    _by_abstain: Counter[str] = field(default_factory=Counter, init=False)
    _answers: int = field(default=0, init=False)
    _sum: float = field(default=0.0, init=False)
    _squares: float = field(default=0.0, init=False)

    def add(self, row: Row) -> None:
        """Add the answer of a row, if it has one."""
        if row.answer is None:
            return
        confidence = float(row.answer.confidence)
        self._answers += 1
        self._sum += confidence
        self._squares += confidence**2
        if row.answer.label is None:
            self._by_abstain[row.status.value] += 1
        elif row.status is Status.OK and row.source is not None:
            self._by_label[row.answer.label] += 1
            self._by_source[row.source.value] += 1

    def profile(self) -> Profile:
        """Return the profile of the rows added so far."""
        return Profile(
            by_label={label: self._by_label[label] for label in self.labels},
            by_source={source.value: self._by_source[source.value] for source in _MODEL_SOURCES},
            answers=self._answers,
            confidence=self._sum,
            confidence_squared=self._squares,
            by_abstain={name: self._by_abstain[name] for name in self.abstain},
        )


@dataclass(frozen=True)
class Drift:
    """Differences between the answers of a run and earlier ones; None if they can't be measured.

    Attributes:
        photos: photos with a sure label, ``neither`` or ``no_person``.
        mean_confidence: mean over photos with an answer, 0 to 1.
        from_last_run: total variation distance of the outcomes from those of earlier runs, 0 to 1.
        from_model: total variation distance of the labels from the training data of the models,
            0 to 1. No warning depends on it: no folder has the shares of the training data.
        confidence_change: mean confidence minus that of earlier runs, -1 to 1.
        warnings: one line per difference that is too large.
        accepted: lines that would be warnings without ``--accept-drift``.
        REMEDY: what to do about a warning.
    """

    REMEDY = (
        "look at the new photos of the report, and if they are labelled correctly, run once with "
        "--accept-drift"
    )

    photos: int
    mean_confidence: float | None
    from_last_run: float | None
    from_model: float | None
    confidence_change: float | None
    warnings: tuple[str, ...]
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Profiles of earlier runs, with which the next run is compared.

    Attributes:
        usual: answers of runs without a warning, or whose drift was accepted.
        drifted: answers of the later runs that gave a warning; None if the last one gave none.
        thresholds: thresholds of the answers; runs with other thresholds are not compared.
    """

    usual: Profile
    drifted: Profile | None = None
    thresholds: str = ""

    def add_run(self, now: Profile, drift: Drift, accept: bool) -> Baseline:
        """Return the baseline of the runs after this one.

        Drifted answers stay apart until they are accepted, which makes them the usual ones, or
        until a run no longer drifts.
        """
        drifted = self.drifted + now if self.drifted else now
        if drift.warnings:
            return replace(self, drifted=drifted)
        if accept and (self.drifted or drift.accepted):
            return replace(self, usual=drifted, drifted=None)
        if set(self.usual.by_abstain) != set(now.by_abstain):
            return replace(self, usual=now, drifted=None)  # the models have other outputs
        compared = (drift.from_last_run, drift.confidence_change) != (None, None)
        return replace(self, usual=self.usual + now, drifted=None if compared else self.drifted)


def read_baseline(text: str | None) -> Baseline | None:
    """Read a baseline from JSON; None if the text is missing or damaged."""
    try:
        return msgspec.json.decode(text or "", type=Baseline)
    except msgspec.MsgspecError:
        return None


def find_drift(
    now: Profile,
    last: Profile | None,
    shares: Mapping[Source, Mapping[str, float]],
    accept: bool = False,
) -> Drift:
    """Compare the answers of a run with those of earlier runs and with the training data.

    Nothing is compared with fewer than ``MIN_PHOTOS`` photos on either side, or if the labels
    differ. If only the abstain outputs differ, labels alone are compared. A difference within
    sampling error is measured but gives no warning.

    Args:
        now: photos that the run labelled.
        last: photos of earlier runs; None without any.
        shares: ``label_shares`` of each model, by the source of its answers.
        accept: whether to move warnings to ``Drift.accepted``.
    """
    if last is not None and set(last.by_label) != set(now.by_label):
        last = None
    since = _compare_shares(now, last) if last else (None, None)
    change = _compare_confidence(now, last) if last else (None, None)
    warnings = tuple(filter(None, (since[1], change[1])))
    return Drift(
        photos=sum(now.by_outcome.values()),
        mean_confidence=now.mean_confidence,
        from_last_run=since[0],
        confidence_change=change[0],
        from_model=_measure_model_distance(now, _mix_expected_shares(now, shares)),
        warnings=() if accept else warnings,
        accepted=warnings if accept else (),
    )


def total_variation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Compute the total variation distance of two distributions, 0 to 1."""
    names = {**one, **other}
    return sum(abs(one.get(name, 0) - other.get(name, 0)) for name in names) / 2


def bound_chance(shares: Mapping[str, float], inverse: float) -> float:
    """Bound the total variation distance that sampling alone causes.

    The bound is the expected distance (at most, by Jensen's inequality) plus the deviation from it
    that is exceeded with probability ``FALSE_ALARM_RATE`` (McDiarmid's inequality, 1989), as one
    photo changes the distance by 1/n.

    Args:
        shares: the distribution.
        inverse: 1/n for a sample of n photos, 1/n + 1/m to compare two samples.
    """
    expected = sum(math.sqrt(share * (1 - share) * inverse) for share in shares.values()) / 2
    return expected + math.sqrt(math.log(1 / FALSE_ALARM_RATE) * inverse / 2)


def _compare_shares(now: Profile, last: Profile) -> Finding:
    alike = set(now.by_abstain) == set(last.by_abstain)
    counts = now.by_outcome if alike else now.by_label
    counts_before = last.by_outcome if alike else last.by_label
    photos, photos_before = sum(counts.values()), sum(counts_before.values())
    if min(photos, photos_before) < MIN_PHOTOS:
        return None, None
    own, before = _to_shares(counts), _to_shares(counts_before)
    pooled = _to_shares({name: count + counts_before[name] for name, count in counts.items()})
    distance = total_variation(own, before)
    if distance <= max(MAX_SHARE_CHANGE, bound_chance(pooled, 1 / photos + 1 / photos_before)):
        return distance, None
    noun = "answers" if alike and now.by_abstain else "labels"
    return distance, _describe_shift(noun, own, before, photos)


def _compare_confidence(now: Profile, last: Profile) -> Finding:
    if min(now.answers, last.answers) < MIN_PHOTOS:
        return None, None
    mean, before = now.confidence / now.answers, last.confidence / last.answers
    noise = _DEVIATIONS * math.sqrt(now.variance + last.variance)
    if before - mean <= max(MAX_CONFIDENCE_DROP, noise):
        return mean - before, None
    return mean - before, (
        f"the mean confidence of the {now.answers:,} photos with an answer that this run labelled "
        f"is {mean:.2f}, not {before:.2f} as in earlier runs"
    )


def _measure_model_distance(now: Profile, expected: Mapping[str, float]) -> float | None:
    if not expected or now.sure < MIN_PHOTOS:
        return None
    return total_variation(_to_shares(now.by_label), expected)


def _to_shares(counts: Mapping[str, float]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def _mix_expected_shares(
    now: Profile, shares: Mapping[Source, Mapping[str, float]]
) -> dict[str, float]:
    """Mix the shares of the models by source; an answer of both models counts half for each."""
    mixed = dict.fromkeys(now.by_label, 0.0)
    for source, count in now.by_source.items():
        both = (Source.FACE, Source.IMAGE) if source == Source.BOTH else (Source(source),)
        for part in both if count else ():
            own = shares.get(part, {})
            if set(own) != set(now.by_label) or not _is_distribution(own):
                return {}  # the model has no usable ``label_shares``
            for label, share in _to_shares(own).items():
                mixed[label] += count / len(both) * share
    return _to_shares(mixed)


def _is_distribution(shares: Mapping[str, object]) -> bool:
    numbers = [share for share in shares.values() if isinstance(share, int | float)]
    sound = all(math.isfinite(number) and number >= 0 for number in numbers)
    return sound and len(numbers) == len(shares) and sum(numbers) > 0


def _describe_shift(
    noun: str, own: Mapping[str, float], expected: Mapping[str, float], photos: int
) -> str:
    most = max(own, key=lambda name: round(abs(own[name] - expected[name]), 9))
    return (
        f"the shares of {noun} differ much from earlier runs: of the {photos:,} photos with a "
        f"certain answer that this run labelled, {printable_text(most)} is {own[most]:.0%}, "
        f"not {expected[most]:.0%}"
    )
