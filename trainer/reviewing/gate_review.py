"""The gate for a model that has learnt from a review: has it, and what has it forgotten?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.errors import InputError, UsageError
from batch.models.model import Model
from batch.records import Abstain
from trainer.data import Split, select_samples
from trainer.evaluate import find_columns
from trainer.evaluation.bootstrap import sign_test
from trainer.evaluation.metrics import Probabilities
from trainer.exporting.models import derive_framing, predict_model
from trainer.gate import (
    CandidateRejected,
    Comparison,
    Requirement,
    check_comparison,
    compare_predictions,
)
from trainer.reviewing.review import Review
from trainer.reviewing.reviewed import ReviewedData, read_reviewed

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
