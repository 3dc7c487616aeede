"""Whether a new model may take a shipped one's place: better on the same samples, or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from batch.errors import BatchLabelError, InputError, UsageError
from batch.models.model import Model
from batch.records import Abstain
from trainer.datasets.dataset import Split, select_samples
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import ReviewedData, read_reviewed
from trainer.evaluation.evaluate import find_columns, get_thresholds, match_to_model
from trainer.evaluation.exported_models import derive_framing, predict_model
from trainer.evaluation.metrics import (
    Counts,
    Estimate,
    Figures,
    Probabilities,
    Targets,
    calibration_error,
    calibration_gaps,
    estimate_from_counts,
    estimate_from_means,
    safe_divide,
)
from trainer.evaluation.selective import Decisions, decide_all

# The gain if no sample shows a label.
NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)
# How much balanced accuracy a candidate that only has to be as good may at most have lost.
NON_INFERIORITY_MARGIN = 0.01


class Requirement(StrEnum):
    """What a candidate must prove; ``as-good`` suits a smaller or a faster one."""

    BETTER = "better"
    AS_GOOD = "as-good"


class CandidateRejected(BatchLabelError):
    """The candidate may not take the shipped model's place."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the shipped model on the same samples.

    Differences are candidate minus shipped.

    Attributes:
        samples: number of samples.
        accuracy: gain in balanced accuracy; of models with abstain outputs, over the samples that
            show a label, if all of them get one.
        calibration: growth of the expected calibration error.
        won: number of samples whose likeliest output the candidate alone got right.
        lost: number that it alone got wrong.
        risk: growth of the share of wrong labels among those that count, of models with abstain
            outputs.
        coverage: gain in the share of samples that get their label, and it counts, as a mean over
            the labels; of models with abstain outputs.
    """

    samples: int
    accuracy: Estimate
    calibration: Estimate
    won: int
    lost: int
    risk: Estimate | None = None
    coverage: Estimate | None = None


def check_comparison(comparison: Comparison, require: Requirement, candidate: Path) -> None:
    """Make sure that a candidate is good enough to take the shipped model's place.

    Better means that the 95 % interval of the gain lies above 0, as good that it lies
    above -``NON_INFERIORITY_MARGIN``. Calibration may not have become worse by more than chance explains:
    the interval of its growth must not lie above 0. Of models with abstain outputs, the same holds
    for the risk of the labels that count, and the coverage may not have fallen by more than chance
    explains: a model that answers nothing has no risk.

    Raises:
        Refused: it is not; the message says in what.
    """
    floor = 0.0 if require is Requirement.BETTER else -NON_INFERIORITY_MARGIN
    if not comparison.accuracy.low > floor:
        raise CandidateRejected(
            f"{candidate} is not {require.value.replace('-', ' ')}: the interval of its gain in "
            f"balanced accuracy begins at {comparison.accuracy.low:+.4f}, not above {floor:g}",
            "the shipped model stays; train longer or on more data",
        )
    if comparison.calibration.low > 0:
        raise CandidateRejected(
            f"{candidate} has worse confidences: its calibration error grew by "
            f"{comparison.calibration.value:+.4f}, more than chance explains",
            "the shipped model stays; export it with more validation data",
        )
    if comparison.risk and comparison.risk.low > 0:
        raise CandidateRejected(
            f"{candidate} is wrong more often where it answers: the share of wrong labels among "
            f"those that count grew by {comparison.risk.value:+.4f}, more than chance explains",
            "the shipped model stays; export it with a smaller --risk",
        )
    if comparison.coverage and comparison.coverage.high < 0:
        raise CandidateRejected(
            f"{candidate} answers less: the share of samples that get their label changed by "
            f"{comparison.coverage.value:+.4f}, more than chance explains",
            "the shipped model stays; export it with a larger --risk",
        )


def check_compatible(candidate: Model, shipped: Model) -> None:
    """Make sure that one model can stand in for the other without anyone's noticing.

    Raises:
        Refused: they differ in name, labels, region, margin or input.
    """
    for what, new, old in _list_properties(candidate, shipped):
        if new != old:
            raise CandidateRejected(
                f"{candidate.path} can't replace {shipped.path}: its {what} is {new}, not {old}",
                "export it for the same purpose, or ship it under another name",
            )


def compare_models(
    candidate: Model, shipped: Model, part: Split, labels: tuple[str, ...]
) -> Comparison:
    """Run both models on the same samples; ``labels`` are the data's.

    Raises:
        ModelError: the data don't suit the models.
    """
    part = match_to_model(part, labels, shipped)
    new, old = predict_model(candidate, part), predict_model(shipped, part)
    comparison = compare_predictions(new, old, part.targets, len(shipped.spec.labels))
    if not shipped.spec.abstain:
        return comparison
    first, second = (
        decide_all(probabilities, model.spec.labels, get_thresholds(model.spec))
        for probabilities, model in ((new, candidate), (old, shipped))
    )
    risk, coverage = _compare_decisions(first, second, part.targets, len(shipped.spec.labels))
    return replace(comparison, risk=risk, coverage=coverage)


def compare_predictions(
    candidate: Probabilities, shipped: Probabilities, targets: Targets, labels: int | None = None
) -> Comparison:
    """Compare probabilities, float32 [n, K + A], of the same samples by a paired bootstrap.

    Each resample draws the same samples for both, so that what is hard for both cancels.
    ``labels`` is K, all outputs by default.
    """
    count = candidate.shape[1] if labels is None else labels
    new, old = (p.argmax(axis=1) == targets for p in (candidate, shipped))
    shown = targets < count
    first, second = (p[shown, :count].argmax(axis=1) for p in (candidate, shipped))
    counts = np.zeros((count, 2, 2), dtype=np.int64)
    truth = targets[shown]
    np.add.at(counts, (truth, (first == truth).astype(int), (second == truth).astype(int)), 1)
    gaps = np.hstack([calibration_gaps(p, targets) for p in (candidate, shipped)])
    return Comparison(
        samples=len(targets),
        accuracy=estimate_from_counts(_accuracy_gain, counts)[0] if shown.any() else NO_ESTIMATE,
        calibration=estimate_from_means(_calibration_growth, gaps),
        won=int((new & ~old).sum()),
        lost=int((old & ~new).sum()),
    )


def _compare_decisions(
    new: Decisions, old: Decisions, targets: Targets, labels: int
) -> tuple[Estimate, Estimate]:
    """Growth of the risk, and gain in coverage, by a paired bootstrap."""
    # Of each model: no label that counts, a wrong one, a right one.
    made = [
        np.where(d.outcome >= labels, 0, np.where(d.outcome == targets, 2, 1)) for d in (new, old)
    ]
    counts = np.zeros((labels + 1, 3, 3), dtype=np.int64)
    np.add.at(counts, (np.minimum(targets, labels), *made), 1)
    risk, coverage = estimate_from_counts(_risk_and_coverage, counts)
    return risk, coverage


def _risk_and_coverage(counts: Counts) -> Figures:
    """Differences from counts [..., class, candidate's answer, shipped one's]: [..., 2]."""
    figures = []
    for of_model in (counts.sum(-1), counts.sum(-2)):
        risk = safe_divide(of_model[..., 1].sum(-1), of_model[..., 1:].sum((-2, -1)))
        of_label = of_model[..., :-1, :]
        covered = np.nanmean(safe_divide(of_label[..., 2], of_label.sum(-1)), axis=-1)
        # Without an answer nothing is wrong.
        figures.append(np.stack([np.nan_to_num(risk), covered], axis=-1))
    growth: Figures = figures[0] - figures[1]
    return growth


def _accuracy_gain(counts: Counts) -> Figures:
    """Gain in balanced accuracy from counts [..., class, candidate right, shipped right]."""
    total = counts.sum((-2, -1))
    gains: Figures = np.nanmean(safe_divide(counts[..., 1, 0] - counts[..., 0, 1], total), axis=-1)
    return gains


def _calibration_growth(mean_gaps: Figures) -> Figures:
    new, old = np.split(mean_gaps, 2, axis=-1)
    return calibration_error(new) - calibration_error(old)


def _list_properties(candidate: Model, shipped: Model) -> Iterator[tuple[str, object, object]]:
    new, old = candidate.spec, shipped.spec
    yield "name", new.name, old.name
    yield "list of labels", [*new.labels], [*old.labels]
    yield "list of abstain outputs", [*new.abstain], [*old.abstain]
    yield "region", new.region.value, old.region.value
    yield "margin", new.margin, old.margin
    for side in ("height", "width", "channels"):
        yield f"input's {side}", getattr(candidate, side), getattr(shipped, side)


# == The gate for a model that has learnt from a review: has it, and what has it forgotten?

# What chance may explain of a difference, to either side: as the ends of a 95 % interval.
SIGNIFICANCE_LEVEL = 0.025
REJECTED_REMEDY = "the shipped model stays; review more photos, or train on more data"


def read_held_out(review: Review, candidate: Model, shipped: Model) -> ReviewedData:
    """Read a review as two models take it, which have the same labels.

    Its classes are all that either of the two can answer.

    Raises:
        BadReview, InputError: as ``read_reviewed`` does.
    """
    classes = (*shipped.spec.labels, *_list_abstain_outputs(candidate, shipped))
    return read_reviewed(review, classes, derive_framing(shipped))


def compare_reviewed(
    candidate: Model, shipped: Model, held: Split | None, labels: tuple[str, ...]
) -> Comparison:
    """Run both models on held-out reviewed samples.

    A model that has no output for a class, as ``neither``, is wrong on all samples of that class.

    Args:
        candidate: the new model.
        shipped: the old one, with the same labels.
        held: the samples, cut as both models take them.
        labels: the classes of ``held``; samples of other classes than the models' are not compared.

    Raises:
        InputError: there are none.
        ModelError: ``labels`` lack one of the models'.
    """
    classes = (*shipped.spec.labels, *_list_abstain_outputs(candidate, shipped))
    held = None if held is None else _select_classes(held, classes, labels, shipped)
    if held is None or not len(held):
        raise InputError("no reviewed sample is held out", "review more photos: a fifth is held")
    new, old = (
        _spread_columns(predict_model(m, held), m.spec.outputs, classes)
        for m in (candidate, shipped)
    )
    return compare_predictions(new, old, held.targets)


def _list_abstain_outputs(*models: Model) -> tuple[str, ...]:
    """Name the abstain outputs that any of the models has."""
    return tuple(
        name.value for name in Abstain if any(name in model.spec.abstain for model in models)
    )


def _select_classes(
    held: Split, classes: tuple[str, ...], labels: tuple[str, ...], model: Model
) -> Split:
    """Keep the samples of ``classes``, with votes for them; the data may lack abstain classes."""
    shared = tuple(name for name in classes if name not in set(Abstain) or name in labels)
    columns = find_columns(shared, labels, model.path)
    keep = np.isin(held.targets, columns)
    votes = _spread_columns(held.votes[keep][:, list(columns)], shared, classes)
    return replace(select_samples(held, keep), votes=votes)


def _spread_columns(
    values: Probabilities, outputs: tuple[str, ...], classes: tuple[str, ...]
) -> Probabilities:
    """Put the columns of float32 [n, outputs] in the order of ``classes``, 0 where it has none."""
    spread = np.zeros((len(values), len(classes)), dtype=np.float32)
    spread[:, [classes.index(output) for output in outputs]] = values
    return spread


def check_reviewed(
    reviewed: Comparison, usual: Comparison | None, require: Requirement, candidate: Path
) -> None:
    """Make sure that a candidate has learnt from a review without forgetting what it knew.

    ``reviewed`` are held-out reviewed samples, ``usual`` those of the data, None where there are
    none. Better means better on one of the two and not worse on the other. Reviewed samples are
    few: there a sign test decides, which is exact for any number; the data must prove, as ever,
    that at most ``gate.MARGIN`` is lost. People review the least certain answers, on which
    confidences can't be judged.

    Raises:
        Refused: it is not; the message says in what.
        UsageError: without data the candidate can't be proved to be as good.
    """
    if sign_test(reviewed.lost, reviewed.won) <= SIGNIFICANCE_LEVEL:
        raise CandidateRejected(f"{candidate} is worse on what people reviewed", REJECTED_REMEDY)
    learnt = sign_test(reviewed.won, reviewed.lost) <= SIGNIFICANCE_LEVEL
    if usual is not None:
        as_good = learnt or require is Requirement.AS_GOOD
        check_comparison(usual, Requirement.AS_GOOD if as_good else Requirement.BETTER, candidate)
    elif require is Requirement.AS_GOOD:
        raise UsageError("a few reviewed samples can't prove a model as good", "give --data, too")
    elif not learnt:
        raise CandidateRejected(
            f"{candidate} is not better: it is right on {reviewed.won} of {reviewed.samples} "
            f"reviewed samples where {reviewed.lost} went wrong, which chance explains",
            REJECTED_REMEDY,
        )


def sign_test(wins: int, losses: int) -> float:
    """Chance of so many wins or more where both are as likely: the one-sided sign test.

    It is McNemar's test of paired answers (Psychometrika 12, 1947) in its exact form.
    """
    n = wins + losses
    ways: int = sum(math.comb(n, k) for k in range(wins, n + 1))
    return float(ways / 2**n)
