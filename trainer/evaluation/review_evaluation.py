"""Evaluates a model on reviewed answers, and compares it with the answers of the report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import batch
from batch.errors import InputError, UsageError
from batch.location import Location, Url
from batch.models.ensemble import load_ensemble
from batch.models.model import Model
from batch.options import Options, Provider
from batch.records import Answer, Failure
from batch.share_interval import compute_share_interval
from batch.vision.decide import decide
from batch.vision.read_file import read_file
from trainer.datasets.review import Review, Verdict, read_review, select_photo_verdicts
from trainer.datasets.reviewed_samples import (
    CHANGED_REASON,
    ELSEWHERE_REASON,
    NOT_HELD_REASON,
    TRAIN_SPLIT,
    check_labels,
    explain_failure,
    find_label,
    log_skipped,
    read_reviewed,
    select_known_labels,
    select_of_sample,
)
from trainer.datasets.samples import Skipped, assign_split
from trainer.evaluation.evaluate import get_thresholds
from trainer.evaluation.exported_models import derive_framing, predict_model, resolve_default_name
from trainer.evaluation.metrics import NO_ESTIMATE, Estimate, estimate_to_json
from trainer.evaluation.trained_on import find_seen, find_trained_on, keep_unseen

TEST_SPLIT, ALL_SPLITS = "test", "all"
SEEN_REASON = "the model was trained on it"


@dataclass(frozen=True)
class ReviewEvaluation:
    """Accuracy of the report and of a model on the same reviewed faces or photos.

    A missing answer counts as wrong. Intervals count photos: faces of one photo depend on each
    other.

    Attributes:
        corrections: number of samples that the report got wrong.
        confirmations: number of samples that the report got right.
        before: accuracy of the report.
        now: accuracy of the model.
        corrected: accuracy of the model on the corrections.
        confirmed: accuracy of the model on the confirmations.
        is_random: whether the photos are of the random sample of the report, and no others.
        missing: answers of the random sample that are not measured, by reason.
    """

    corrections: int
    confirmations: int
    before: Estimate
    now: Estimate
    corrected: Estimate
    confirmed: Estimate
    is_random: bool = False
    missing: Mapping[str, int] = field(default_factory=dict)


def evaluate_review(model: Model, review: Review, split: str) -> ReviewEvaluation:
    """Evaluate a model on reviewed samples, with its own thresholds.

    Args:
        model: the model.
        review: the review files.
        split: ``test`` for the held-out samples, ``all`` for all of them.

    Raises:
        UsageError: the split is neither.
        InputError: the split is empty, the model was trained on all of it, or it lacks a label of
            the review.
    """
    _check_split(split)
    spec = model.spec
    reviewed = read_reviewed(review, spec.outputs, derive_framing(model))
    samples = reviewed.held
    if split == ALL_SPLITS:
        samples += (*reviewed.unsampled, *reviewed.learn)
    _check_not_empty(len(samples), review)
    part = reviewed.get_split(samples)
    known = find_trained_on(spec, str(model.path), None)
    seen = find_seen(part.pixels, [known])
    part = keep_unseen(part, [known])
    learnt = [
        (one.name, SEEN_REASON) for one, is_seen in zip(samples, seen, strict=True) if is_seen
    ]
    samples = tuple(one for one, is_seen in zip(samples, seen, strict=True) if not is_seen)
    thresholds = get_thresholds(spec)
    found = (
        decide(probabilities, spec.labels, thresholds)
        for probabilities in predict_model(model, part)
    )
    right = [
        spec.outputs.index(_answer_text(answer)) == sample.label
        for answer, sample in zip(found, samples, strict=True)
    ]
    return compare_with_report(
        [sample.confirms for sample in samples],
        right,
        [sample.digest for sample in samples],
        reviewed.is_random and split != ALL_SPLITS,
        [*reviewed.missing, *learnt],
    )


def evaluate_review_end_to_end(model: str, review: Review, split: str) -> ReviewEvaluation:
    """Label the reviewed photos again as ``batch-label`` does, on the CPU.

    Photos that can't be read, in stores or in archives are skipped, as are verdicts on single faces
    that do not decide the photo's answer, and labels that the models can't give.

    Args:
        model: as for the runner's ``--model``, or ``default``.
        review: the review files.
        split: ``test`` or ``all``, as for ``evaluate_review``.

    Raises:
        UsageError, InputError: as ``evaluate_review`` does.
        BatchLabelError: the run fails.
    """
    _check_split(split)
    options = Options(model=resolve_default_name(model), provider=Provider.CPU)
    outputs = load_ensemble(options).outputs
    verdicts = read_review(review)
    photos, unsuited = select_photo_verdicts(verdicts)
    check_labels(photos, outputs)
    known, unknown = select_known_labels(photos, outputs)
    chosen, unusable, not_held = _select_split(known, split)
    skipped = [*unsuited, *unknown, *unusable]
    log_skipped(skipped)
    _check_not_empty(len(chosen), review)
    is_random = any(verdict.is_random for verdict in chosen.values()) and split != ALL_SPLITS
    if is_random:
        chosen = {path: verdict for path, verdict in chosen.items() if verdict.is_random}
    found = {row.path: row.answer for row in batch.label(list(chosen), options)}
    return compare_with_report(
        [verdict.confirms for verdict in chosen.values()],
        [_is_right(found.get(path), v) for path, v in chosen.items()],
        list(chosen),
        is_random,
        select_of_sample([*skipped, *not_held], verdicts),
    )


def compare_with_report(
    confirms: Sequence[bool],
    right: Sequence[bool],
    photos: Sequence[object],
    is_random: bool = False,
    missing: Sequence[Skipped] = (),
) -> ReviewEvaluation:
    """Compute the accuracies of report and model on at least one sample.

    Args:
        confirms: whether the report was right on each sample.
        right: whether the model is.
        photos: the photo of each sample.
        is_random: whether the photos are of the random sample of the report, and no others.
        missing: answers of the random sample that are not measured, each with the reason.
    """
    samples = list(zip(confirms, right, photos, strict=True))
    corrected = [(is_right, photo) for confirmed, is_right, photo in samples if not confirmed]
    confirmed = [(is_right, photo) for confirmed, is_right, photo in samples if confirmed]
    return ReviewEvaluation(
        len(corrected),
        len(confirmed),
        _estimate_share([(was_right, photo) for was_right, _, photo in samples]),
        _estimate_share([*corrected, *confirmed]),
        _estimate_share(corrected),
        _estimate_share(confirmed),
        is_random,
        Counter(reason for _, reason in missing) if is_random else {},
    )


def review_evaluation_to_json(found: ReviewEvaluation) -> dict[str, Any]:
    """Convert the metrics to plain values for JSON, rounded to 4 digits."""
    return {
        "random": found.is_random,
        "missing": dict(found.missing),
        "reviewed": found.corrections + found.confirmations,
        "corrections": found.corrections,
        "confirmations": found.confirmations,
        "before": estimate_to_json(found.before),
        "now": estimate_to_json(found.now),
        "corrected": estimate_to_json(found.corrected),
        "confirmed": estimate_to_json(found.confirmed),
    }


def _estimate_share(answers: Sequence[tuple[bool, object]]) -> Estimate:
    """Estimate the share of right answers, each with its photo; NaN without answers."""
    if not answers:
        return NO_ESTIMATE
    share = sum(is_right for is_right, _ in answers) / len(answers)
    photos = len({photo for _, photo in answers})
    return Estimate(share, *compute_share_interval(share, photos))


def _check_split(split: str) -> None:
    if split not in (TEST_SPLIT, ALL_SPLITS):
        raise UsageError(
            f"a review has no split {split}", f"give --split {TEST_SPLIT} or {ALL_SPLITS}"
        )


def _check_not_empty(found: int, review: Review) -> None:
    if not found:
        files = ", ".join(map(str, review.files))
        raise InputError(
            f"{files}: no sample can be used in this split",
            f"review more photos, or give --split {ALL_SPLITS} if the model was not trained on any",
        )


def _select_split(
    verdicts: Iterable[Verdict], split: str
) -> tuple[dict[Location, Verdict], list[Skipped], list[Skipped]]:
    """Select the verdicts in a split, by path.

    Returns:
        The verdicts, the photos that can't be used, and those of the training part.
    """
    chosen: dict[Location, Verdict] = {}
    unusable: list[Skipped] = []
    not_held: list[Skipped] = []
    for verdict in verdicts:
        if isinstance(verdict.path, Url):
            unusable.append((verdict.name, ELSEWHERE_REASON))
            continue
        data = read_file(verdict.path)
        if isinstance(data, Failure):
            unusable.append((verdict.name, explain_failure(data)))
            continue
        digest = hashlib.sha256(data).hexdigest()
        if verdict.sha256 not in ("", digest):
            unusable.append((verdict.name, CHANGED_REASON))
        elif split == ALL_SPLITS or assign_split(digest) != TRAIN_SPLIT:
            chosen[verdict.path] = verdict
        else:
            not_held.append((verdict.name, NOT_HELD_REASON))
    return chosen, unusable, not_held


def _is_right(answer: Answer | None, verdict: Verdict) -> bool:
    return answer is not None and find_label(verdict.label, (_answer_text(answer),)) == 0


def _answer_text(answer: Answer) -> str:
    """Return an answer's label, or the status in its place."""
    return answer.status.value if answer.label is None else answer.label
