"""Lets an exported model learn from a review, without the data that it was trained on.

Its features stay; its last layer is fitted by logistic regression to the reviewed labels, and,
so that it does not forget, to its own answers on other photos of the same report (Li and Hoiem
2016, "Learning without Forgetting", arXiv 1606.09282). How far it may go from where it was is
bounded besides (Li et al. 2018, arXiv 1802.01483).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch

from batch.errors import InputError
from batch.models.contract import to_metadata
from batch.models.model import Model, ModelSpec
from trainer.data import Pixels, Split
from trainer.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.calibrate import softmax
from trainer.exporting.golden import rechoose_golden_samples
from trainer.exporting.graph import serialise_with_metadata
from trainer.exporting.models import predict_onnx
from trainer.reviewing.head import Floats, LinearHead, compute_features, find_head, replace_head
from trainer.training.probe import fit_logistic_regression

# Half the squared change of the weights, in units of the features' length, weighs this much
# against the sum of losses.
DECAY = 0.3


@dataclass(frozen=True)
class AdjustedModel:
    """A model file's bytes and what was found out on the way.

    ``test`` are figures of held-out reviewed samples, ``learnt`` the number of those that were
    learnt from, ``kept`` that of the model's own answers beside them.
    """

    graph: bytes
    spec: ModelSpec
    test: Evaluation
    learnt: int
    kept: int
    decay: float

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


def adjust_model(
    model: Model,
    learn: Split,
    held: Split,
    others: Pixels,
    version: str,
    created: str,
    decay: float,
) -> AdjustedModel:
    """Fit a model's last layer to reviewed samples and to its own answers on others.

    ``learn`` and ``held`` have votes for the model's outputs in their order; the second gives the
    figures. ``others``, uint8 [n, H, W, C], are samples that nobody reviewed. Threshold, fusion
    and all features stay as they are; the confidences keep their scale, because most of what is
    fitted are the model's own.

    Raises:
        InputError: one of the three is empty.
        ModelError: the model was not made by ``trainer export``.
    """
    if not len(learn) or not len(held):
        raise InputError(
            f"{len(learn)} reviewed samples are there to learn from and {len(held)} to judge by",
            "review more photos: of ten about two are held out",
        )
    if not len(others):
        raise InputError(
            "the report has no photo but reviewed ones, and the model would forget all others",
            "give the report of more photos",
        )
    proto = onnx.load_from_string(model.graph)
    head = find_head(proto, model.path)
    pixels = np.concatenate([learn.pixels, others])
    seen = compute_features(model, proto, head, np.concatenate([pixels, pixels[:, :, ::-1]]))
    classes = softmax(head.logits(seen[: len(pixels)]), 1.0)
    reviewed = head.class_votes(classes[: len(learn)], learn.votes)
    votes = np.concatenate([reviewed, classes[len(learn) :]])
    changed = replace_head(proto, refit_head(head, seen, np.concatenate([votes, votes]), decay))
    fingerprint = hashlib.sha256(model.spec.data_fingerprint.encode())
    for part in (learn.pixels, learn.votes, others):
        fingerprint.update(part.tobytes())
    bare = serialise_with_metadata(changed, {})
    test = evaluate(predict_onnx(bare, held.pixels), held.targets, model.spec.outputs)
    spec = replace(
        model.spec,
        version=version,
        created=created,
        data_fingerprint=fingerprint.hexdigest(),
        metrics={"data": "reviewed answers", "split": "held out", **evaluation_to_json(test)},
        golden=rechoose_golden_samples(bare, model.spec.golden.inputs),
    )
    graph = serialise_with_metadata(changed, to_metadata(spec))
    return AdjustedModel(graph, spec, test, len(learn), len(others), decay)


def refit_head(head: LinearHead, seen: Floats, votes: Floats, decay: float) -> LinearHead:
    """Fit a head to votes, float32 [n, C], for features, float32 [n, D], near to where it is.

    Each sample counts half, since it comes as it is and mirrored. The features' mean square makes
    ``decay`` free of units.
    """
    length = float(np.sqrt((seen.astype(np.float64) ** 2).sum(axis=1).mean()))
    start = torch.from_numpy(head.logits(seen))
    change, shift = fit_logistic_regression(
        torch.from_numpy(seen / length), torch.from_numpy(votes), decay, start
    )
    weight = (head.weight + change.numpy() / length).astype(np.float32)
    return replace(head, weight=weight, bias=head.bias + shift.numpy())
