"""The profile of a set of answers: a few sums that runs can be compared by."""

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


@dataclass(frozen=True)
class Profile:
    """What a set of answers looks like.

    Attributes:
        by_label: photos of status ``ok`` by label, for every label of the model.
        by_source: the same photos by source.
        answers: photos with an answer: a label, sure or not, or the status of an abstain output.
        confidence: the sum of their confidences.
        confidence_squared: the sum of the squares.
        by_abstain: photos of each status that a model's abstain output gives; empty for models
            without such outputs.
    """

    by_label: Mapping[str, int]
    by_source: Mapping[str, int]
    answers: int
    confidence: float
    confidence_squared: float
    by_abstain: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Profile) -> Profile:
        """Join the profiles of two sets of answers."""
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
        """Photos whose answer counts: of status ``ok`` by label, others by status."""
        return {**self.by_label, **self.by_abstain}

    @property
    def mean_confidence(self) -> float | None:
        """The mean over photos with an answer, 0 to 1; None without such photos."""
        return self.confidence / self.answers if self.answers else None

    @property
    def variance(self) -> float:
        """The variance of the mean confidence, by chance alone."""
        if not self.answers:
            return math.inf
        mean = self.confidence / self.answers
        return max(0.0, self.confidence_squared / self.answers - mean**2) / self.answers


def _add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


@dataclass
class ProfileBuilder:
    """Gathers the profile of rows as they pass.

    Attributes:
        labels: the model's labels.
        abstain: the abstain outputs that can take the place of a label.
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
        """Count a row's answer, if it has one."""
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
        """Give what was gathered so far."""
        return Profile(
            by_label={label: self._by_label[label] for label in self.labels},
            by_source={source.value: self._by_source[source.value] for source in Source},
            answers=self._answers,
            confidence=self._sum,
            confidence_squared=self._squares,
            by_abstain={name: self._by_abstain[name] for name in self.abstain},
        )


# == Drift: whether a run's answers look like those of earlier runs.

# Photos. With fewer, the noise of chance alone is larger than the changes looked for.
MIN_PHOTOS = 100
# Total variation distance: the share of photos that would have to change their outcome. What people
# photograph moves it by up to 0.85, from portraits that smile to ones that do not.
MAX_SHARE_CHANGE = 0.9
# What people photograph hardly moves how certain the models are of it; what spoils photos does.
MAX_CONFIDENCE_DROP = 0.05
# How likely about each check is to warn by chance alone: once in 27 years of nights.
FALSE_ALARM_RATE = 1e-4
# Standard deviations that a normal variable exceeds, up or down, with that probability.
_DEVIATIONS = NormalDist().inv_cdf(1 - FALSE_ALARM_RATE / 2)

# How far, None where that can't be told, and a line for people where it is too far.
Finding: TypeAlias = tuple[float | None, str | None]


@dataclass(frozen=True)
class Drift:
    """How far a run's answers are from what was expected; None where that can't be told.

    Attributes:
        photos: photos whose answer counts: a sure label, ``neither`` or ``no_person``.
        mean_confidence: over photos with an answer.
        from_last_run: total variation distance of the outcomes from earlier runs', 0 to 1.
        from_model: total variation distance of the labels from the models' training data, 0 to 1;
            no warning depends on it, as nobody's folder has the shares of training data.
        confidence_change: the mean confidence less that of earlier runs.
        warnings: lines for people, mostly none.
        accepted: lines that would be warnings if the run had not been told to accept them.
    """

    photos: int
    mean_confidence: float | None
    from_last_run: float | None
    from_model: float | None
    confidence_change: float | None
    warnings: tuple[str, ...]
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """What the next runs are compared with.

    Attributes:
        usual: the answers of runs that gave no warning, or were accepted.
        drifted: those of the runs since which did, None if the last one did not.
        thresholds: what the answers were decided by; only alike ones are compared.
    """

    usual: Profile
    drifted: Profile | None = None
    thresholds: str = ""

    def add_run(self, now: Profile, drift: Drift, accept: bool) -> Baseline:
        """Give what the runs after this one are compared with.

        Answers that drifted are kept apart until they are accepted, which makes them the usual
        ones, or until a run no longer drifts.
        """
        drifted = self.drifted + now if self.drifted else now
        if drift.warnings:
            return replace(self, drifted=drifted)
        if accept and (self.drifted or drift.accepted):
            return replace(self, usual=drifted, drifted=None)
        if set(self.usual.by_abstain) != set(now.by_abstain):
            return replace(self, usual=now, drifted=None)  # of models with other outputs
        compared = (drift.from_last_run, drift.confidence_change) != (None, None)
        return replace(self, usual=self.usual + now, drifted=None if compared else self.drifted)


def read_baseline(text: str | None) -> Baseline | None:
    """Read a reference from its JSON; None if there is none, or it is damaged."""
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
    """Compare a run's answers with those of earlier runs and with the models' training data.

    What has fewer than ``MIN_PHOTOS`` on either side is not compared, nor are runs of different
    labels. Runs of the same labels but different abstain outputs are compared by their labels
    alone. A difference that chance explains is told but gives no warning.

    Args:
        now: the photos that the run labelled.
        last: those of earlier runs.
        shares: each model's ``label_shares`` under the source that it answers for.
        accept: whether to give no warnings.
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
    """Measure the total variation distance of two distributions, 0 to 1."""
    names = {**one, **other}
    return sum(abs(one.get(name, 0) - other.get(name, 0)) for name in names) / 2


def bound_chance(shares: Mapping[str, float], inverse: float) -> float:
    """Bound the distance that a sample of a distribution has from it by chance.

    ``inverse`` is 1/n for a sample of n photos, 1/n + 1/m for two samples compared. It is at
    most the expected distance (by Jensen's inequality) plus what McDiarmid's (1989) says is
    exceeded with a probability of ``FALSE_ALARM_RATE``: one photo moves the distance by 1/n.
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
    together = _to_shares({name: count + counts_before[name] for name, count in counts.items()})
    far = total_variation(own, before)
    if far <= max(MAX_SHARE_CHANGE, bound_chance(together, 1 / photos + 1 / photos_before)):
        return far, None
    what = "answers" if alike and now.by_abstain else "labels"
    return far, _describe_shift(what, own, before)


def _compare_confidence(now: Profile, last: Profile) -> Finding:
    if min(now.answers, last.answers) < MIN_PHOTOS:
        return None, None
    mean, before = now.confidence / now.answers, last.confidence / last.answers
    noise = _DEVIATIONS * math.sqrt(now.variance + last.variance)
    if before - mean <= max(MAX_CONFIDENCE_DROP, noise):
        return mean - before, None
    return mean - before, f"the mean confidence is {mean:.2f}, not {before:.2f} as in earlier runs"


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
    """Mix the models' shares as their answers are mixed; what both answered counts half each."""
    mixed = dict.fromkeys(now.by_label, 0.0)
    for source, count in now.by_source.items():
        both = (Source.FACE, Source.IMAGE) if source == Source.BOTH else (Source(source),)
        for part in both if count else ():
            own = shares.get(part, {})
            if set(own) != set(now.by_label) or not _is_distribution(own):
                return {}  # the model's makers did not say, so nothing is expected
            for label, share in _to_shares(own).items():
                mixed[label] += count / len(both) * share
    return _to_shares(mixed)


def _is_distribution(shares: Mapping[str, object]) -> bool:
    numbers = [share for share in shares.values() if isinstance(share, int | float)]
    sound = all(math.isfinite(number) and number >= 0 for number in numbers)
    return sound and len(numbers) == len(shares) and sum(numbers) > 0


def _describe_shift(what: str, own: Mapping[str, float], expected: Mapping[str, float]) -> str:
    most = max(own, key=lambda name: round(abs(own[name] - expected[name]), 9))
    return (
        f"the {what}' shares are far from those of earlier runs: "
        f"{printable_text(most)} is {own[most]:.0%}, not {expected[most]:.0%}"
    )
