"""Answers of a trained network to samples that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainer.datasets.dataset import Dataset, Names, Split, concatenate, keep_agreed, select_samples
from trainer.datasets.samples import SPLIT_NAMES
from trainer.evaluation.calibration import fit_temperature, softmax
from trainer.evaluation.metrics import Probabilities
from trainer.evaluation.out_of_fold import OutOfFold, cross_calibrate, name_sample
from trainer.training.checkpoint import TrainedNetwork
from trainer.training.loop import predict_logits


@dataclass(frozen=True)
class Answers:
    """Answers to samples with an agreed class, by a judge that was not trained on them.

    Attributes:
        part: the samples.
        splits: text [n], the split of each sample.
        probabilities: float32 [n, K].
    """

    part: Split
    splits: Names
    probabilities: Probabilities

    def __len__(self) -> int:
        return len(self.part)

    def select(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        """Select samples by a mask, bool [n]."""
        return Answers(
            select_samples(self.part, chosen), self.splits[chosen], self.probabilities[chosen]
        )


@dataclass(frozen=True)
class MeasuredAnswers:
    """Answers to all held-out samples, and which of them the metrics are of.

    Attributes:
        answers: all of them.
        measured: those that the metrics are of.
        source: ``test``, ``validation`` or ``cross-validation``: where ``measured`` is from.
        temperature: the temperature of the probabilities; None if each fold has its own.
        fitted_on: number of validation samples that the temperature was fitted on; 0 if it is 1.
        uncertain: number of held-out samples without an agreed class, which are not in ``answers``.
    """

    answers: Answers
    measured: Answers
    source: str
    temperature: float | None
    fitted_on: int
    uncertain: int


def pool_splits(data: Dataset) -> tuple[Split, Names]:
    """Concatenate the three splits, with the name of each sample's split: text [n]."""
    parts = [getattr(data, split) for split in SPLIT_NAMES]
    names = np.repeat(np.array(SPLIT_NAMES, np.object_), [len(part) for part in parts])
    return concatenate(tuple(parts)), names


def answer_held_out(trained: TrainedNetwork, data: Dataset) -> MeasuredAnswers | None:
    """Run a network on the validation and test samples, or take its out-of-fold predictions.

    The temperature for test samples is the one that an export with all classes as outputs fits on
    the validation samples. Without test samples it is 1, because a temperature can't be measured on
    the samples that it was fitted on.

    Returns:
        The answers; None if no held-out sample has an agreed class.
    """
    if trained.held_out is not None:
        return _collect_out_of_fold(trained.held_out, data)
    validation, test = keep_agreed(data.validation), keep_agreed(data.test)
    if not len(validation) + len(test):
        return None
    part = concatenate((validation, test))
    splits = np.array(["validation"] * len(validation) + ["test"] * len(test), np.object_)
    network = trained.network.to("cuda" if torch.cuda.is_available() else "cpu")
    logits = predict_logits(network, part.pixels).numpy()
    source = "test" if len(test) else "validation"
    fitted_on = len(validation) if source == "test" else 0
    temperature = fit_temperature(logits[:fitted_on], validation.targets) if fitted_on else 1.0
    answers = Answers(part, splits, softmax(logits, temperature))
    uncertain = len(data.validation) + len(data.test) - len(part)
    measured = answers.select(splits == source)
    return MeasuredAnswers(answers, measured, source, temperature, fitted_on, uncertain)


def _collect_out_of_fold(held: OutOfFold, data: Dataset) -> MeasuredAnswers | None:
    """Match out-of-fold predictions to the samples, by the digests of their pixels."""
    pool, splits = pool_splits(data)
    places = {name_sample(pixels): n for n, pixels in enumerate(pool.pixels)}
    at = np.array([places.get(name, -1) for name in held.names])
    known = at >= 0
    known[known] = pool.certain[at[known]]
    if not known.any():
        return None
    chosen = at[known]
    answers = Answers(select_samples(pool, chosen), splits[chosen], cross_calibrate(held)[known])
    return MeasuredAnswers(
        answers, answers, "cross-validation", None, 0, int((~pool.certain).sum())
    )
