"""Knowledge distillation: mixes teachers' probabilities into people's votes.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531): the votes on
one picture are few and noisy; a model trained on all pictures averages out the noise.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from batch.errors import UsageError
from batch.models.contract import load_model
from batch.models.shipped import find_model
from trainer.datasets.dataset import Dataset, Split
from trainer.evaluation.exported_models import predict_onnx
from trainer.evaluation.metrics import Probabilities
from trainer.training.config import Config


def mix_teacher_votes(part: Split, data: Dataset, config: Config) -> Split:
    """Mix teachers' probabilities into the votes of a split, if the settings name any.

    Each teacher, an exported model, sees each picture and its mirror image. The mean of all
    predictions gets ``config.teacher_share`` of the vote.

    Raises:
        ModelError: a teacher is not a model.
        UsageError: there is no such model, or it has other labels or another input.
    """
    if not config.teachers:
        return part
    answers = np.mean([_ask_teacher(name, part, data) for name in config.teachers], axis=0)
    share = np.float32(config.teacher_share)
    mixed = (1 - share) * part.votes + share * answers
    return replace(part, votes=mixed.astype(np.float32))


def hash_teachers(config: Config) -> str:
    """Return the SHA-256 of the teachers' files, separated by spaces; empty without a teacher."""
    files = map(find_model, config.teachers)
    return " ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def _ask_teacher(name: str, part: Split, data: Dataset) -> Probabilities:
    """Compute a teacher's probabilities of a split, the mean over each picture and its mirror."""
    teacher = load_model(find_model(name))
    if teacher.spec.labels != data.labels:
        raise UsageError(
            f"the teacher {teacher.path} has the labels {', '.join(teacher.spec.labels)}, the data "
            f"have {', '.join(data.labels)}",
            "name a teacher of the same labels",
        )
    if (teacher.height, teacher.width, teacher.channels) != part.pixels.shape[1:]:
        raise UsageError(
            f"the teacher {teacher.path} takes pictures of another size or colour than the data's",
            "name a teacher of the same --side and colours",
        )
    mirrored = part.pixels[:, :, ::-1]
    answers = predict_onnx(teacher.graph, part.pixels) + predict_onnx(teacher.graph, mirrored)
    return (answers / 2).astype(np.float32)
