"""Learning from another model's answers beside people's votes.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531): ten
people's votes on a picture are few, and a model that has seen all of them smooths their chance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batch.errors import UsageError
from batch.models.contract import load_model
from batch.models.shipped import find_model
from trainer.config import Config
from trainer.data import Dataset, Split
from trainer.exporting.models import predict_onnx


def mix_teacher_votes(part: Split, data: Dataset, config: Config) -> Split:
    """Mix a teacher's answers into a part's votes, where the settings name a teacher.

    The teacher, an exported model, sees each picture as it is and mirrored; the mean of the two
    answers gets ``config.teacher_share`` of the vote.

    Raises:
        ModelError: there is no such model.
        UsageError: the teacher has other labels, or looks at other pictures.
    """
    if not config.teacher:
        return part
    teacher = load_model(find_model(config.teacher))
    if teacher.spec.labels != data.labels:
        raise UsageError(
            f"the teacher {teacher.path} knows {', '.join(teacher.spec.labels)}; the data have "
            f"{', '.join(data.labels)}",
            "name a teacher of the same labels",
        )
    if (teacher.height, teacher.width, teacher.channels) != part.pixels.shape[1:]:
        raise UsageError(
            f"the teacher {teacher.path} looks at pictures of another size or colour",
            "name a teacher of the same --side and colours",
        )
    mirrored = np.ascontiguousarray(part.pixels[:, :, ::-1])
    answers = (predict_onnx(teacher.graph, part.pixels) + predict_onnx(teacher.graph, mirrored)) / 2
    share = np.float32(config.teacher_share)
    mixed = (1 - share) * part.votes + share * answers
    return replace(part, votes=mixed.astype(np.float32))
