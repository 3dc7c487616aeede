"""How right a model's answers are, and how far its probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batch.classify import Classifier
from batch.contract.model import Model
from batch.errors import ModelError
from batch.options import Provider
from trainer.data import Part, narrow
from trainer.datasets.ferplus import SYNONYMS
from trainer.evaluation.bootstrap import Estimate, of_counts, of_means
from trainer.evaluation.metrics import (
    Probabilities,
    Reliability,
    Targets,
    accuracy,
    balanced_accuracy,
    calibration_error,
    calibration_gaps,
    confusion_matrix,
    log_loss,
    macro_f1,
    recall,
    reliability,
)

BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """A model's answers against the truth, over samples people agreed on.

    ``recall`` has one share a label, in the order of ``labels``; ``confusion`` counts
    samples, a row for each true label and a column for each answer; ``log_loss`` is in nats.
    """

    labels: tuple[str, ...]
    samples: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    recall: tuple[Estimate, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: Estimate
    log_loss: float
    reliability: Reliability


def evaluate(probabilities: Probabilities, targets: Targets, labels: tuple[str, ...]) -> Evaluation:
    """Compare probabilities, float32 [n, K], with true classes, int64 [n]; n is not 0.

    The intervals are from 2,000 bootstrap samples, always the same ones.
    """
    counts = confusion_matrix(probabilities.argmax(axis=1), targets, len(labels))
    error = of_means(calibration_error, calibration_gaps(probabilities, targets))
    return Evaluation(
        labels=labels,
        samples=len(targets),
        accuracy=of_counts(accuracy, counts)[0],
        balanced_accuracy=of_counts(balanced_accuracy, counts)[0],
        macro_f1=of_counts(macro_f1, counts)[0],
        recall=of_counts(recall, counts),
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
        calibration_error=replace(error, low=max(0.0, error.low)),
        log_loss=log_loss(probabilities, targets),
        reliability=reliability(probabilities, targets),
    )


def evaluate_model(model: Model, part: Part, labels: tuple[str, ...]) -> Evaluation:
    """Run a model file as the runner does, on the samples people agreed on.

    ``labels`` are those of ``part``, which is narrowed to the model's.

    Raises:
        ModelError: the model takes other pictures, or knows a label the data lack.
    """
    part = suited(part, labels, model)
    return evaluate(answers(model, part), part.targets, model.spec.labels)


def suited(part: Part, labels: tuple[str, ...], model: Model) -> Part:
    """Keep what a model can be measured on: certain samples of its labels, in its order.

    Raises:
        ModelError: the model takes other pictures, or knows a label the data lack.
    """
    shape = (model.height, model.width, model.channels)
    if part.pixels.shape[1:] != shape:
        raise ModelError(
            f"model {model.path} takes pictures of {shape}, the data are {part.pixels.shape[1:]}",
            "give data of the model's own kind",
        )
    kept = certain(narrow(part, columns_of(model.spec.labels, labels, model.path)))
    if not len(kept):
        raise ModelError(
            f"the data have no sample of {', '.join(model.spec.labels)}", "give data that do"
        )
    return kept


def answers(model: Model, part: Part) -> Probabilities:
    """Run a model file on the CPU as the runner does: float32 [n, K]."""
    return Classifier(model, Provider.CPU, BATCH).classify(part.pixels)


def columns_of(
    wanted: tuple[str, ...], labels: tuple[str, ...], model: Path | str
) -> tuple[int, ...]:
    """Find each label of a model among the data's, by its name or by a synonym.

    Raises:
        ModelError: the data have no such label.
    """
    known = [canonical(label) for label in labels]
    missing = [label for label in wanted if canonical(label) not in known]
    if missing:
        raise ModelError(
            f"model {model} knows {', '.join(missing)}, the data only {', '.join(labels)}",
            "give data that show all labels of the model",
        )
    return tuple(known.index(canonical(label)) for label in wanted)


def canonical(label: str) -> str:
    """Give the one name that a label and its synonyms share."""
    return SYNONYMS.get(label, label)


def certain(part: Part) -> Part:
    """Keep the samples whose class people agreed on."""
    keep = part.certain
    return Part(part.pixels[keep], part.votes[keep], part.certain[keep])


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Write an evaluation as plain values for JSON, rounded to 4 digits."""
    return {
        "samples": evaluation.samples,
        "accuracy": plain(evaluation.accuracy),
        "balanced_accuracy": plain(evaluation.balanced_accuracy),
        "macro_f1": plain(evaluation.macro_f1),
        "recall": {
            label: plain(share)
            for label, share in zip(evaluation.labels, evaluation.recall, strict=True)
        },
        "confusion": [list(row) for row in evaluation.confusion],
        "calibration_error": plain(evaluation.calibration_error),
        "log_loss": round(evaluation.log_loss, 4),
    }


def plain(estimate: Estimate) -> Mapping[str, float] | None:
    """Write an estimate for JSON, which has no "not a number": that is None."""
    if np.isnan(estimate.value):
        return None
    return {end: round(value, 4) for end, value in asdict(estimate).items()}
