"""Evaluates models: accuracy, recall, calibration, and their decisions."""

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
    Texts,
    canonical_label,
    keep_agreed,
    merge_classes,
    select_abstain_classes,
)
from trainer.evaluation.calibration_error import estimate_calibration_error
from trainer.evaluation.exported_models import predict_model
from trainer.evaluation.metrics import (
    Estimate,
    Probabilities,
    Reliability,
    Targets,
    confusion_matrix,
    count_independent,
    estimate_from_counts,
    estimate_mean,
    estimate_shares,
    estimate_to_json,
    log_loss,
    macro_f1,
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
    """Metrics of a model on samples with an agreed class.

    Attributes:
        labels: the labels and abstain outputs.
        samples: number of samples.
        independent: their number if those of a group count as one.
        accuracy: share of right answers.
        balanced_accuracy: mean recall.
        macro_f1: mean F1.
        recall: one share per label.
        confusion: samples by true label (rows) and answer (columns).
        calibration_error: expected calibration error, 0 to 1, without the bias of few samples; NaN
            for fewer than ``MIN_CALIBRATION_SAMPLES``.
        log_loss: in nats.
        reliability: the reliability diagram.
        selective: metrics of the decisions of a model with abstain outputs.
    """

    labels: tuple[str, ...]
    samples: int
    independent: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    recall: tuple[Estimate, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: Estimate
    log_loss: float
    reliability: Reliability
    selective: SelectiveMetrics | None = None


def evaluate(
    probabilities: Probabilities,
    targets: Targets,
    labels: tuple[str, ...],
    groups: Texts | None = None,
) -> Evaluation:
    """Compare probabilities with true classes.

    The intervals of accuracy, balanced accuracy and recall count the samples of a group as one,
    because they depend on each other.

    Args:
        probabilities: float32 [n, K], n > 0.
        targets: int64 [n].
        labels: the K classes.
        groups: text [n], see ``Split``; None if no sample has one.
    """
    groups = np.full(len(targets), "") if groups is None else groups
    counts = confusion_matrix(probabilities.argmax(axis=1), targets, len(labels))
    right = counts.diagonal()
    independent = count_independent(groups)
    of_class = [count_independent(groups[targets == n]) for n in range(len(labels))]
    recall = estimate_shares(right, counts.sum(axis=1), np.array(of_class))
    return Evaluation(
        labels=labels,
        samples=len(targets),
        independent=independent,
        accuracy=estimate_shares(
            np.array([right.sum()]), np.array([counts.sum()]), np.array([independent])
        )[0],
        balanced_accuracy=estimate_mean(recall),
        macro_f1=estimate_from_counts(macro_f1, counts, np.full(counts.shape, 1 / counts.size))[0],
        recall=recall,
        confusion=tuple(tuple(int(n) for n in row) for row in counts),
        calibration_error=estimate_calibration_error(probabilities, targets),
        log_loss=log_loss(probabilities, targets),
        reliability=reliability(probabilities, targets),
    )


def evaluate_model(model: Model, part: Split, labels: tuple[str, ...]) -> Evaluation:
    """Evaluate a model on the samples with an agreed class; it runs as in the runner.

    Args:
        model: the model.
        part: the samples.
        labels: the classes of ``part``, which are mapped to the model's outputs.

    Raises:
        ModelError: the model's input has another shape, or the data lack one of its labels.
    """
    part = match_to_model(part, labels, model)
    return evaluate_outputs(predict_model(model, part), part, model.spec)


def evaluate_outputs(probabilities: Probabilities, part: Split, spec: ModelSpec) -> Evaluation:
    """Evaluate answers, float32 [n, K + A], on samples whose classes are the model's outputs.

    The decisions of a model with abstain outputs are evaluated with its own thresholds.
    """
    evaluation = evaluate(probabilities, part.targets, spec.outputs, part.groups)
    if not spec.abstain:
        return evaluation
    made = decide_all(probabilities, spec.labels, get_thresholds(spec))
    found = measure_selective(made, part.targets, spec.labels, spec.abstain, part.kinds)
    return replace(evaluation, selective=found)


def get_thresholds(spec: ModelSpec) -> Thresholds:
    """Return the thresholds in a model's metadata."""
    return Thresholds(spec.unsure_below, spec.abstain_from)


def match_to_model(part: Split, labels: tuple[str, ...], model: Model) -> Split:
    """Keep the samples with an agreed class, with the model's outputs as classes.

    Raises:
        ModelError: the model's input has another shape, or the data lack one of its labels.
    """
    shape = (model.height, model.width, model.channels)
    if part.pixels.shape[1:] != shape:
        raise ModelError(
            f"model {model.path} takes pictures of {shape}, the data are {part.pixels.shape[1:]}",
            "give data of the model's side and colours",
        )
    groups = map_classes(model.spec, labels, model.path)
    kept = keep_agreed(merge_classes(part, groups, len(model.spec.outputs)))
    if not len(kept):
        raise ModelError(
            f"the data have no sample of {', '.join(model.spec.labels)}", "give data that do"
        )
    return kept


def map_classes(spec: ModelSpec, labels: tuple[str, ...], model: Path | str) -> Groups:
    """Map each class of the data to an output of the model: int64 [classes], -1 for none.

    ``neither`` is the right output for the data's ``neither`` and for labels that the model lacks.

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
    """Find the index of each wanted label among the data's labels, by name or synonym.

    Raises:
        ModelError: the data lack one of them.
    """
    known = [canonical_label(label) for label in labels]
    missing = [label for label in wanted if canonical_label(label) not in known]
    if missing:
        raise ModelError(
            f"model {model} has the label {', '.join(missing)}, the data only {', '.join(labels)}",
            "give data with all labels of the model",
        )
    return tuple(known.index(canonical_label(label)) for label in wanted)


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Convert an evaluation to plain values for JSON, rounded to 4 digits."""
    return {
        "samples": evaluation.samples,
        "independent": evaluation.independent,
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
