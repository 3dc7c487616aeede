"""Problems of the data: wrong labels, copies in two classes, skipped files, rare classes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from batch.path_text import cell_text, escape_formula, label_text
from trainer.datasets.dataset import Dataset, Names, Pixels, Split
from trainer.datasets.duplicates import NEAR_REASON, OTHER_LABEL, Indices, group_alike_faces
from trainer.datasets.samples import CONFLICT_REASON, format_file_cell, generalise_reason
from trainer.evaluation.tables import MIN_SAMPLES
from trainer.page.answers import Answers, MeasuredAnswers, pool_splits
from trainer.page.wrong_labels import (
    MIN_JUDGE_ACCURACY,
    NoJudgeError,
    choose_judges,
    find_suspects,
    measure_accuracy,
    probe_labels,
)

# Samples that are compared with each other. The time grows with the square: 33,000 take 15 s.
MAX_COMPARED = 50_000
# Bytes of samples that are compared, because they are copied: 14,000 RGB samples of 160 pixels.
MAX_COMPARED_BYTES = 1024**3
# A class is rare if another has this many times its training samples.
IMBALANCE = 5.0
COLUMNS = ("path", "problem", "split", "label", "suggested", "probability", "judge", "detail")
WRONG_LABEL, TWO_LABELS, SKIPPED = "wrong-label", "two-labels", "skipped"


@dataclass(frozen=True)
class Problem:
    """A problem of one sample or file.

    Attributes:
        name: the file, relative to the data.
        kind: ``wrong-label``, ``two-labels`` or ``skipped``.
        split: its split; empty for a skipped file.
        label: its label; empty for a skipped file.
        suggested: the label that a judge suggests; empty if none does.
        probability: the judge's probability of ``suggested``; None without a judge.
        judge: ``network``, ``cross-validation`` or ``probe``; empty without a judge.
        detail: what else there is to say.
        pixels: the sample; None for a skipped file.
    """

    name: str
    kind: str
    split: str = ""
    label: str = ""
    suggested: str = ""
    probability: float | None = None
    judge: str = ""
    detail: str = ""
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Judge:
    """A judge of labels.

    Attributes:
        name: ``network``, ``cross-validation`` or ``probe``.
        judged: number of samples that it was asked about.
        what: which samples these are, as text.
        accuracy: share of its answers that agree with the labels.
        suspects: number of samples that probably have a wrong label; None if it was not asked,
            because it is right too seldom.
    """

    name: str
    judged: int
    what: str
    accuracy: float
    suspects: int | None


@dataclass(frozen=True)
class DataProblems:
    """All problems of a data set.

    Attributes:
        wrong: samples that probably have a wrong label, the likeliest first.
        judges: the judges of the labels.
        not_judged: why the labels of the training samples were not judged; empty if they were.
        two_labels: photos, or near duplicates, with two labels.
        not_compared: why samples were not compared with each other; empty if they were.
        skipped: the skipped files.
        reasons: number of skipped files by reason, the most frequent first.
        rare: the classes with few training samples, with their number.
        most: the largest number of training samples of a class.
        few_held_out: classes with few held-out samples, with their number.
    """

    wrong: Sequence[Problem]
    judges: Sequence[Judge]
    not_judged: str
    two_labels: Sequence[Problem]
    not_compared: str
    skipped: Sequence[Problem]
    reasons: Sequence[tuple[str, int]]
    rare: Sequence[tuple[str, int]]
    most: int
    few_held_out: Sequence[tuple[str, int]]

    @property
    def is_judged(self) -> bool:
        """Whether a judge was asked about any labels."""
        return any(judge.suspects is not None for judge in self.judges)

    def list_all(self) -> list[Problem]:
        """List the problems of single files, in the order of the page."""
        return [*self.wrong, *self.two_labels, *self.skipped]


def find_problems(data: Dataset, held: MeasuredAnswers | None) -> DataProblems:
    """Find the problems of a data set.

    Args:
        data: the data set.
        held: answers to the held-out samples; None if there are none.
    """
    two_labels, not_compared = [], _explain_limit(data)
    if not not_compared:
        pool, splits = pool_splits(data)
        two_labels = _list_alike(pool, splits, group_alike_faces(pool.pixels), data.labels)
    judged, not_judged = _judge(data, held, not_compared)
    judges, wrong = [], []
    for name, answers in judged:
        accuracy = measure_accuracy(answers)
        asked = accuracy >= MIN_JUDGE_ACCURACY
        found = _list_suspects(name, answers, data.labels) if asked else []
        suspects = len(found) if asked else None
        judges.append(Judge(name, len(answers), _name_samples(answers), accuracy, suspects))
        wrong += found
    counts = np.bincount(data.train.targets, minlength=len(data.labels))
    most = int(counts.max())
    return DataProblems(
        wrong=[problem for _, problem in sorted(wrong, key=lambda one: one[0])],
        judges=judges,
        not_judged=not_judged,
        two_labels=[
            *(Problem(n, TWO_LABELS, detail=r) for n, r in data.skipped if _is_conflict(r)),
            *two_labels,
        ],
        not_compared=not_compared,
        skipped=[Problem(n, SKIPPED, detail=r) for n, r in data.skipped if not _is_conflict(r)],
        reasons=Counter(generalise_reason(reason) for _, reason in data.skipped).most_common(),
        rare=[
            (label, int(n))
            for label, n in zip(data.labels, counts, strict=True)
            if n * IMBALANCE <= most
        ],
        most=most,
        few_held_out=_list_few_held_out(data.labels, held),
    )


def format_problems(problems: Iterable[Problem]) -> str:
    """Format problems as CSV, one line per file; no cell runs as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in problems:
        writer.writerow(
            (
                format_file_cell(one.name),
                one.kind,
                one.split,
                label_text(one.label),
                label_text(one.suggested),
                "" if one.probability is None else f"{one.probability:.4f}",
                one.judge,
                escape_formula(cell_text(one.detail)),
            )
        )
    return text.getvalue()


def _explain_limit(data: Dataset) -> str:
    """Say why the samples are too many to be compared with each other; empty if they are not."""
    parts = (data.train, data.validation, data.test)
    count, size = sum(map(len, parts)), sum(part.pixels.nbytes for part in parts)
    if count > MAX_COMPARED:
        return f"there are {count:,} samples, more than {MAX_COMPARED:,}"
    if size > MAX_COMPARED_BYTES:
        return f"the samples have {size:,} bytes, more than {MAX_COMPARED_BYTES:,}"
    return ""


def _judge(
    data: Dataset, held: MeasuredAnswers | None, not_compared: str
) -> tuple[list[tuple[str, Answers]], str]:
    """Choose a judge for each sample; also say why the training samples have none."""
    if held is not None and held.source == "cross-validation":
        return [("cross-validation", held.answers)], ""
    answers = held.answers if held is not None else None
    if not_compared:
        return choose_judges(answers, None), not_compared
    try:
        return choose_judges(answers, probe_labels(data)), ""
    except NoJudgeError as error:
        return choose_judges(answers, None), str(error)


def _name_samples(answers: Answers) -> str:
    trained = answers.splits == "train"
    kind = "training " if trained.all() else "" if trained.any() else "held-out "
    return f"{kind}samples"


def _list_suspects(
    judge: str, answers: Answers, labels: Sequence[str]
) -> list[tuple[float, Problem]]:
    """List the samples that a judge suspects, each with the margin by which it does."""
    suspects = find_suspects(answers.probabilities, answers.part.targets)
    found = [
        Problem(
            name=answers.part.names[place],
            kind=WRONG_LABEL,
            split=answers.splits[place],
            label=labels[answers.part.targets[place]],
            suggested=labels[suggested],
            probability=float(answers.probabilities[place, suggested]),
            judge=judge,
            pixels=answers.part.pixels[place],
        )
        for place, suggested in zip(suspects.places, suspects.suggested, strict=True)
    ]
    return list(zip(suspects.margins.tolist(), found, strict=True))


def _list_alike(
    pool: Split, splits: Names, groups: Indices, labels: Sequence[str]
) -> list[Problem]:
    """List near duplicates whose labels differ; those of a group follow each other."""
    targets, found = pool.targets, []
    least, most = np.full(len(pool), len(labels)), np.full(len(pool), -1)
    np.minimum.at(least, groups[pool.certain], targets[pool.certain])
    np.maximum.at(most, groups[pool.certain], targets[pool.certain])
    for group in np.flatnonzero(least < most):
        members = np.flatnonzero((groups == group) & pool.certain)
        for n in members:
            other = next(m for m in members if targets[m] != targets[n])
            found.append(
                Problem(
                    name=pool.names[n],
                    kind=TWO_LABELS,
                    split=splits[n],
                    label=labels[targets[n]],
                    detail=f"{NEAR_REASON} {pool.names[other]}, {OTHER_LABEL} "
                    f"{labels[targets[other]]}",
                    pixels=pool.pixels[n],
                )
            )
    return found


def _is_conflict(reason: str) -> bool:
    """Tell whether a file was skipped because it, or a near duplicate, has two labels."""
    is_near = reason.startswith(NEAR_REASON) and f", {OTHER_LABEL} " in reason
    return is_near or reason.startswith(CONFLICT_REASON)


def _list_few_held_out(
    labels: Sequence[str], held: MeasuredAnswers | None
) -> list[tuple[str, int]]:
    if held is None:
        return [(label, 0) for label in labels]
    counts = np.bincount(held.measured.part.targets, minlength=len(labels))
    return [(label, int(n)) for label, n in zip(labels, counts, strict=True) if n < MIN_SAMPLES]
