"""How right a model's answers are, and how far its probabilities can be believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.classify import Classifier
from batch.contract import Model
from batch.errors import ModelError
from batch.options import Provider
from trainer.data import Part, narrow
from trainer.ferplus import SYNONYMS
from trainer.metrics import (
    Counts,
    Figures,
    Probabilities,
    Reliability,
    Targets,
    accuracy,
    balanced_accuracy,
    calibration_error,
    confusion_matrix,
    log_loss,
    macro_f1,
    recall,
    reliability,
)

RESAMPLES = 2000
BOOTSTRAP_SEED = 1
BATCH = 64
TABLE_CORNER = "true / answer"


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


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
    recall: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    log_loss: float
    reliability: Reliability


def evaluate(probabilities: Probabilities, targets: Targets, labels: tuple[str, ...]) -> Evaluation:
    """Compare probabilities, float32 [n, K], with true classes, int64 [n]; n is not 0.

    The intervals are from 2,000 bootstrap samples (Efron 1979), always the same ones.
    """
    counts = confusion_matrix(probabilities.argmax(axis=1), targets, len(labels))
    bins = reliability(probabilities, targets)
    return Evaluation(
        labels=labels,
        samples=len(targets),
        accuracy=_estimate(accuracy, counts),
        balanced_accuracy=_estimate(balanced_accuracy, counts),
        macro_f1=_estimate(macro_f1, counts),
        recall=tuple(float(share) for share in recall(counts)),
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
        calibration_error=calibration_error(bins),
        log_loss=log_loss(probabilities, targets),
        reliability=bins,
    )


def evaluate_model(model: Model, part: Part, labels: tuple[str, ...]) -> Evaluation:
    """Run a model file as the runner does, on the samples people agreed on.

    ``labels`` are those of ``part``, which is narrowed to the model's.

    Raises:
        ModelError: the model takes other pictures, or knows a label the data lack.
    """
    shape = (model.height, model.width, model.channels)
    if part.pixels.shape[1:] != shape:
        raise ModelError(
            f"model {model.path} takes pictures of {shape}, the data are {part.pixels.shape[1:]}",
            "give data of the model's own kind",
        )
    columns = columns_of(model.spec.labels, labels)
    part = certain(narrow(part, columns))
    if not len(part):
        raise ModelError(
            f"the data have no sample of {', '.join(model.spec.labels)}", "give data that do"
        )
    classifier = Classifier(model, Provider.CPU, BATCH)
    return evaluate(classifier.classify(part.pixels), part.targets, model.spec.labels)


def columns_of(wanted: tuple[str, ...], labels: tuple[str, ...]) -> tuple[int, ...]:
    """Find each wanted label among the data's, by its name or by a synonym.

    Raises:
        ModelError: the data have no such label.
    """
    canonical = [SYNONYMS.get(label, label) for label in labels]
    missing = [label for label in wanted if SYNONYMS.get(label, label) not in canonical]
    if missing:
        raise ModelError(
            f"the data have no label {', '.join(missing)}, only {', '.join(labels)}",
            "give data that show all labels of the model",
        )
    return tuple(canonical.index(SYNONYMS.get(label, label)) for label in wanted)


def certain(part: Part) -> Part:
    """Keep the samples whose class people agreed on."""
    keep = part.certain
    return Part(part.pixels[keep], part.votes[keep], part.certain[keep])


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Write an evaluation as plain values for JSON, rounded to 4 digits."""
    estimates = {
        name: {end: round(getattr(estimate, end), 4) for end in ("value", "low", "high")}
        for name, estimate in (
            ("accuracy", evaluation.accuracy),
            ("balanced_accuracy", evaluation.balanced_accuracy),
            ("macro_f1", evaluation.macro_f1),
        )
    }
    shares = zip(evaluation.labels, evaluation.recall, strict=True)
    return {
        "samples": evaluation.samples,
        **estimates,
        # JSON has no "not a number", which the recall of a class without samples is.
        "recall": {label: None if np.isnan(r) else round(r, 4) for label, r in shares},
        "confusion": [list(row) for row in evaluation.confusion],
        "calibration_error": round(evaluation.calibration_error, 4),
        "log_loss": round(evaluation.log_loss, 4),
    }


def _estimate(figure: Callable[[Counts], Figures], counts: Counts) -> Estimate:
    # Drawing n samples anew is drawing new counts for the cells of the matrix.
    chance = np.random.default_rng(BOOTSTRAP_SEED)
    total = int(counts.sum())
    drawn = chance.multinomial(total, counts.ravel() / total, size=RESAMPLES)
    low, high = np.quantile(figure(drawn.reshape(-1, *counts.shape)), [0.025, 0.975])
    return Estimate(float(figure(counts)), float(low), float(high))


def table(evaluation: Evaluation) -> str:
    """Lay an evaluation out as text for people, several lines."""
    width = max(len("macro F1"), len("balanced accuracy"), *map(len, evaluation.labels)) + 2
    lines = [f"{'samples':<{width}}{evaluation.samples}"]
    for name, estimate in (
        ("accuracy", evaluation.accuracy),
        ("balanced accuracy", evaluation.balanced_accuracy),
        ("macro F1", evaluation.macro_f1),
    ):
        interval = f"({estimate.low:.4f} to {estimate.high:.4f})"
        lines.append(f"{name:<{width}}{estimate.value:.4f} {interval}")
    lines.append(f"{'calibration error':<{width}}{evaluation.calibration_error:.4f}")
    lines.append(f"{'log loss':<{width}}{evaluation.log_loss:.4f}")
    column = max(7, *(len(label) + 2 for label in evaluation.labels))
    heads = "".join(f"{head:>{column}}" for head in (*evaluation.labels, "recall"))
    lines.extend(["", f"{TABLE_CORNER:<{width}}{heads}"])
    for label, row, share in zip(
        evaluation.labels, evaluation.confusion, evaluation.recall, strict=True
    ):
        cells = "".join(f"{n:>{column}}" for n in row)
        lines.append(f"{label:<{width}}{cells}{share:>{column}.4f}")
    return "\n".join(lines)
