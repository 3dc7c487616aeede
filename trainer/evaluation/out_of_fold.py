"""Out-of-fold predictions of a cross-validation, which evaluate a model of few photos."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batch.errors import InputError
from batch.path_text import label_text
from trainer.datasets.dataset import Pixels, Split
from trainer.datasets.samples import format_file_cell
from trainer.evaluation.calibration import Logits, OutputLayout
from trainer.evaluation.metrics import Probabilities, Targets

OUT_OF_FOLD_FILE = "out-of-fold.csv"
MISTAKES_FILE = "mistakes.csv"
# Hexadecimal digits of a sample's name.
NAME_DIGITS = 16


@dataclass(frozen=True)
class Recipe:
    """Data and settings of a training; figures of one hold only for networks of the same.

    Attributes:
        data: the data's fingerprint.
        settings: SHA-256 of all settings that change the network.
    """

    data: str
    settings: str

    def require_same(self, other: Recipe, what: str) -> None:
        """Require that ``what``, which has this recipe, belongs to a network of the other one.

        Raises:
            InputError: the data or the settings differ.
        """
        if self != other:
            differing = "data" if self.data != other.data else "settings"
            raise InputError(
                f"{what} belongs to a training with other {differing} than this network's",
                "run `trainer crossvalidate`, `train` and, for a pair, `fuse` with the same data "
                "and settings",
            )


@dataclass(frozen=True)
class OutOfFold:
    """One answer per sample, from the network that was trained without the sample's fold.

    Attributes:
        labels: the K classes.
        names: the name of each sample (see ``name_sample``).
        targets: int64 [n], the true classes.
        folds: int64 [n], the fold of each sample.
        logits: float32 [n, K].
        recipe: the data and settings of the cross-validation.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    targets: Targets
    folds: npt.NDArray[np.int64]
    logits: Logits
    recipe: Recipe


def name_sample(pixels: Pixels) -> str:
    """Name a sample by its pixels, uint8 [H, W, C]: the first digits of their SHA-256."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:NAME_DIGITS]


def assign_folds(groups: Targets, targets: Targets, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Assign samples to folds, stratified by class, without splitting a group.

    Groups are shuffled by ``seed`` and count as their first sample's class.

    Args:
        groups: int64 [n], a number for each group of samples that must share a fold.
        targets: int64 [n], the true classes.
        folds: the number of folds.
        seed: seed of the shuffle.

    Returns:
        int64 [n], the fold of each sample.
    """
    rng = np.random.default_rng(seed)
    dealt = np.empty(len(groups), dtype=np.int64)
    turn = 0
    numbers, first = np.unique(groups, return_index=True)
    order = rng.permutation(len(numbers))
    for target in np.unique(targets[first]):
        for n in order[targets[first][order] == target]:
            dealt[groups == numbers[n]] = turn % folds
            turn += 1
    return dealt


def cross_calibrate(
    answers: OutOfFold, outputs: OutputLayout | None = None, prior_correction: float | None = 0.0
) -> Probabilities:
    """Calibrate each fold on the other folds.

    Args:
        answers: logits and targets; the targets are indices of ``outputs`` if it is given.
        outputs: how outputs are composed of classes; None if every class is an output.
        prior_correction: see ``OutputLayout.calibrate``.

    Returns:
        float32 [n, outputs], probabilities.
    """
    outputs = outputs or OutputLayout(np.zeros(len(answers.labels)))
    probabilities = np.empty((len(answers.targets), outputs.count), dtype=np.float32)
    for fold in np.unique(answers.folds):
        held = answers.folds == fold
        calibration = outputs.calibrate(
            answers.logits[~held], answers.targets[~held], prior_correction
        )
        probabilities[held] = outputs.probabilities(answers.logits[held], calibration)
    return probabilities


def write_out_of_fold(path: Path, answers: OutOfFold) -> None:
    """Write answers as CSV and replace an earlier file as a whole.

    The first line has the recipe, the second the columns; then comes one line per sample.
    """
    samples = zip(answers.names, answers.targets, answers.folds, answers.logits, strict=True)
    rows = (
        [name, answers.labels[target], fold, *(f"{z:.6f}" for z in logits)]
        for name, target, fold, logits in samples
    )
    recipe = ["data", answers.recipe.data, "settings", answers.recipe.settings]
    _write_csv(path, chain([recipe, ["sample", "label", "fold", *answers.labels]], rows))


def write_mistakes(
    path: Path, part: Split, probabilities: Probabilities, labels: Sequence[str]
) -> int:
    """Write the samples whose likeliest class is not their label as CSV, the most certain first.

    Samples without an agreed class are left out.

    Args:
        path: the file, which is replaced as a whole.
        part: the samples.
        probabilities: float32 [n, K].
        labels: the classes.

    Returns:
        The number of mistakes.
    """
    given = probabilities.argmax(axis=1)
    wrong = np.flatnonzero((given != part.targets) & part.certain)
    wrong = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")]
    rows = (
        (
            format_file_cell(part.names[n]),
            label_text(labels[part.targets[n]]),
            label_text(labels[given[n]]),
            f"{probabilities[n, given[n]]:.4f}",
        )
        for n in wrong
    )
    _write_csv(path, chain([("file", "label", "answer", "probability")], rows))
    return len(wrong)


def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, and replace an earlier one as a whole."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    partial.replace(path)


def read_out_of_fold(path: Path) -> OutOfFold:
    """Read the file that ``write_out_of_fold`` writes.

    Raises:
        InputError: the file is missing, damaged, or has no recipe.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            first, *lines = csv.reader(file)
        if first[0] == "sample":
            raise InputError(
                f"{path} does not say of which data and settings it is, because an earlier "
                "release wrote it",
                "run `trainer crossvalidate` again",
            )
        head, *rows = lines
        _, data, _, settings = first
        return _parse(Recipe(data, settings), tuple(head[3:]), rows)
    except OSError as error:
        remedy = f"run `trainer crossvalidate --run {path.parent}` first"
        raise InputError(f"{path} can't be read ({error.strerror})", remedy) from error
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged", "run `trainer crossvalidate` again") from error


def _parse(recipe: Recipe, labels: tuple[str, ...], rows: Sequence[Sequence[str]]) -> OutOfFold:
    return OutOfFold(
        labels=labels,
        names=tuple(row[0] for row in rows),
        targets=np.array([labels.index(row[1]) for row in rows], dtype=np.int64),
        folds=np.array([int(row[2]) for row in rows], dtype=np.int64),
        logits=np.array([[float(z) for z in row[3:]] for row in rows], dtype=np.float32),
        recipe=recipe,
    )
