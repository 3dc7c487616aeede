"""Chooses when a model answers: the most answers at a stated risk.

Selective classification with a guarantee (Geifman and El-Yaniv 2017, arXiv 1705.08500): thresholds
are taken only if the share of wrong answers among all that count, with a one-sided bound of 95 %
confidence on samples that were not learnt from, stays within the risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from batch.models.ensemble import Thresholds
from batch.records import Abstain
from trainer.evaluation.metrics import Probabilities, Targets

CONFIDENCE_LEVEL = 0.95
# Thresholds that are tried: of a label, and of an abstain output, which must be as likely as all
# else together before it is a reason.
LABEL_STEPS = tuple(round(step / 20, 2) for step in range(4, 20))
ABSTAIN_STEPS = tuple(step for step in LABEL_STEPS if step >= 0.5)
# Beside the risk over all answers, the share of the samples of each abstain class that may get a
# label which counts: a folder may hold nothing else.
MAX_ANSWERED = {Abstain.NEITHER: 0.08, Abstain.NO_PERSON: 0.015}
# Of each kind of picture that shows a person, the share that may come out as `no_person`.
MAX_OVERLOOKED = 0.05


@dataclass(frozen=True)
class ChosenThresholds:
    """Thresholds and what they come to on the samples that they were chosen on.

    Attributes:
        unsure_below: 0 to 1.
        abstain_from: 0 to 1 for each abstain output.
        risk: the stated risk, 0 to 1.
        answered: number of samples that get a label which counts.
        wrong: number of these whose label is wrong.
        coverage: share of each label's samples that get it.
    """

    unsure_below: float
    abstain_from: Mapping[str, float]
    risk: float
    answered: int
    wrong: int
    coverage: Mapping[str, float]

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds as a decision takes them."""
        return Thresholds(self.unsure_below, self.abstain_from)

    @property
    def bound(self) -> float:
        """Upper bound of the share of wrong labels among those that count."""
        return clopper_pearson_bound(self.wrong, self.answered)


def choose_thresholds(
    answers: Probabilities,
    targets: Targets,
    labels: Sequence[str],
    abstain: Sequence[str],
    risk: float,
    least: Mapping[str, float] | None = None,
) -> ChosenThresholds:
    """Find the thresholds within the risk that give most samples their label.

    What counts is the mean over labels, so that a frequent label does not outvote a rare one. Few
    samples prove nothing: if no bound keeps the risk, the share of wrong labels on these samples
    has to, and if none does, the strictest thresholds are taken; ``Chosen.bound`` tells.

    Args:
        answers: float32 [n, K + A], of samples that were not learnt from.
        targets: int64 [n], labels first.
        labels: the K labels.
        abstain: the A abstain outputs.
        risk: 0 to 1, the largest share of labels that count and are wrong.
        least: the lowest threshold that is tried for an abstain output, where it is not the usual.
    """
    count = len(labels)
    lowest = least or {}
    steps_of = [
        [step for step in ABSTAIN_STEPS if step >= lowest.get(name, 0.0)] for name in abstain
    ]
    confidence = answers[:, :count].max(axis=1)
    right = answers[:, :count].argmax(axis=1) == targets
    spared: list[ChosenThresholds] = []
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
                spared.append(chosen)
    assert strictest is not None
    kept_surely = [chosen for chosen in spared if chosen.bound <= risk]
    kept_here = [chosen for chosen in spared if chosen.wrong <= risk * chosen.answered]
    return max(
        kept_surely or kept_here or [strictest], key=lambda chosen: sum(chosen.coverage.values())
    )


def find_person_threshold(
    no_person: npt.NDArray[np.float32],
    shows_person: npt.NDArray[np.bool_],
    kinds: npt.NDArray[np.str_],
) -> float:
    """Find the lowest threshold of ``no_person`` at which persons of every kind are seen.

    Args:
        no_person: float32 [n], the output's probability.
        shows_person: bool [n].
        kinds: str [n]; of each kind at most ``MAX_OVERLOOKED`` of the persons may be overlooked.
    """
    for step in ABSTAIN_STEPS:
        called = no_person >= np.float32(step)
        if all(
            compute_share(called, shows_person & (kinds == kind)) <= MAX_OVERLOOKED
            for kind in np.unique(kinds[shows_person])
        ):
            return step
    return ABSTAIN_STEPS[-1]


def find_abstentions(
    reasons: Probabilities, abstain_from: Mapping[str, float]
) -> npt.NDArray[np.bool_]:
    """Which samples get no label, as ``batch.vision.decide`` has it: float32 [n, A] to bool [n]."""
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
    """Bound a share from above with ``CONFIDENCE_LEVEL`` (Clopper and Pearson 1934); 1 of no samples."""
    if wrong == answered:
        return 1.0
    return float(beta.ppf(CONFIDENCE_LEVEL, wrong + 1, answered - wrong))


def compute_share(chosen: npt.NDArray[np.bool_], of: npt.NDArray[np.bool_]) -> float:
    """Share of the samples ``of`` that are ``chosen``, 0 of none."""
    return float((chosen & of).sum() / max(1, of.sum()))
