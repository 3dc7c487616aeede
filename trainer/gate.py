"""Whether a new model may take a shipped one's place: better on the same samples, or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from batch.contract.model import Model
from batch.errors import BatchLabelError
from trainer.data import Part
from trainer.evaluate import answers, suited
from trainer.evaluation.bootstrap import Estimate, of_counts, of_means
from trainer.evaluation.metrics import (
    Counts,
    Figures,
    Probabilities,
    Targets,
    calibration_error,
    calibration_gaps,
    share,
)

# How much balanced accuracy a candidate that only has to be as good may at most have lost.
MARGIN = 0.01


class Require(StrEnum):
    """What a candidate must prove; ``as-good`` suits a smaller or a faster one."""

    BETTER = "better"
    AS_GOOD = "as-good"


class Refused(BatchLabelError):
    """The candidate may not take the shipped model's place."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the shipped model on the same samples.

    ``accuracy`` is the gain in balanced accuracy, ``calibration`` the growth of the expected
    calibration error, both candidate minus shipped. ``won`` counts the samples that the
    candidate alone got right, ``lost`` those that it alone got wrong.
    """

    samples: int
    accuracy: Estimate
    calibration: Estimate
    won: int
    lost: int


def check(comparison: Comparison, require: Require, candidate: Path) -> None:
    """Make sure that a candidate is good enough to take the shipped model's place.

    Better means that the 95 % interval of the gain lies above 0, as good that it lies
    above -``MARGIN``. Calibration may not have become worse by more than chance explains:
    the interval of its growth must not lie above 0.

    Raises:
        Refused: it is not; the message says in what.
    """
    floor = 0.0 if require is Require.BETTER else -MARGIN
    if not comparison.accuracy.low > floor:
        raise Refused(
            f"{candidate} is not {require.value.replace('-', ' ')}: the interval of its gain in "
            f"balanced accuracy begins at {comparison.accuracy.low:+.4f}, not above {floor:g}",
            "the shipped model stays; train longer or on more data",
        )
    if comparison.calibration.low > 0:
        raise Refused(
            f"{candidate} has worse confidences: its calibration error grew by "
            f"{comparison.calibration.value:+.4f}, more than chance explains",
            "the shipped model stays; export it with more validation data",
        )


def check_kind(candidate: Model, shipped: Model) -> None:
    """Make sure that one model can stand in for the other without anyone's noticing.

    Raises:
        Refused: they differ in name, labels, region, margin or input.
    """
    for what, new, old in _differences(candidate, shipped):
        if new != old:
            raise Refused(
                f"{candidate.path} can't replace {shipped.path}: its {what} is {new}, not {old}",
                "export it for the same purpose, or ship it under another name",
            )


def compare_models(
    candidate: Model, shipped: Model, part: Part, labels: tuple[str, ...]
) -> Comparison:
    """Run both models on the same samples; ``labels`` are the data's.

    Raises:
        ModelError: the data don't suit the models.
    """
    part = suited(part, labels, shipped)
    return compare_answers(answers(candidate, part), answers(shipped, part), part.targets)


def compare_answers(
    candidate: Probabilities, shipped: Probabilities, targets: Targets
) -> Comparison:
    """Compare probabilities, float32 [n, K], of the same samples by a paired bootstrap.

    Each resample draws the same samples for both, so that what is hard for both cancels.
    """
    new, old = (p.argmax(axis=1) == targets for p in (candidate, shipped))
    counts = np.zeros((candidate.shape[1], 2, 2), dtype=np.int64)
    np.add.at(counts, (targets, new.astype(int), old.astype(int)), 1)
    gaps = np.hstack([calibration_gaps(p, targets) for p in (candidate, shipped)])
    return Comparison(
        samples=len(targets),
        accuracy=of_counts(_gain, counts)[0],
        calibration=of_means(_growth, gaps),
        won=int((new & ~old).sum()),
        lost=int((old & ~new).sum()),
    )


def _gain(counts: Counts) -> Figures:
    """Gain in balanced accuracy from counts [..., class, candidate right, shipped right]."""
    total = counts.sum((-2, -1))
    gains: Figures = np.nanmean(share(counts[..., 1, 0] - counts[..., 0, 1], total), axis=-1)
    return gains


def _growth(mean_gaps: Figures) -> Figures:
    new, old = np.split(mean_gaps, 2, axis=-1)
    return calibration_error(new) - calibration_error(old)


def _differences(candidate: Model, shipped: Model) -> Iterator[tuple[str, object, object]]:
    new, old = candidate.spec, shipped.spec
    yield "name", new.name, old.name
    yield "list of labels", [*new.labels], [*old.labels]
    yield "region", new.region.value, old.region.value
    yield "margin", new.margin, old.margin
    for side in ("height", "width", "channels"):
        yield f"input's {side}", getattr(candidate, side), getattr(shipped, side)
