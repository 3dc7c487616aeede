"""Finds samples that probably have a wrong label, by confident learning.

Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (arXiv
1911.00068). The method needs answers of a judge that was not trained on the samples. A network
answers for held-out samples. For training samples, whose labels it has seen, a linear classifier on
features of a shipped model is cross-validated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from batch.models.contract import load_model
from batch.models.graph import parse_model
from batch.models.model import Model
from batch.models.shipped import find_model
from batch.records import Region
from trainer.datasets.dataset import Dataset, Pixels, select_samples
from trainer.datasets.duplicates import Indices, merge_groups
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, Recipe, assign_folds, cross_calibrate
from trainer.evaluation.trained_on import find_seen, find_trained_on
from trainer.exporting.linear_head import Floats, compute_features, find_head
from trainer.page.answers import Answers
from trainer.training.probe import FEATURE_GAIN, MIN_SPREAD, fit_logistic_regression

# The shipped model whose features suit each kind of sample.
FEATURE_MODELS = {Region.FACE: "happy-sad", Region.IMAGE: "people"}
FOLDS = 5
SEED = 1
# Weight decay of the classifier. With 5 % of the labels of 1,282 portraits and of 403 and 564 web
# photos flipped, 0.1 to 1 found about as many; 0.01 flagged half as many samples again.
DECAY = 0.3
# A judge that is right less often than this is not asked for wrong labels: most of what it would
# name are its own mistakes.
MIN_JUDGE_ACCURACY = 0.6


class NoJudgeError(Exception):
    """There is no judge for the training samples; the message says why."""


@dataclass(frozen=True)
class Suspects:
    """Samples that probably have a wrong label, the likeliest first.

    Attributes:
        places: int64 [m], indices of the samples.
        suggested: int64 [m], the class that the judge suggests.
    """

    places: Indices
    suggested: Targets


def find_suspects(probabilities: Probabilities, targets: Targets) -> Suspects:
    """Find samples of which another class is confidently right.

    A class is confident if its probability reaches the mean probability that samples of the class
    give it. A sample is suspect if its likeliest class is confident and is not its label. The order
    is that of the margin between the label's and the likeliest class's probability.

    Args:
        probabilities: float32 [n, K], of a judge that has not seen the labels.
        targets: int64 [n], the labels.
    """
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    likeliest = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1).astype(np.float64)
    classes = probabilities.shape[1]
    counts = np.bincount(targets, minlength=classes)
    # A class without samples has no threshold, so nothing is suspected to be of it.
    thresholds = np.full(classes, np.inf)
    np.divide(np.bincount(targets, own, classes), counts, out=thresholds, where=counts > 0)
    suspect = (likeliest != targets) & (highest >= thresholds[likeliest])
    places = np.flatnonzero(suspect)
    places = places[np.argsort((own - highest)[places], kind="stable")]
    return Suspects(places, likeliest[places])


def measure_accuracy(answers: Answers) -> float:
    """Share of the answers that agree with the labels; 0 without answers."""
    right = answers.probabilities.argmax(axis=1) == answers.part.targets
    return float(right.mean()) if len(answers) else 0.0


def judge_training_samples(data: Dataset, groups: Indices) -> Answers:
    """Predict the training samples by cross-validation of a linear classifier.

    Classes with fewer samples than folds are left out.

    Its features are those of a shipped model that was not trained on the samples. Near duplicates
    and samples of a group share a fold.

    Args:
        data: the data set.
        groups: the group of near duplicates of each training sample, int64 [n].

    Raises:
        NoJudgeError: the shipped model was trained on the samples or has no such features, or there
            are too few samples.
    """
    counts = np.bincount(data.train.targets[data.train.certain], minlength=len(data.labels))
    judged = data.train.certain & (counts[data.train.targets] >= FOLDS)
    part = select_samples(data.train, judged)
    groups = merge_groups(_renumber(groups[judged]), part.groups)
    if (counts >= FOLDS).sum() < 2 or len(np.unique(groups)) < FOLDS:
        raise NoJudgeError(f"fewer than two classes have {FOLDS} training samples or more")
    folds = assign_folds(groups, part.targets, FOLDS, SEED)
    features = torch.from_numpy(_compute_features(data, part.pixels))
    logits = np.empty(part.votes.shape, np.float32)
    for fold in range(FOLDS):
        held = torch.from_numpy(folds == fold)
        weight, bias = fit_logistic_regression(
            features[~held], torch.from_numpy(part.votes[folds != fold]), DECAY * FEATURE_GAIN**2
        )
        logits[folds == fold] = (features[held] @ weight.T + bias).numpy()
    answers = OutOfFold(data.labels, tuple(part.names), part.targets, folds, logits, Recipe("", ""))
    splits = np.full(len(part), "train", np.object_)
    return Answers(part, splits, cross_calibrate(answers))


def _renumber(groups: Indices) -> Indices:
    """Number groups by the place of their first sample among those that are left."""
    _, firsts, of_group = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(firsts[of_group], np.int64)


def _compute_features(data: Dataset, pixels: Pixels) -> Floats:
    """Compute standardised features of a shipped model: float32 [n, D]."""
    name = FEATURE_MODELS[data.framing.region]
    model = load_model(find_model(name))
    if find_seen(pixels, [find_trained_on(model.spec, name, data)]).any():
        raise NoJudgeError(
            f"the shipped model {name}, whose features would be used, was trained on them"
        )
    graph = parse_model(model.path, model.graph)
    found = compute_features(model, graph, find_head(graph, model.path), _resize(pixels, model))
    spread = found.std(axis=0) + MIN_SPREAD * found.std()
    scaled: Floats = (found - found.mean(axis=0)) / (spread * found.shape[1] ** 0.5 / FEATURE_GAIN)
    return scaled


def _resize(pixels: Pixels, model: Model) -> Pixels:
    """Resize samples to a model's input: uint8 [n, height, width, channels]."""
    shape = (model.height, model.width, model.channels)
    if pixels.shape[1:] == shape:
        return pixels
    mode = "L" if model.channels == 1 else "RGB"
    resized = np.empty((len(pixels), *shape), np.uint8)
    for n, sample in enumerate(pixels):
        image = Image.fromarray(sample[:, :, 0] if sample.shape[2] == 1 else sample).convert(mode)
        resized[n] = np.asarray(image.resize((model.width, model.height))).reshape(shape)
    return resized
