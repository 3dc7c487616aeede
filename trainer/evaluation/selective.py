"""Metrics of selective classification: accuracy of the labels that count, and coverage.

A label counts if its status is ``ok``. The metrics are the share of right labels among those that
count, the share of each label's samples that get their label, and the share of the samples without
a label that get one. AUGRC (Traub et al. 2024, arXiv 2407.01032) needs no threshold: it is the area
under the curve of the share of samples that are answered wrongly over the share that is answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.models.ensemble import Thresholds
from batch.records import Status
from batch.vision.decide import decide
from trainer.datasets.dataset import Texts
from trainer.evaluation.metrics import (
    INTERVAL_QUANTILES,
    RESAMPLES,
    SEED,
    Counts,
    Estimate,
    Figures,
    Probabilities,
    Targets,
    estimate_shares,
    estimate_to_json,
)

# Outcomes besides the labels and abstain outputs: a label below its threshold, and no answer.
UNSURE, NO_ANSWER = Status.UNSURE.value, "none"
# Resamples per chunk, which bounds the memory.
RESAMPLE_CHUNK = 50


@dataclass(frozen=True)
class Decisions:
    """The runner's decisions on samples.

    Attributes:
        label: int64 [n], the likeliest label, or -1 without an answer.
        confidence: float64 [n], its probability, 0 without an answer.
        outcome: int64 [n], an index of ``outcomes``.
    """

    label: Targets
    confidence: Figures
    outcome: Targets

    def take(self, chosen: npt.NDArray[np.bool_]) -> Decisions:
        """Keep the decisions on the chosen samples, bool [n]."""
        return Decisions(self.label[chosen], self.confidence[chosen], self.outcome[chosen])


@dataclass(frozen=True)
class KindCounts:
    """Outcomes of the samples of one kind of picture.

    Attributes:
        kind: its name.
        samples: their number.
        ok: number of labels that count.
        right: number of these that are right.
        outcomes: number of samples by outcome, for the outcomes that are not labels.
        always: accuracy if every sample gets a label; None for a kind without labels.
    """

    kind: str
    samples: int
    ok: int
    right: int
    outcomes: Mapping[str, int]
    always: float | None


@dataclass(frozen=True)
class SelectiveMetrics:
    """Metrics of a model's decisions.

    Attributes:
        labels: the K labels.
        abstain: the classes without a label.
        outcomes: the columns of ``confusion``.
        samples: number of samples.
        labelled: number of samples whose class is a label.
        always: accuracy on those if every sample gets its likeliest label.
        accuracy: share of right labels among those that count, over all samples.
        coverage: for each label, the share of its samples that get this label, if it counts.
        answered: for each class of ``abstain``, the share of its samples that get a label that
            counts.
        augrc: area under the generalised risk-coverage curve, 0 to 0.5; lower is better.
        confusion: samples by true class (rows) and outcome (columns).
        kinds: counts per kind of picture, if the kinds are known.
    """

    labels: tuple[str, ...]
    abstain: tuple[str, ...]
    outcomes: tuple[str, ...]
    samples: int
    labelled: int
    always: Estimate
    accuracy: Estimate
    coverage: tuple[Estimate, ...]
    answered: tuple[Estimate, ...]
    augrc: Estimate
    confusion: tuple[tuple[int, ...], ...]
    kinds: tuple[KindCounts, ...]


def list_outcomes(labels: Sequence[str], abstain: Sequence[str]) -> tuple[str, ...]:
    """List the possible outcomes: labels that count, unsure, abstain outputs, no answer."""
    return (*labels, UNSURE, *abstain, NO_ANSWER)


def decide_all(answers: Probabilities, labels: Sequence[str], thresholds: Thresholds) -> Decisions:
    """Decide as the runner does, from probabilities float32 [n, K + A]."""
    names = list_outcomes(labels, tuple(thresholds.abstain_from))
    places = {name: n for n, name in enumerate(names)}
    made = [decide(row, labels, thresholds) for row in answers]
    return Decisions(
        label=answers[:, : len(labels)].argmax(axis=1),
        confidence=answers[:, : len(labels)].max(axis=1).astype(np.float64),
        outcome=np.asarray(
            [places[a.label if a.status is Status.OK and a.label else a.status] for a in made],
            dtype=np.int64,
        ),
    )


def merge_decisions(parts: Sequence[tuple[npt.NDArray[np.bool_], Decisions]]) -> Decisions:
    """Merge decisions on disjoint subsets, bool [n] each, in the order of all samples."""
    count = len(parts[0][0])
    joined = Decisions(
        np.empty(count, np.int64), np.empty(count, np.float64), np.empty(count, np.int64)
    )
    for where, part in parts:
        joined.label[where] = part.label
        joined.confidence[where] = part.confidence
        joined.outcome[where] = part.outcome
    return joined


def measure_selective(
    made: Decisions,
    targets: Targets,
    labels: tuple[str, ...],
    abstain: tuple[str, ...],
    kinds: Texts | None = None,
) -> SelectiveMetrics:
    """Compare decisions with the true classes, with 95 % intervals.

    Args:
        made: decisions with the outcomes ``list_outcomes(labels, abstain)``.
        targets: int64 [n], the true classes, labels first.
        labels: the K labels.
        abstain: the A classes without a label.
        kinds: text [n], see ``Split``; an empty one stands for the class's name.
    """
    names, count = list_outcomes(labels, abstain), len(labels)
    classes = (*labels, *abstain)
    right = made.label == targets
    counts = np.zeros((len(classes), len(names), 2), dtype=np.int64)
    np.add.at(counts, (targets, made.outcome, right.astype(int)), 1)
    always, accuracy, *shares = estimate_shares(*_count_shares(counts, count))
    wrong_if_answered = ~right
    return SelectiveMetrics(
        labels=labels,
        abstain=abstain,
        outcomes=names,
        samples=len(targets),
        labelled=int((targets < count).sum()),
        always=always,
        accuracy=accuracy,
        coverage=tuple(shares[:count]),
        answered=tuple(shares[count:]),
        augrc=estimate_augrc(made.confidence, wrong_if_answered),
        confusion=tuple(tuple(int(n) for n in row) for row in counts.sum(axis=-1)),
        kinds=tuple(_count_by_kind(made, targets, classes, names, count, kinds)),
    )


def risk_coverage_curve(
    confidence: Figures, wrong: npt.NDArray[np.bool_]
) -> tuple[Figures, Figures]:
    """Compute the risk-coverage curve, from the most to the least confident answer.

    Args:
        confidence: float64 [n].
        wrong: bool [n].

    Returns:
        For each distinct confidence the share of samples that is answered, and the share of wrong
        answers among these: float64 [t] each.
    """
    order, ends = _sort_by_confidence(confidence)
    errors = wrong[order].cumsum()[ends]
    return (ends + 1) / len(wrong), errors / (ends + 1)


def augrc(confidence: Figures, wrong: npt.NDArray[np.bool_]) -> float:
    """Area under the generalised risk-coverage curve: 0 without errors, at most 0.5."""
    ones = np.ones((1, len(wrong)))
    return float(_compute_areas(confidence, wrong, ones)[0])


def estimate_augrc(confidence: Figures, wrong: npt.NDArray[np.bool_]) -> Estimate:
    """Compute ``augrc`` with its bootstrap interval.

    One sample is added to those that are drawn from, spread over all confidences, right and wrong,
    so that answers without a wrong one can have some.
    """
    rng = np.random.default_rng(SEED)
    n = len(wrong)
    added = np.full(n, 1 / (2 * n))
    shares = np.concatenate([1 + added, added]) / (n + 1)
    both, mistakes = np.tile(confidence, 2), np.concatenate([wrong, ~wrong])
    areas = [
        _compute_areas(both, mistakes, rng.multinomial(n, shares, size=RESAMPLE_CHUNK))
        for _ in range(RESAMPLES // RESAMPLE_CHUNK)
    ]
    low, high = np.quantile(np.concatenate(areas), INTERVAL_QUANTILES)
    return Estimate(augrc(confidence, wrong), float(low), float(high))


def selective_to_json(found: SelectiveMetrics) -> dict[str, Any]:
    """Convert the metrics to plain values for JSON, rounded to 4 digits."""
    return {
        "samples": found.samples,
        "labelled": found.labelled,
        "always": estimate_to_json(found.always),
        "accuracy": estimate_to_json(found.accuracy),
        "coverage": {
            label: estimate_to_json(estimate)
            for label, estimate in zip(found.labels, found.coverage, strict=True)
        },
        "answered": {
            name: estimate_to_json(estimate)
            for name, estimate in zip(found.abstain, found.answered, strict=True)
        },
        "augrc": estimate_to_json(found.augrc),
        "outcomes": list(found.outcomes),
        "confusion": [list(row) for row in found.confusion],
        "kinds": {
            row.kind: {
                "samples": row.samples,
                "ok": row.ok,
                "right": row.right,
                **row.outcomes,
                "always": None if row.always is None else round(row.always, 4),
            }
            for row in found.kinds
        },
    }


def _count_shares(counts: Counts, labels: int) -> tuple[Counts, Counts]:
    """Count for always-answer accuracy, selective accuracy, coverage and answered shares.

    Args:
        counts: int64 [class, outcome, likeliest label wrong or right].
        labels: number of classes that are labels.

    Returns:
        The samples that count and all samples of each share.
    """
    ok, shown = counts[:, :labels], counts[:labels]
    parts = [shown[..., 1].sum(), ok[..., 1].sum()]
    wholes = [shown.sum(), ok.sum()]
    covered, answered = ok[:labels, :, 1].sum(1), ok[labels:].sum((1, 2))
    return np.hstack([parts, covered, answered]), np.hstack([wholes, counts.sum((1, 2))])


def _count_by_kind(
    made: Decisions,
    targets: Targets,
    classes: Sequence[str],
    names: Sequence[str],
    labels: int,
    kinds: Texts | None,
) -> Iterator[KindCounts]:
    if kinds is None:
        return
    of_class = np.asarray(classes)[targets]
    named = np.where(kinds == "", of_class, kinds)
    for kind in sorted(set(named.tolist())):
        here = named == kind
        right = (made.label == targets) & here
        ok = (made.outcome < labels) & here
        shown = here & (targets < labels)
        yield KindCounts(
            kind=kind,
            samples=int(here.sum()),
            ok=int(ok.sum()),
            right=int((ok & right).sum()),
            outcomes={
                name: int((here & (made.outcome == n)).sum())
                for n, name in enumerate(names)
                if n >= labels
            },
            always=float(right[shown].mean()) if shown.any() else None,
        )


def _sort_by_confidence(confidence: Figures) -> tuple[Targets, Targets]:
    """Sort by descending confidence; also return the last index of each distinct confidence."""
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    return order, np.flatnonzero(np.append(ordered[:-1] != ordered[1:], True))


def _compute_areas(
    confidence: Figures, wrong: npt.NDArray[np.bool_], times: npt.NDArray[Any]
) -> Figures:
    """Compute the area per resample; ``times`` [r, n] counts the draws of each sample."""
    order, ends = _sort_by_confidence(confidence)
    drawn = times[:, order].astype(np.float64)
    n = drawn.sum(axis=1, keepdims=True)
    starts = np.zeros((len(times), 1))
    answered = np.hstack([starts, drawn.cumsum(axis=1)[:, ends]]) / n
    errors = np.hstack([starts, (drawn * wrong[order]).cumsum(axis=1)[:, ends]]) / n
    areas: Figures = (np.diff(answered) * (errors[:, 1:] + errors[:, :-1]) / 2).sum(axis=1)
    return areas
