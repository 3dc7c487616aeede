"""The gate for a model that has learnt from a review: has it, and what has it forgotten?"""

from __future__ import annotations

from pathlib import Path

from batch.contract.model import Model
from batch.errors import InputError, UsageError
from trainer.data import Part
from trainer.evaluation.bootstrap import chance_of
from trainer.exporting.models import framing_for
from trainer.gate import Comparison, Refused, Require, check, compare_models
from trainer.reviewing.review import Review
from trainer.reviewing.reviewed import read_reviewed

# What chance may explain of a difference, to either side: as the ends of a 95 % interval.
CHANCE = 0.025
STAYS = "the shipped model stays; review more photos, or train on more data"


def held_out(review: Review, model: Model) -> Part:
    """Cut the held-out reviewed samples as a model takes them.

    Raises:
        BadReview, InputError: as ``read_reviewed`` does.
    """
    reviewed = read_reviewed(review, model.spec.outputs, framing_for(model))
    return reviewed.part(reviewed.held)


def compare_reviewed(
    candidate: Model, shipped: Model, held: Part | None, labels: tuple[str, ...]
) -> Comparison:
    """Run both models on held-out reviewed samples; ``labels`` are those of ``held``.

    Raises:
        InputError: there are none.
    """
    if held is None or not len(held):
        raise InputError("no reviewed sample is held out", "review more photos: a fifth is held")
    return compare_models(candidate, shipped, held, labels)


def check_reviewed(
    reviewed: Comparison, usual: Comparison | None, require: Require, candidate: Path
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
    if chance_of(reviewed.lost, reviewed.won) <= CHANCE:
        raise Refused(f"{candidate} is worse on what people reviewed", STAYS)
    learnt = chance_of(reviewed.won, reviewed.lost) <= CHANCE
    if usual is not None:
        as_good = learnt or require is Require.AS_GOOD
        check(usual, Require.AS_GOOD if as_good else Require.BETTER, candidate)
    elif require is Require.AS_GOOD:
        raise UsageError("a few reviewed samples can't prove a model as good", "give --data, too")
    elif not learnt:
        raise Refused(
            f"{candidate} is not better: it is right on {reviewed.won} of {reviewed.samples} "
            f"reviewed samples where {reviewed.lost} went wrong, which chance explains",
            STAYS,
        )
