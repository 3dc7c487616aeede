from __future__ import annotations

import numpy as np
import torch

from trainer.datasets.dataset import Split
from trainer.training.validation import Validation, evaluate_logits

LABELS = ("a", "b", "c")


def evaluate(
    answers: list[int], targets: list[int], certain: list[bool] | None = None
) -> Validation:
    count = len(answers)
    part = Split(
        np.zeros((count, 2, 2, 1), np.uint8),
        np.eye(3, dtype=np.float32)[targets],
        np.array(certain or [True] * count),
    )
    return evaluate_logits(torch.eye(3)[answers] * 5, part, LABELS)


def test_recall_is_of_each_class_and_none_for_a_missing_one() -> None:
    measured = evaluate([0, 0, 1, 1], [0, 1, 1, 1])
    assert measured.recall == {"a": 1.0, "b": 2 / 3, "c": None}
    assert measured.accuracy == 0.75
    assert measured.loss == float(measured.losses.mean(dtype=np.float64))
    # Accuracy and recall are of certain samples only, the loss is of all.
    measured = evaluate([0, 0, 1], [0, 1, 1], [True, False, True])
    assert measured.recall == {"a": 1.0, "b": 1.0, "c": None}
    assert len(measured.losses) == 3


def test_the_worst_class_is_named_if_it_is_worse_beyond_chance() -> None:
    targets = [0] * 30 + [1] * 30 + [2] * 30
    answers = [0] * 30 + [1] * 30 + [2] * 12 + [0] * 18
    assert evaluate(answers, targets).worst == "recall of c 0.40 (12 of 30), of the others 1.00"
    assert evaluate([0, 0, 0, 1], [0, 0, 2, 1]).worst == ""
    assert evaluate([0] * 30, [0] * 30).worst == ""
    assert evaluate([0] * 29 + [1], [0] * 30, [False] * 30).worst == ""
