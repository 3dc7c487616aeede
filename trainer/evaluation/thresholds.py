"""Chooses the thresholds that give the most answers at a stated risk.

Selective classification with guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500): a
one-sided 95 % confidence bound of the share of wrong labels among those that count, on held-out
samples, stays within the risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from batch.models.ensemble import Thresholds
from batch.records import Abstain
from trainer.evaluation.metrics import Probabilities, Targets

CONFIDENCE_LEVEL = 0.95
# Candidate thresholds for a label and for an abstain output, which takes a label's place only if it
# is as likely as all other outputs together.
LABEL_STEPS = tuple(round(step / 20, 2) for step in range(4, 20))
ABSTAIN_STEPS = tuple(step for step in LABEL_STEPS if step >= 0.5)
# Without proof by enough samples a label counts from this probability on at the earliest: seven
# right answers in seven allow any threshold. It is that of the shipped face models.
MIN_UNPROVEN = 0.8
# Largest share of the samples of each abstain class that may get a label that counts: a folder may
# contain only such photos.
MAX_ANSWERED = {Abstain.NEITHER: 0.08, Abstain.NO_PERSON: 0.015}
# Largest share of the pictures with a person, per kind, that may become `no_person`.
MAX_OVERLOOKED = 0.05


@dataclass(frozen=True)
class ChosenThresholds:
    """Thresholds, and their results on the samples that they were chosen on.

    Attributes:
        unsure_below: 0 to 1.
        abstain_from: 0 to 1 for each abstain output.
        risk: the stated risk, 0 to 1.
        answered: number of samples that get a label that counts.
        wrong: number of these with a wrong label.
        coverage: share of each label's samples that get this label.
    """

    unsure_below: float
    abstain_from: Mapping[str, float]
    risk: float
    answered: int
    wrong: int
    coverage: Mapping[str, float]

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds as ``decide`` takes them."""
        return Thresholds(self.unsure_below, self.abstain_from)

    @property
    def bound(self) -> float:
        """Upper confidence bound of the share of wrong labels among those that count."""
        return clopper_pearson_bound(self.wrong, self.answered)


def choose_thresholds(
    answers: Probabilities,
    targets: Targets,
    labels: Sequence[str],
    abstain: Sequence[str],
    risk: float,
    least: Mapping[str, float] | None = None,
) -> ChosenThresholds:
    """Find the thresholds within the risk that have the highest mean coverage over the labels.

    With few samples the confidence bound may exceed the risk for all thresholds. Then the observed
    share of wrong labels must stay within it, and a label needs ``MIN_UNPROVEN``; if that is
    impossible too, the strictest thresholds are returned. In both cases ``ChosenThresholds.bound``
    is above the risk.

    Args:
        answers: float32 [n, K + A], of held-out samples.
        targets: int64 [n], labels first.
        labels: the K labels.
        abstain: the A abstain outputs.
        risk: 0 to 1, the largest share of wrong labels among those that count.
        least: lower limit of the candidate thresholds of an abstain output, if there is one.
    """
    count = len(labels)
    lowest = least or {}
    steps_of = [
        [step for step in ABSTAIN_STEPS if step >= lowest.get(name, 0.0)] for name in abstain
    ]
    confidence = answers[:, :count].max(axis=1)
    right = answers[:, :count].argmax(axis=1) == targets
    allowed: list[ChosenThresholds] = []
    strictest: ChosenThresholds | None = None
    for steps in product(*steps_of):
        abstain_from = dict(zip(abstain, steps, strict=True))
        kept = ~find_abstentions(answers[:, count:], abstain_from)
        for unsure_below in LABEL_STEPS:
            counts = kept & (confidence >= np.float32(unsure_below))
            chosen = ChosenThresholds(
                unsure_below=unsure_below,
                abstain_from=abstain_from,
                risk=risk,
                answered=int(counts.sum()),
                wrong=int((counts & ~right).sum()),
                coverage={
                    label: compute_share(counts & right, targets == n)
                    for n, label in enumerate(labels)
                },
            )
            if strictest is None or unsure_below > strictest.unsure_below:
                strictest = chosen
            if all(
                compute_share(counts, targets == count + n) <= MAX_ANSWERED[Abstain(name)]
                for n, name in enumerate(abstain)
            ):
                allowed.append(chosen)
    assert strictest is not None
    within_bound = [chosen for chosen in allowed if chosen.bound <= risk]
    within_observed = [
        chosen
        for chosen in allowed
        if chosen.unsure_below >= MIN_UNPROVEN and chosen.wrong <= risk * chosen.answered
    ]
    return max(
        within_bound or within_observed or [strictest],
        key=lambda chosen: sum(chosen.coverage.values()),
    )


def find_person_threshold(
    no_person: npt.NDArray[np.float32],
    shows_person: npt.NDArray[np.bool_],
    kinds: npt.NDArray[np.str_],
) -> float:
    """Find the lowest threshold of ``no_person`` that overlooks few people of each kind.

    Args:
        no_person: float32 [n], the output's probability.
        shows_person: bool [n].
        kinds: str [n]; at most ``MAX_OVERLOOKED`` of the pictures with a person of each kind are
            overlooked.
    """
    for step in ABSTAIN_STEPS:
        overlooked = no_person >= np.float32(step)
        if all(
            compute_share(overlooked, shows_person & (kinds == kind)) <= MAX_OVERLOOKED
            for kind in np.unique(kinds[shows_person])
        ):
            return step
    return ABSTAIN_STEPS[-1]


def find_abstentions(
    reasons: Probabilities, abstain_from: Mapping[str, float]
) -> npt.NDArray[np.bool_]:
    """Find the samples without a label by the rules of ``decide``: float32 [n, A] to bool [n]."""
    none = np.zeros(len(reasons))
    by_name = dict(zip(abstain_from, reasons.T.astype(np.float64), strict=True))
    no_person = by_name.get(Abstain.NO_PERSON, none)
    least = abstain_from.get(Abstain.NEITHER, np.inf)
    neither = by_name.get(Abstain.NEITHER, none) >= least * (1 - no_person)
    found: npt.NDArray[np.bool_] = neither | (
        no_person >= abstain_from.get(Abstain.NO_PERSON, np.inf)
    )
    return found


def clopper_pearson_bound(wrong: int, answered: int) -> float:
    """Upper confidence bound of a share (Clopper and Pearson 1934); 1 without samples."""
    if wrong == answered:
        return 1.0
    from scipy.stats import beta

    return float(beta.ppf(CONFIDENCE_LEVEL, wrong + 1, answered - wrong))


def compute_share(chosen: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float:
    """Share of the samples ``of`` that are ``chosen``; 0 if there are none."""
    return float((chosen & of).sum() / max(1, of.sum()))
