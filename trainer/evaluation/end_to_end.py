"""Evaluates the runner end to end on folders of photos, a sub-folder per class."""

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
from trainer.datasets.labelled_files import find_split_folders
from trainer.datasets.samples import SPLIT_NAMES
from trainer.evaluation.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.exported_models import resolve_default_name
from trainer.evaluation.metrics import (
    Counts,
    Estimate,
    estimate_shares,
    estimate_to_json,
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
    """Metrics of a run over every file that it found.

    Attributes:
        photos: number of files whose class is a label.
        statuses: number of files by status.
        coverage: share of ``photos`` with a label, whether it counts or not.
        accuracy: share of ``photos`` with the right label; a missing label counts as wrong.
        sure: share of ``photos`` with a label that counts.
        sure_accuracy: share of right labels among those that count, over all files.
        answered: metrics of the files with an answer.
        selective: metrics of the decisions, per class and kind.
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
    """Label a folder as ``batch-label`` does, and compare the rows with the sub-folders' names.

    Args:
        root: folder with a sub-folder of photos per class. A sub-folder is named like a label of
            the model or a synonym, ``neither`` or ``no_person``.
        model: as for the runner's ``--model``, or ``default``.
        abstain: map from a sub-folder's name to its abstain class.

    Raises:
        InputError: the folder has no sub-folders, or no photo gets an answer.
        ModelError: the model has no label for one of the sub-folders.
        BatchLabelError: the run fails.
    """
    folders = _list_class_folders(root)
    names = abstain or {}
    options = Options(model=resolve_default_name(model), provider=Provider.CPU)
    rows: list[Row] = []
    for row in batch.label(folders, options):
        if row.answer and not any(earlier.answer for earlier in rows):
            # Fail at the first answer, not after hours of labelling.
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

    Args:
        truth: the true class of each row.
        rows: the rows of a run.
        kinds: the kind of picture of each row; the class by default.

    Raises:
        InputError: no row has an answer.
        ModelError: the model has no label for a class.
    """
    answers = [row.answer for row in rows if row.answer]
    if not answers:
        raise InputError("no photo got an answer", "give photos that the model can label")
    outputs = _outputs(answers[0])
    labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)
    places = _match_class_names(sorted(set(truth)), outputs)
    classes = (*labels, *select_abstain_classes((*outputs, *truth)))
    targets = np.asarray([classes.index(places[name]) for name in truth], dtype=np.int64)
    counts = np.zeros((2, len(Status), 2), dtype=np.int64)
    for target, row in zip(targets.tolist(), rows, strict=True):
        right = row.answer is not None and row.answer.label == classes[target]
        counts[int(target >= len(labels)), [*Status].index(row.status), int(right)] += 1
    coverage, accuracy, sure, sure_accuracy = estimate_shares(*_count_shares(counts))
    has_answer = np.asarray([bool(row.answer) for row in rows]) & (targets < len(outputs))
    probabilities = np.asarray(
        [
            [row.answer.probabilities[name] for name in outputs]
            for row, chosen in zip(rows, has_answer.tolist(), strict=True)
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
        answered=evaluate(probabilities, targets[has_answer], outputs),
        selective=measure_selective(
            _collect_decisions(rows, labels, classes[len(labels) :]),
            targets,
            labels,
            classes[len(labels) :],
            np.asarray(kinds or truth),
        ),
    )


def end_to_end_to_json(found: EndToEndEvaluation) -> dict[str, Any]:
    """Convert the metrics to plain values for JSON, rounded to 4 digits."""
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
    labels_at, confidence, outcome = [], [], []
    for row in rows:
        best = -1
        if row.answer:
            best = int(np.argmax([row.answer.probabilities[label] for label in labels]))
        labels_at.append(best)
        confidence.append(row.answer.probabilities[labels[best]] if row.answer else 0.0)
        name = row.answer.label if row.answer and row.status is Status.OK else row.status.value
        outcome.append(names.index(name if name in names else NO_ANSWER))
    return Decisions(
        np.asarray(labels_at, dtype=np.int64),
        np.asarray(confidence, dtype=np.float64),
        np.asarray(outcome, dtype=np.int64),
    )


def _outputs(answer: Answer) -> tuple[str, ...]:
    return tuple(answer.probabilities)


def _list_class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder per class")
    splits = find_split_folders(root)
    if splits:
        held_out = max(splits, key=lambda folder: SPLIT_NAMES.index(splits[folder]))
        raise InputError(
            f"the folders of {root} are splits, not classes",
            f"give one of them, such as {held_out}",
        )
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(
            f"{root} has no sub-folders",
            "put the photos in a sub-folder per class, such as happy and sad",
        )
    return folders


def _match_class_names(folders: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Map the name of each class folder to the model's name of that class."""
    known = {canonical_label(name): name for name in (*outputs, *ABSTAIN_OUTPUTS)}
    foreign = [folder for folder in folders if canonical_label(folder) not in known]
    if foreign:
        raise ModelError(
            f"the model has no label for the folder {', '.join(foreign)}",
            f"name the folders after its labels: {', '.join(outputs)}",
        )
    return {folder: known[canonical_label(folder)] for folder in folders}


def _count_shares(counts: Counts) -> tuple[Counts, Counts]:
    """Count for coverage, accuracy, sure and sure accuracy.

    Args:
        counts: int64 [class is not a label, status, answer is right].

    Returns:
        The photos that count and all photos of each share.
    """
    order = [*Status]
    ok = counts[:, order.index(Status.OK)]
    labelled = counts[0, [order.index(status) for status in LABELLED_STATUSES]].sum(axis=0)
    total = counts[0].sum()
    parts = [labelled.sum(), labelled[1], ok[0].sum(), ok[:, 1].sum()]
    return np.array(parts), np.array([total, total, total, ok.sum()])
