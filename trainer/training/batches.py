"""Batches of augmented samples, in the order and with the random changes of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from trainer.datasets.dataset import Pixels, Split
from trainer.training.augment import augment, jitter_boxes
from trainer.training.config import Config

MIN_BATCH = 2  # samples in a batch, for batch normalisation


def iter_batches(
    part: Split, config: Config, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield augmented pixels, votes, and weights whose mean over the split is 1.

    With ``box_jitter`` the second half of a batch is the first half with other boxes.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    # Dropout draws from the global generator.
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    is_settling = epoch > config.epochs * (1 - config.settle)
    augmentation = config.augmentation.halve() if is_settling else config.augmentation
    order = torch.randperm(len(part), generator=generator).numpy()
    normalised = part.normalised_weights
    for start, end in pairwise(list_batch_starts(len(order), config.batch_size)):
        chosen = order[start:end]
        pixels = augment(to_tensor(part.pixels[chosen]), augmentation, generator)
        votes, weights = torch.from_numpy(part.votes[chosen]), torch.from_numpy(normalised[chosen])
        if config.box_jitter:
            pixels = torch.cat([pixels, jitter_boxes(pixels, config.box_jitter, generator)])
            votes, weights = votes.repeat(2, 1), weights.repeat(2)
        yield pixels, votes, weights


def list_batch_starts(count: int, size: int) -> list[int]:
    """List where each batch of an epoch starts and, last, the number of samples.

    A single sample at the end joins the batch before it, because batch normalisation fails on one
    sample if the features of a picture have one place.
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < MIN_BATCH:
        starts.pop()
    return [*starts, count]


def to_tensor(pixels: Pixels) -> Tensor:
    """Turn uint8 [n, H, W, C] pixels into float [n, C, H, W], 0..255."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()
