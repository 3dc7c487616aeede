"""Batches of augmented samples, for a GPU made by threads while it trains on earlier ones.

The random numbers of a batch depend only on the seed, the epoch and the number of the batch, so
however many threads make them, in whatever order, the batches are the same.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from batch.parallel import available_cores
from trainer.datasets.dataset import Pixels, SampleWeights, Split
from trainer.training.augment import augment, jitter_boxes
from trainer.training.config import Augmentation, Config

MIN_BATCH = 2  # samples in a batch, for batch normalisation
# Threads that feed a GPU: each augments about 600 photos of 160 pixels per second.
MAX_WORKERS = 8


class Batch(NamedTuple):
    """A batch of samples.

    Attributes:
        pixels: float [n, C, H, W], 0..255, augmented.
        votes: float [n, classes].
        weights: float [n]; their mean over the split is 1.
    """

    pixels: Tensor
    votes: Tensor
    weights: Tensor


def iter_batches(
    part: Split, config: Config, epoch: int, workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """Yield the batches of an epoch; with workers, those that come next are made meanwhile.

    With ``box_jitter`` the second half of a batch is the first half with other boxes.

    Args:
        part: the samples.
        config: the settings.
        epoch: number of the epoch, from 1.
        workers: threads that make batches, at most as many as threads in advance; 0 makes each when
            it is asked for.
        pin: allocate batches in pinned memory, for asynchronous copies to a GPU.
    """
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    # Dropout draws from the global generator.
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    is_settling = epoch > config.epochs * (1 - config.settle)
    augmentation = config.augmentation.halve() if is_settling else config.augmentation
    order = torch.randperm(len(part), generator=generator).numpy()
    normalised = part.normalised_weights

    def make(number: int, start: int, end: int) -> Batch:
        own = torch.Generator().manual_seed(_mix_seed(config.seed, epoch, number))
        batch = _make_batch(part, normalised, order[start:end], config, augmentation, own)
        return Batch(*(tensor.pin_memory() for tensor in batch)) if pin else batch

    bounds = enumerate(pairwise(list_batch_starts(len(order), config.batch_size)))
    if not workers:
        for number, (start, end) in bounds:
            yield make(number, start, end)
        return
    waiting: deque[Future[Batch]] = deque()
    # One thread of PyTorch in each, beside those of the network; this setting is a thread's own.
    pool = ThreadPoolExecutor(workers, "batches", torch.set_num_threads, (1,))
    try:
        for number, (start, end) in bounds:
            waiting.append(pool.submit(make, number, start, end))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def choose_workers(device: torch.device) -> int:
    """Choose the number of threads that make batches.

    On a CPU the network keeps all cores busy, and takes about twenty times as long as its batches:
    threads would only compete with it. A GPU is faster than one thread.
    """
    return 0 if device.type == "cpu" else max(1, min(MAX_WORKERS, available_cores() - 1))


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


def _make_batch(
    part: Split,
    normalised: SampleWeights,
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]],
    config: Config,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Batch:
    pixels = augment(to_tensor(part.pixels[chosen]), augmentation, generator)
    votes, weights = torch.from_numpy(part.votes[chosen]), torch.from_numpy(normalised[chosen])
    if config.box_jitter:
        pixels = torch.cat([pixels, jitter_boxes(pixels, config.box_jitter, generator)])
        votes, weights = votes.repeat(2, 1), weights.repeat(2)
    return Batch(pixels, votes, weights)


def _mix_seed(seed: int, epoch: int, number: int) -> int:
    """Mix a seed for one batch, such that near numbers give unrelated seeds."""
    digest = hashlib.sha256(f"{seed} {epoch} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
