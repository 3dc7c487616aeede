"""Knowledge distillation: mixes a teacher's probabilities into people's votes.

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
from trainer.training.config import Config


def mix_teacher_votes(part: Split, data: Dataset, config: Config) -> Split:
    """Mix a teacher's probabilities into the votes of a split, if the settings name a teacher.

    The teacher, an exported model, sees each picture and its mirror image. The mean of the two
    predictions gets ``config.teacher_share`` of the vote.

    Raises:
        ModelError: the teacher is not a model.
        UsageError: there is no such model, or it has other labels or another input.
    """
    if not config.teacher:
        return part
    teacher = load_model(find_model(config.teacher))
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
    answers = (predict_onnx(teacher.graph, part.pixels) + predict_onnx(teacher.graph, mirrored)) / 2
    share = np.float32(config.teacher_share)
    mixed = (1 - share) * part.votes + share * answers
    return replace(part, votes=mixed.astype(np.float32))


def hash_teacher(config: Config) -> str:
    """Return the SHA-256 of the teacher's file, empty without a teacher."""
    if not config.teacher:
        return ""
    return hashlib.sha256(find_model(config.teacher).read_bytes()).hexdigest()
