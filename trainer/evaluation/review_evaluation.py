"""How right a model is on answers that people reviewed, beside what the report had said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import batch
from batch.errors import InputError, UsageError
from batch.location import Location, Url
from batch.models.ensemble import load_ensemble
from batch.models.model import Model
from batch.options import Options, Provider
from batch.records import Answer, Failure
from batch.vision.decide import decide
from batch.vision.read_file import read_file
from trainer.datasets.review import Review, Verdict, read_review, select_photo_verdicts
from trainer.datasets.reviewed_samples import (
    TRAIN_SPLIT,
    check_labels,
    find_label,
    log_skipped,
    read_reviewed,
    select_known_labels,
)
from trainer.datasets.samples import assign_split
from trainer.evaluation.evaluate import get_thresholds
from trainer.evaluation.exported_models import derive_framing, predict_model, resolve_default_name
from trainer.evaluation.metrics import (
    Counts,
    Estimate,
    Figures,
    estimate_from_counts,
    estimate_to_json,
    safe_divide,
)

TEST_SPLIT, ALL_SPLITS = "test", "all"


@dataclass(frozen=True)
class ReviewEvaluation:
    """Answers then, by the report, and now, by a model, on the same reviewed faces or photos.

    ``corrected`` and ``confirmed`` look at those where the report was wrong and right, with their
    numbers ``corrections`` and ``confirmations``; no answer counts as wrong.
    """

    corrections: int
    confirmations: int
    before: Estimate
    now: Estimate
    corrected: Estimate
    confirmed: Estimate


def evaluate_review(model: Model, review: Review, split: str) -> ReviewEvaluation:
    """Ask a model again about what was reviewed: the held-out part, ``test``, or ``all``.

    Its answers are decided by its own thresholds, as the runner does for a model by itself.

    Raises:
        UsageError: there is no such part of a review.
        InputError: the part is empty, or a label is none of the model's.
    """
    _check_split(split)
    spec = model.spec
    reviewed = read_reviewed(review, spec.outputs, derive_framing(model))
    samples = (*reviewed.held, *reviewed.learn) if split == ALL_SPLITS else reviewed.held
    _check_not_empty(len(samples), review)
    thresholds = get_thresholds(spec)
    found = (
        decide(probabilities, spec.labels, thresholds)
        for probabilities in predict_model(model, reviewed.get_split(samples))
    )
    right = [
        spec.outputs.index(_answer_text(answer)) == sample.label
        for answer, sample in zip(found, samples, strict=True)
    ]
    return compare_with_report([sample.confirms for sample in samples], right)


def evaluate_review_end_to_end(model: str, review: Review, split: str) -> ReviewEvaluation:
    """Label the reviewed photos again as ``batch-label`` does, on the CPU.

    ``model`` is what the runner's own ``--model`` takes, or ``default``. Reviews of single faces
    count as far as they say what the photo's answer is. Photos that are gone, or in stores
    and archives, are passed over, and so are those whose right answer the models can't give.

    Raises:
        UsageError, InputError: as ``evaluate_review`` does.
        BatchLabelError: the run can't go on.
    """
    _check_split(split)
    options = Options(model=resolve_default_name(model), provider=Provider.CPU)
    outputs = load_ensemble(options).outputs
    photos, unsuited = select_photo_verdicts(read_review(review))
    check_labels(photos, outputs)
    known, unknown = select_known_labels(photos, outputs)
    log_skipped([*unsuited, *unknown])
    chosen = {verdict.path: verdict for verdict in known if _is_in_split(verdict.path, split)}
    _check_not_empty(len(chosen), review)
    found = {row.path: row.answer for row in batch.label(list(chosen), options)}
    confirms = [verdict.confirms for verdict in chosen.values()]
    return compare_with_report(
        confirms, [_is_right(found.get(path), v) for path, v in chosen.items()]
    )


def compare_with_report(confirms: Sequence[bool], right: Sequence[bool]) -> ReviewEvaluation:
    """Compare what was right then with what is right now, sample by sample; there is one or more.

    The intervals are from 2,000 bootstrap samples, always the same ones.
    """
    counts = np.zeros((2, 2), dtype=np.int64)
    np.add.at(counts, (np.asarray(confirms, dtype=int), np.asarray(right, dtype=int)), 1)
    before, now, corrected, confirmed = estimate_from_counts(_compute_shares, counts)
    corrections, confirmations = (int(n) for n in counts.sum(axis=1))
    return ReviewEvaluation(corrections, confirmations, before, now, corrected, confirmed)


def review_evaluation_to_json(retrial: ReviewEvaluation) -> dict[str, Any]:
    """Write them as plain values for JSON, rounded to 4 digits."""
    return {
        "reviewed": retrial.corrections + retrial.confirmations,
        "corrections": retrial.corrections,
        "confirmations": retrial.confirmations,
        "before": estimate_to_json(retrial.before),
        "now": estimate_to_json(retrial.now),
        "corrected": estimate_to_json(retrial.corrected),
        "confirmed": estimate_to_json(retrial.confirmed),
    }


def _compute_shares(counts: Counts) -> Figures:
    """Shares of right answers from counts [..., report right, model right]."""
    of_report, of_model = counts.sum(-1), counts.sum(-2)
    total = counts.sum((-2, -1))
    parts = (of_report[..., 1], of_model[..., 1], counts[..., 0, 1], counts[..., 1, 1])
    wholes = (total, total, of_report[..., 0], of_report[..., 1])
    return np.stack(
        [safe_divide(part, whole) for part, whole in zip(parts, wholes, strict=True)], -1
    )


def _check_split(split: str) -> None:
    if split not in (TEST_SPLIT, ALL_SPLITS):
        raise UsageError(
            f"a review has no {split} part", f"give --split {TEST_SPLIT} or {ALL_SPLITS}"
        )


def _check_not_empty(found: int, review: Review) -> None:
    if not found:
        files = ", ".join(map(str, review.files))
        raise InputError(
            f"{files} has nothing to judge by in this part",
            f"review more photos, or give --split {ALL_SPLITS} for a model that learnt from none of them",
        )


def _is_in_split(path: Location, split: str) -> bool:
    data = None if isinstance(path, Url) else read_file(path)
    if data is None or isinstance(data, Failure):
        return False
    return split == ALL_SPLITS or assign_split(hashlib.sha256(data).hexdigest()) != TRAIN_SPLIT


def _is_right(answer: Answer | None, verdict: Verdict) -> bool:
    return answer is not None and find_label(verdict.label, (_answer_text(answer),)) == 0


def _answer_text(answer: Answer) -> str:
    """Give an answer's label, or the status that takes its place."""
    return answer.status.value if answer.label is None else answer.label
