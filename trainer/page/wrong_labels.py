"""Finds samples that probably have a wrong label, by confident learning.

Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (arXiv
1911.00068). The method needs answers of a judge that was not trained on the samples. The network of
the training has seen the labels of its training samples, so a linear classifier on features of a
shipped model is cross-validated on all samples. The network judges held-out samples if it is the
better of the two there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from batch.models.contract import load_model
from batch.models.graph import parse_model
from batch.models.model import Model
from batch.models.shipped import find_model
from batch.records import Region
from trainer.datasets.dataset import Dataset, Pixels, select_samples
from trainer.datasets.duplicates import Indices, group_copies
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, Recipe, assign_folds, cross_calibrate
from trainer.evaluation.trained_on import find_seen, find_trained_on
from trainer.exporting.linear_head import Floats, compute_features, find_head
from trainer.page.answers import Answers, pool_splits
from trainer.training.probe import FEATURE_GAIN, MIN_SPREAD, fit_logistic_regression

# The shipped model whose features suit each kind of sample.
FEATURE_MODELS = {Region.FACE: "happy-sad", Region.IMAGE: "people"}
FOLDS = 5
SEED = 1
# Weight decay of the classifier. With 5 % of the labels of 1,282 portraits and of 403 and 564 web
# photos flipped, 0.1 to 1 found about as many; 0.01 flagged half as many samples again.
DECAY = 0.3
# A judge that is right less often than this is not asked: nearly all that it names are its own
# mistakes. Of 50 labels that a network with an accuracy of 0.6 named, 5 were wrong.
MIN_JUDGE_ACCURACY = 0.7

Margins = npt.NDArray[np.float64]


class NoJudgeError(Exception):
    """There is no judge besides the network; the message says why."""


@dataclass(frozen=True)
class Suspects:
    """Samples that probably have a wrong label.

    Attributes:
        places: int64 [m], indices of the samples.
        suggested: int64 [m], the class that the judge suggests.
        margins: float64 [m], the probability of the label minus that of ``suggested``.
    """

    places: Indices
    suggested: Targets
    margins: Margins


def find_suspects(probabilities: Probabilities, targets: Targets) -> Suspects:
    """Find samples of which another class is confidently right.

    A class is confident if its probability reaches the mean probability that samples of the class
    give it. A sample is suspect if its likeliest class is confident and is not its label.

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
    return Suspects(places, likeliest[places], (own - highest)[places])


def choose_judges(held: Answers | None, probe: Answers | None) -> list[tuple[str, Answers]]:
    """Choose the judge of each sample.

    Args:
        held: the network's answers to the held-out samples; None if there are none.
        probe: the probe's answers to all samples; None if there is no probe.

    Returns:
        Judges by name, with the answers that they are asked for.
    """
    if held is None or probe is None:
        answers = {"network": held, "probe": probe}
        return [(name, those) for name, those in answers.items() if those is not None]
    trained = probe.splits == "train"
    if measure_accuracy(probe.select(~trained)) >= measure_accuracy(held):
        return [("probe", probe)]
    return [("network", held), ("probe", probe.select(trained))]


def measure_accuracy(answers: Answers) -> float:
    """Share of the answers that agree with the labels; 0 without answers."""
    right = answers.probabilities.argmax(axis=1) == answers.part.targets
    return float(right.mean()) if len(answers) else 0.0


def probe_labels(data: Dataset) -> Answers:
    """Predict all samples by cross-validation of a linear classifier.

    Its features are those of a shipped model that was not trained on the samples. Near duplicates
    and samples of a group share a fold. Classes with fewer samples than folds are skipped.

    Args:
        data: the data set.

    Raises:
        NoJudgeError: the shipped model was trained on the samples or has no such features, or there
            are too few samples.
    """
    pool, splits = pool_splits(data)
    counts = np.bincount(pool.targets[pool.certain], minlength=len(data.labels))
    judged = pool.certain & (counts[pool.targets] >= FOLDS)
    part = select_samples(pool, judged)
    groups = group_copies(part, data.framing.region)
    if (counts >= FOLDS).sum() < 2 or len(np.unique(groups)) < FOLDS:
        raise NoJudgeError(f"fewer than two classes have {FOLDS} samples or more")
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
    return Answers(part, splits[judged], cross_calibrate(answers))


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
