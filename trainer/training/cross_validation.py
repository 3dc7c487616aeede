"""Cross-validation: predicts every photo with a network that was not trained on it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from batch.errors import UsageError
from trainer.datasets.dataset import Dataset, Split, select_samples
from trainer.datasets.duplicates import group_copies
from trainer.evaluation.calibration import Logits
from trainer.evaluation.out_of_fold import (
    OUT_OF_FOLD_FILE,
    OutOfFold,
    assign_folds,
    name_sample,
    write_out_of_fold,
)
from trainer.training.ancestors import check_held_out, read_ancestors
from trainer.training.checkpoint import load_trained_network, make_recipe
from trainer.training.config import Config
from trainer.training.loop import predict_logits, train
from trainer.training.pretrained import build_network, initialise_network
from trainer.training.probe import compute_channel_means, fit_classifier, standardise_features

logger = logging.getLogger(__name__)


def cross_validate(data: Dataset, config: Config, run: Path, folds: int, seed: int) -> OutOfFold:
    """Train a network for each fold on the other folds, and predict the fold with it.

    All splits of the data are used. Near duplicates and samples of a group share a fold. The folder
    ``run`` gets ``out-of-fold.csv`` and a training run per fold; interrupted ones are resumed.
    If only the classifier is fitted, the features are computed once for all folds.

    Args:
        data: the data set.
        config: the settings.
        run: the folder.
        folds: number of folds.
        seed: seed of the assignment to folds.

    Raises:
        UsageError: ``patience`` is set, which would choose the epoch by the held-out fold, or
            there are fewer groups of photos than folds.
        InputError: the data are empty, or the initial weights or a teacher were trained on some
            of them.
    """
    if config.patience:
        raise UsageError("patience would choose the epoch by the held-out fold", "set patience = 0")
    pool = data.get_split("all")
    check_held_out(read_ancestors(config, data), pool)
    groups = group_copies(pool, data.framing.region)
    if len(np.unique(groups)) < folds:
        raise UsageError(f"{data.name} has fewer photos than {folds} folds", "choose fewer --folds")
    fold_of = assign_folds(groups, pool.targets, folds, seed)
    has_more = data.pseudo_labelled is not None or data.reviewed is not None or config.teachers
    if config.epochs or has_more:
        logits = _train_folds(data, pool, fold_of, config, run)
    else:
        logits = _probe_folds(data, pool, fold_of, config)
    run.mkdir(parents=True, exist_ok=True)
    answers = OutOfFold(
        labels=data.labels,
        names=tuple(map(name_sample, pool.pixels)),
        targets=pool.targets,
        folds=fold_of,
        logits=logits,
        recipe=make_recipe(data, config),
    )
    write_out_of_fold(run / OUT_OF_FOLD_FILE, answers)
    return answers


def _train_folds(
    data: Dataset, pool: Split, fold_of: npt.NDArray[np.int64], config: Config, run: Path
) -> Logits:
    """Train a network for each fold and run it on the fold: float32 [n, K]."""
    logits = np.empty(pool.votes.shape, dtype=np.float32)
    for fold in range(int(fold_of.max()) + 1):
        held_out = select_samples(pool, fold_of == fold)
        others = select_samples(pool, fold_of != fold)
        part = replace(data, train=others, validation=held_out, test=held_out)
        folder = run / f"fold-{fold + 1}"
        train(part, replace(config, learn_from="train"), folder, is_fold=True)
        logits[fold_of == fold] = predict_logits(
            load_trained_network(folder).network, held_out.pixels
        ).numpy()
        logger.info("fold %d of %d is done", fold + 1, int(fold_of.max()) + 1)
    return logits


def _probe_folds(
    data: Dataset, pool: Split, fold_of: npt.NDArray[np.int64], config: Config
) -> Logits:
    """Fit a classifier for each fold to shared features: float32 [n, K]."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = build_network(config, len(data.labels), data.framing.channels)
    initialise_network(network, config.init)
    network.eval()
    means, mirrored = (
        compute_channel_means(network, pixels) for pixels in (pool.pixels, pool.pixels[:, :, ::-1])
    )
    logits = np.empty(pool.votes.shape, dtype=np.float32)
    for fold in range(int(fold_of.max()) + 1):
        others, held_out = (torch.from_numpy(m) for m in (fold_of != fold, fold_of == fold))
        part = select_samples(pool, fold_of != fold)
        fit_classifier(
            network,
            torch.cat([means[others], mirrored[others]]),
            torch.from_numpy(part.votes).repeat(2, 1),
            config.probe,
            torch.from_numpy(part.normalised_weights).repeat(2),
        )
        with torch.inference_mode():
            answers = network.classifier(standardise_features(network, means[held_out]))
        logits[fold_of == fold] = answers.numpy()
    return logits
