"""Cross-validation: every photo of a small data set is once held out and once answered."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.errors import UsageError
from trainer.config import Config
from trainer.data import Dataset, take
from trainer.datasets.duplicates import join_groups, near_groups, perceptual_hash
from trainer.evaluation.folds import OUT_OF_FOLD, OutOfFold, assign, sample_name, write_out_of_fold
from trainer.train import predict_logits, train
from trainer.training.checkpoint import load_trained

logger = logging.getLogger(__name__)


def crossvalidate(data: Dataset, config: Config, run: Path, folds: int, seed: int) -> OutOfFold:
    """Train a network a fold on the other folds and collect its answers for its own.

    All parts of the data take part; near duplicates, and samples of one group, share a fold. The
    folder ``run`` gets a training per fold, and ``out-of-fold.csv``. What was cut off goes on.

    Raises:
        UsageError: the training would choose an epoch by the fold it is judged on, or there
            are fewer groups of photos than folds.
        InputError: the data are empty.
    """
    if config.patience:
        raise UsageError(
            "with patience a fold would choose the epoch that it is judged by", "set patience = 0"
        )
    pool = data.part("all")
    groups = join_groups(near_groups(perceptual_hash(pool.pixels)), pool.groups)
    if len(np.unique(groups)) < folds:
        raise UsageError(f"{data.name} has fewer photos than {folds} folds", "take fewer --folds")
    dealt = assign(groups, pool.targets, folds, seed)
    logits = np.empty(pool.votes.shape, dtype=np.float32)
    for fold in range(folds):
        held = take(pool, dealt == fold)
        part = replace(data, train=take(pool, dealt != fold), validation=held, test=held)
        folder = run / f"fold-{fold + 1}"
        train(part, replace(config, learn_from="train"), folder)
        logits[dealt == fold] = predict_logits(load_trained(folder).network, held.pixels).numpy()
        logger.info("fold %d of %d is done", fold + 1, folds)
    answers = OutOfFold(
        labels=data.labels,
        names=tuple(map(sample_name, pool.pixels)),
        targets=pool.targets,
        folds=dealt,
        logits=logits,
    )
    write_out_of_fold(run / OUT_OF_FOLD, answers)
    return answers
