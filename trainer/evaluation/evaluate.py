"""How right a model's answers are, and how far its probabilities can be believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from batch.errors import ModelError
from batch.models.ensemble import Thresholds
from batch.models.model import Model, ModelSpec
from batch.records import Abstain
from trainer.datasets.dataset import (
    Groups,
    Split,
    canonical_label,
    keep_agreed,
    merge_classes,
    select_abstain_classes,
)
from trainer.evaluation.exported_models import predict_model
from trainer.evaluation.metrics import (
    Estimate,
    Probabilities,
    Reliability,
    Targets,
    accuracy,
    balanced_accuracy,
    calibration_error,
    calibration_gaps,
    confusion_matrix,
    estimate_from_counts,
    estimate_from_means,
    estimate_to_json,
    log_loss,
    macro_f1,
    recall,
    reliability,
)
from trainer.evaluation.selective import (
    SelectiveMetrics,
    decide_all,
    measure_selective,
    selective_to_json,
)


@dataclass(frozen=True)
class Evaluation:
    """A model's answers against the truth, over samples people agreed on.

    ``recall`` has one share a label, in the order of ``labels``; ``confusion`` counts
    samples, a row for each true label and a column for each answer; ``log_loss`` is in nats.
    The ``labels`` include the abstain outputs of a model that has some, and ``selective`` tells
    what its decisions come to.
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
    selective: SelectiveMetrics | None = None


def evaluate(probabilities: Probabilities, targets: Targets, labels: tuple[str, ...]) -> Evaluation:
    """Compare probabilities, float32 [n, K], with true classes, int64 [n]; n is not 0.

    The intervals are from 2,000 bootstrap samples, always the same ones.
    """
    counts = confusion_matrix(probabilities.argmax(axis=1), targets, len(labels))
    error = estimate_from_means(calibration_error, calibration_gaps(probabilities, targets))
    return Evaluation(
        labels=labels,
        samples=len(targets),
        accuracy=estimate_from_counts(accuracy, counts)[0],
        balanced_accuracy=estimate_from_counts(balanced_accuracy, counts)[0],
        macro_f1=estimate_from_counts(macro_f1, counts)[0],
        recall=estimate_from_counts(recall, counts),
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
        calibration_error=replace(error, low=max(0.0, error.low)),
        log_loss=log_loss(probabilities, targets),
        reliability=reliability(probabilities, targets),
    )


def evaluate_model(model: Model, part: Split, labels: tuple[str, ...]) -> Evaluation:
    """Run a model file as the runner does, on the samples people agreed on.

    ``labels`` are the classes of ``part``, which is mapped to the model's outputs.

    Raises:
        ModelError: the model takes other pictures, or knows a label the data lack.
    """
    part = match_to_model(part, labels, model)
    return evaluate_outputs(predict_model(model, part), part, model.spec)


def evaluate_outputs(probabilities: Probabilities, part: Split, spec: ModelSpec) -> Evaluation:
    """Compare a model's answers, float32 [n, K + A], with a part of its own classes.

    If it has abstain outputs, its decisions by its own thresholds are measured as well.
    """
    evaluation = evaluate(probabilities, part.targets, spec.outputs)
    if not spec.abstain:
        return evaluation
    made = decide_all(probabilities, spec.labels, get_thresholds(spec))
    found = measure_selective(made, part.targets, spec.labels, spec.abstain, part.kinds)
    return replace(evaluation, selective=found)


def get_thresholds(spec: ModelSpec) -> Thresholds:
    """Give the thresholds that a model brings along."""
    return Thresholds(spec.unsure_below, spec.abstain_from)


def match_to_model(part: Split, labels: tuple[str, ...], model: Model) -> Split:
    """Keep what a model can be measured on: certain samples, of its outputs in their order.

    Raises:
        ModelError: the model takes other pictures, or knows a label the data lack.
    """
    shape = (model.height, model.width, model.channels)
    if part.pixels.shape[1:] != shape:
        raise ModelError(
            f"model {model.path} takes pictures of {shape}, the data are {part.pixels.shape[1:]}",
            "give data of the model's own kind",
        )
    groups = map_classes(model.spec, labels, model.path)
    kept = keep_agreed(merge_classes(part, groups, len(model.spec.outputs)))
    if not len(kept):
        raise ModelError(
            f"the data have no sample of {', '.join(model.spec.labels)}", "give data that do"
        )
    return kept


def map_classes(spec: ModelSpec, labels: tuple[str, ...], model: Path | str) -> Groups:
    """Find the output of a model for each class of the data: int64 [classes], -1 for none.

    The output ``neither`` is right for the data's ``neither`` and for every label that the model
    does not know.

    Raises:
        ModelError: the data lack a label of the model.
    """
    groups = np.full(len(labels), -1)
    groups[list(find_columns(spec.labels, labels, model))] = np.arange(len(spec.labels))
    outputs = {name: n for n, name in enumerate(spec.outputs)}
    for n, label in enumerate(labels):
        if groups[n] < 0:
            reason = label if label in select_abstain_classes(labels) else Abstain.NEITHER
            groups[n] = outputs.get(reason, -1)
    return groups


def find_columns(
    wanted: tuple[str, ...], labels: tuple[str, ...], model: Path | str
) -> tuple[int, ...]:
    """Find each label of a model among the data's, by its name or by a synonym.

    Raises:
        ModelError: the data have no such label.
    """
    known = [canonical_label(label) for label in labels]
    missing = [label for label in wanted if canonical_label(label) not in known]
    if missing:
        raise ModelError(
            f"model {model} knows {', '.join(missing)}, the data only {', '.join(labels)}",
            "give data that show all labels of the model",
        )
    return tuple(known.index(canonical_label(label)) for label in wanted)


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Write an evaluation as plain values for JSON, rounded to 4 digits."""
    return {
        "samples": evaluation.samples,
        "accuracy": estimate_to_json(evaluation.accuracy),
        "balanced_accuracy": estimate_to_json(evaluation.balanced_accuracy),
        "macro_f1": estimate_to_json(evaluation.macro_f1),
        "recall": {
            label: estimate_to_json(share)
            for label, share in zip(evaluation.labels, evaluation.recall, strict=True)
        },
        "confusion": [list(row) for row in evaluation.confusion],
        "calibration_error": estimate_to_json(evaluation.calibration_error),
        "log_loss": round(evaluation.log_loss, 4),
        **({"selective": selective_to_json(evaluation.selective)} if evaluation.selective else {}),
    }
