"""How right the runner is on whole photos: decoding, faces, model, thresholds, all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

import batch
from batch.errors import InputError, ModelError
from batch.options import Options, Provider
from batch.records import ABSTAIN_OUTPUTS, LABELLED_STATUSES, Answer, Row, Status
from trainer.datasets.dataset import canonical_label, select_abstain_classes
from trainer.evaluation.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.exported_models import resolve_default_name
from trainer.evaluation.metrics import (
    Counts,
    Estimate,
    Figures,
    estimate_from_counts,
    estimate_to_json,
    safe_divide,
)
from trainer.evaluation.selective import (
    NO_ANSWER,
    Decisions,
    SelectiveMetrics,
    list_outcomes,
    measure_selective,
    selective_to_json,
)


@dataclass(frozen=True)
class EndToEndEvaluation:
    """A whole run against the truth, over every file that it found.

    Attributes:
        photos: number of files that show a label.
        statuses: number of files by status.
        coverage: share of ``photos`` that got a label, sure or not.
        accuracy: share of ``photos`` with the right label, so that none counts as wrong.
        sure: share of ``photos`` with a label that counts.
        sure_accuracy: share of right labels among those that count, over all files.
        answered: figures of the files with an answer alone.
        selective: what became of the files of each class.
    """

    photos: int
    statuses: dict[str, int]
    coverage: Estimate
    accuracy: Estimate
    sure: Estimate
    sure_accuracy: Estimate
    answered: Evaluation
    selective: SelectiveMetrics


def run_end_to_end(
    root: Path, model: str, abstain: Mapping[str, str] | None = None
) -> EndToEndEvaluation:
    """Label a folder that has a sub-folder of photos for each class, as ``batch-label`` does.

    ``model`` is what the runner's own ``--model`` takes, or ``default`` for its default.
    Folders are matched with the model's labels by name or synonym; a label without a folder
    can only be a wrong answer. Photos in the folders ``neither`` and ``no_person``, and in those
    that ``abstain`` names, are right without a label.

    Raises:
        InputError: the folder has no classes, or nothing in it gets an answer.
        ModelError: the model has no label for one of the folders.
        BatchLabelError: the run can't go on.
    """
    folders = _list_class_folders(root)
    names = abstain or {}
    options = Options(model=resolve_default_name(model), provider=Provider.CPU)
    rows: list[Row] = []
    for row in batch.label(folders, options):
        if row.answer and not any(earlier.answer for earlier in rows):
            # Before hours of work are done that have no meaning.
            _match_class_names([names.get(f.name, f.name) for f in folders], _outputs(row.answer))
        rows.append(row)
    paths = [PurePath(row.path).relative_to(root) for row in rows]
    truth = [names.get(path.parts[0], path.parts[0]) for path in paths]
    kinds = [
        PurePath(name, *path.parent.parts[1:]).as_posix()
        for name, path in zip(truth, paths, strict=True)
    ]
    return compare_rows(truth, rows, kinds)


def compare_rows(
    truth: Sequence[str], rows: Sequence[Row], kinds: Sequence[str] | None = None
) -> EndToEndEvaluation:
    """Compare rows with the true class of each.

    ``kinds`` name the kinds of pictures for the table by kind, the classes by default.

    Raises:
        InputError: no row has an answer.
        ModelError: a class is none of the answers' labels.
    """
    answers = [row.answer for row in rows if row.answer]
    if not answers:
        raise InputError("no photo got an answer", "give photos that the model can judge")
    outputs = _outputs(answers[0])
    labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)
    places = _match_class_names(sorted(set(truth)), outputs)
    classes = (*labels, *select_abstain_classes((*outputs, *truth)))
    targets = np.asarray([classes.index(places[name]) for name in truth], dtype=np.int64)
    counts = np.zeros((2, len(Status), 2), dtype=np.int64)
    for target, row in zip(targets.tolist(), rows, strict=True):
        right = row.answer is not None and row.answer.label == classes[target]
        counts[int(target >= len(labels)), [*Status].index(row.status), int(right)] += 1
    coverage, accuracy, sure, sure_accuracy = estimate_from_counts(_compute_shares, counts)
    told = np.asarray([bool(row.answer) for row in rows]) & (targets < len(outputs))
    probabilities = np.asarray(
        [
            [row.answer.probabilities.get(name, 0.0) for name in outputs]
            for row, chosen in zip(rows, told.tolist(), strict=True)
            if chosen and row.answer
        ],
        dtype=np.float32,
    ).reshape(-1, len(outputs))
    totals = counts.sum(axis=(0, 2))
    return EndToEndEvaluation(
        photos=int(counts[0].sum()),
        statuses={status.value: int(n) for status, n in zip(Status, totals, strict=True)},
        coverage=coverage,
        accuracy=accuracy,
        sure=sure,
        sure_accuracy=sure_accuracy,
        answered=evaluate(probabilities, targets[told], outputs),
        selective=measure_selective(
            _collect_decisions(rows, labels, classes[len(labels) :]),
            targets,
            labels,
            classes[len(labels) :],
            np.asarray(kinds or truth),
        ),
    )


def end_to_end_to_json(found: EndToEndEvaluation) -> dict[str, Any]:
    """Write them as plain values for JSON, rounded to 4 digits."""
    return {
        "photos": found.photos,
        "statuses": dict(found.statuses),
        "coverage": estimate_to_json(found.coverage),
        "accuracy": estimate_to_json(found.accuracy),
        "sure": estimate_to_json(found.sure),
        "sure_accuracy": estimate_to_json(found.sure_accuracy),
        "answered": evaluation_to_json(found.answered),
        "selective": selective_to_json(found.selective),
    }


def _collect_decisions(
    rows: Sequence[Row], labels: tuple[str, ...], abstain: tuple[str, ...]
) -> Decisions:
    names = list_outcomes(labels, abstain)
    likelier, confidence, outcome = [], [], []
    for row in rows:
        best = -1
        if row.answer:
            best = int(np.argmax([row.answer.probabilities[label] for label in labels]))
        likelier.append(best)
        confidence.append(row.answer.probabilities[labels[best]] if row.answer else 0.0)
        said = row.answer.label if row.answer and row.status is Status.OK else row.status.value
        outcome.append(names.index(said if said in names else NO_ANSWER))
    return Decisions(
        np.asarray(likelier, dtype=np.int64),
        np.asarray(confidence, dtype=np.float64),
        np.asarray(outcome, dtype=np.int64),
    )


def _outputs(answer: Answer) -> tuple[str, ...]:
    return tuple(answer.probabilities)


def _list_class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder a class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(f"{root} has no sub-folders, and each is a class", "make happy and sad")
    return folders


def _match_class_names(folders: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Give the model's name of each class of photos."""
    known = {canonical_label(name): name for name in (*outputs, *ABSTAIN_OUTPUTS)}
    foreign = [folder for folder in folders if canonical_label(folder) not in known]
    if foreign:
        raise ModelError(
            f"the model has no label for the folder {', '.join(foreign)}",
            f"name the folders after its labels: {', '.join(outputs)}",
        )
    return {folder: known[canonical_label(folder)] for folder in folders}


def _compute_shares(counts: Counts) -> Figures:
    """Coverage, accuracy, sure and sure accuracy from [..., no label, status, wrong or right]."""
    order = [*Status]
    ok = counts[..., order.index(Status.OK), :]
    labelled = counts[..., [order.index(status) for status in LABELLED_STATUSES], :].sum(-2)
    total = counts.sum((-2, -1))[..., 0]
    parts = (
        labelled[..., 0, :].sum(-1),
        labelled[..., 0, 1],
        ok[..., 0, :].sum(-1),
        ok[..., 1].sum(-1),
    )
    wholes = (total, total, total, ok.sum((-2, -1)))
    return np.stack(
        [safe_divide(part, whole) for part, whole in zip(parts, wholes, strict=True)], -1
    )
