"""How right the runner is on whole photos: decoding, faces, model, threshold, all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import batch
from batch.errors import InputError, ModelError
from batch.options import Options, Provider
from batch.records import Row, Status
from trainer.evaluate import Evaluation, canonical, evaluate, figures, plain
from trainer.evaluation.bootstrap import Estimate, of_counts
from trainer.evaluation.metrics import Counts, Figures, share
from trainer.exporting.models import runner_name


@dataclass(frozen=True)
class EndToEnd:
    """A whole run against the truth, over every file that it found.

    ``statuses`` counts files; ``coverage`` is the share that got an answer, ``accuracy``
    that of right answers among all files, so that none counts as wrong; ``sure`` is the
    share of all files with a sure answer, ``sure_accuracy`` how many of those are right;
    ``answered`` looks at the files with an answer alone.
    """

    photos: int
    statuses: dict[str, int]
    coverage: Estimate
    accuracy: Estimate
    sure: Estimate
    sure_accuracy: Estimate
    answered: Evaluation


def run_end_to_end(root: Path, model: str) -> EndToEnd:
    """Label a folder that has a sub-folder of photos for each class, as ``batch-label`` does.

    ``model`` is what the runner's own ``--model`` takes, or ``default`` for its default.
    Folders are matched with the model's labels by name or synonym; a label without a folder
    can only be a wrong answer.

    Raises:
        InputError: the folder has no classes, or nothing in it gets an answer.
        ModelError: the model has no label for one of the folders.
        BatchLabelError: the run can't go on.
    """
    folders = _class_folders(root)
    options = Options(model=runner_name(model), provider=Provider.CPU)
    rows: list[Row] = []
    for row in batch.label(folders, options):
        if row.answer and not any(earlier.answer for earlier in rows):
            # Before hours of work are done that have no meaning.
            _places([folder.name for folder in folders], tuple(row.answer.probabilities))
        rows.append(row)
    return compare([Path(row.path).relative_to(root).parts[0] for row in rows], rows)


def compare(truth: Sequence[str], rows: Sequence[Row]) -> EndToEnd:
    """Compare rows with the true class of each.

    Raises:
        InputError: no row has an answer.
        ModelError: a class is none of the answers' labels.
    """
    answered = [(name, row.answer) for name, row in zip(truth, rows, strict=True) if row.answer]
    if not answered:
        raise InputError("no photo got an answer", "give photos that the model can judge")
    labels = tuple(answered[0][1].probabilities)
    places = _places(sorted(set(truth)), labels)
    probabilities = np.asarray([[*a.probabilities.values()] for _, a in answered], np.float32)
    counts = np.zeros((len(Status), 2), dtype=np.int64)
    for name, row in zip(truth, rows, strict=True):
        right = row.answer is not None and row.answer.label == labels[places[name]]
        counts[[*Status].index(row.status), int(right)] += 1
    coverage, accuracy, sure, sure_accuracy = of_counts(_shares, counts)
    return EndToEnd(
        photos=len(rows),
        statuses={status.value: int(n) for status, n in zip(Status, counts.sum(1), strict=True)},
        coverage=coverage,
        accuracy=accuracy,
        sure=sure,
        sure_accuracy=sure_accuracy,
        answered=evaluate(probabilities, np.asarray([places[n] for n, _ in answered]), labels),
    )


def end_to_end_figures(found: EndToEnd) -> dict[str, Any]:
    """Write them as plain values for JSON, rounded to 4 digits."""
    return {
        "photos": found.photos,
        "statuses": dict(found.statuses),
        "coverage": plain(found.coverage),
        "accuracy": plain(found.accuracy),
        "sure": plain(found.sure),
        "sure_accuracy": plain(found.sure_accuracy),
        "answered": figures(found.answered),
    }


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder a class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(f"{root} has no sub-folders, and each is a class", "make happy and sad")
    return folders


def _places(folders: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    known = {canonical(label): n for n, label in enumerate(labels)}
    foreign = [folder for folder in folders if canonical(folder) not in known]
    if foreign:
        raise ModelError(
            f"the model has no label for the folder {', '.join(foreign)}",
            f"name the folders after its labels: {', '.join(labels)}",
        )
    return {folder: known[canonical(folder)] for folder in folders}


def _shares(counts: Counts) -> Figures:
    """Coverage, accuracy, sure and sure accuracy from [..., status, wrong or right]."""
    order = [*Status]
    ok = counts[..., order.index(Status.OK), :]
    told = ok + counts[..., order.index(Status.UNSURE), :]
    total = counts.sum((-2, -1))
    parts = (told.sum(-1), told[..., 1], ok.sum(-1), ok[..., 1])
    wholes = (total, total, total, ok.sum(-1))
    return np.stack([share(part, whole) for part, whole in zip(parts, wholes, strict=True)], -1)
