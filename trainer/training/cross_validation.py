"""Cross-validation: every photo of a small data set is once held out and once answered."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from batch.errors import UsageError
from trainer.datasets.dataset import Dataset, Split, select_samples
from trainer.datasets.duplicates import compute_perceptual_hash, group_near_duplicates, merge_groups
from trainer.evaluation.out_of_fold import (
    OUT_OF_FOLD_FILE,
    Logits,
    OutOfFold,
    assign_folds,
    name_sample,
    write_out_of_fold,
)
from trainer.networks import PhotoNet
from trainer.training.checkpoint import load_trained_network
from trainer.training.config import Config
from trainer.training.loop import predict_logits, train
from trainer.training.pretrained import build_network, initialise_network
from trainer.training.probe import compute_channel_means, fit_classifier, standardise_features

logger = logging.getLogger(__name__)


def cross_validate(data: Dataset, config: Config, run: Path, folds: int, seed: int) -> OutOfFold:
    """Train a network a fold on the other folds and collect its answers for its own.

    All parts of the data take part; near duplicates, and samples of one group, share a fold. The
    folder ``run`` gets ``out-of-fold.csv`` and a training per fold, which goes on if it was cut
    off. If nothing but the classifier learns there are no trainings to keep: all folds share the
    features, which are computed once.

    Raises:
        UsageError: the training would choose an epoch by the fold it is judged on, or there
            are fewer groups of photos than folds.
        InputError: the data are empty.
    """
    if config.patience:
        raise UsageError(
            "with patience a fold would choose the epoch that it is judged by", "set patience = 0"
        )
    pool = data.get_split("all")
    groups = merge_groups(group_near_duplicates(compute_perceptual_hash(pool.pixels)), pool.groups)
    if len(np.unique(groups)) < folds:
        raise UsageError(f"{data.name} has fewer photos than {folds} folds", "take fewer --folds")
    dealt = assign_folds(groups, pool.targets, folds, seed)
    beside = data.pseudo_labelled is not None or data.reviewed is not None or config.teacher
    if config.epochs or beside:
        logits = _train_folds(data, pool, dealt, config, run)
    else:
        logits = _probe_folds(data, pool, dealt, config)
    run.mkdir(parents=True, exist_ok=True)
    answers = OutOfFold(
        labels=data.labels,
        names=tuple(map(name_sample, pool.pixels)),
        targets=pool.targets,
        folds=dealt,
        logits=logits,
    )
    write_out_of_fold(run / OUT_OF_FOLD_FILE, answers)
    return answers


def _train_folds(
    data: Dataset, pool: Split, dealt: npt.NDArray[np.int64], config: Config, run: Path
) -> Logits:
    """Train a network per fold and run it on the fold: float32 [n, K]."""
    logits = np.empty(pool.votes.shape, dtype=np.float32)
    for fold in range(int(dealt.max()) + 1):
        held = select_samples(pool, dealt == fold)
        part = replace(data, train=select_samples(pool, dealt != fold), validation=held, test=held)
        folder = run / f"fold-{fold + 1}"
        train(part, replace(config, learn_from="train"), folder)
        logits[dealt == fold] = predict_logits(
            load_trained_network(folder).network, held.pixels
        ).numpy()
        logger.info("fold %d of %d is done", fold + 1, int(dealt.max()) + 1)
    return logits


def _probe_folds(
    data: Dataset, pool: Split, dealt: npt.NDArray[np.int64], config: Config
) -> Logits:
    """Fit a classifier per fold to features of all samples: float32 [n, K]."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = build_network(config, len(data.labels), data.framing.channels)
    initialise_network(network, config.init)
    assert isinstance(network, PhotoNet)  # the settings are checked
    network.eval()
    means, mirrored = (
        compute_channel_means(network, pixels) for pixels in (pool.pixels, pool.pixels[:, :, ::-1])
    )
    logits = np.empty(pool.votes.shape, dtype=np.float32)
    for fold in range(int(dealt.max()) + 1):
        learn, held = (torch.from_numpy(chosen) for chosen in (dealt != fold, dealt == fold))
        part = select_samples(pool, dealt != fold)
        fit_classifier(
            network,
            torch.cat([means[learn], mirrored[learn]]),
            torch.from_numpy(part.votes).repeat(2, 1),
            config.probe,
            torch.from_numpy(part.normalised_weights).repeat(2),
        )
        with torch.inference_mode():
            answers = network.classifier(standardise_features(network, means[held]))
        logits[dealt == fold] = answers.numpy()
    return logits
