"""The training loop, from top to bottom, and the schedules that it follows."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from batch.errors import InputError
from trainer.datasets.dataset import Dataset, Pixels, Split, concatenate, keep_agreed
from trainer.evaluation.metrics import accuracy, balanced_accuracy, confusion_matrix, macro_f1
from trainer.evaluation.trained_on import merge_trained_on
from trainer.networks import Network, PhotoNet, count_parameters, update_average
from trainer.training.ancestors import check_held_out, read_ancestors
from trainer.training.augment import augment, jitter_boxes
from trainer.training.checkpoint import (
    EpochMetrics,
    TrainingState,
    find_best_epoch,
    is_finished,
    load_trained_network,
    restore_checkpoint,
    save_checkpoint,
)
from trainer.training.config import Config
from trainer.training.pretrained import (
    build_network,
    freeze_layers,
    freeze_norms,
    initialise_network,
)
from trainer.training.probe import fit_probe
from trainer.training.teacher import mix_teacher_votes
from trainer.training.tracking import DEFAULT_TRACKERS, Trackers

EVALUATION_BATCH = 512
MIN_BATCH = 2  # samples in a batch, for batch normalisation

logger = logging.getLogger(__name__)


def train(
    data: Dataset, config: Config, run: Path, trackers: Trackers | None = None
) -> tuple[EpochMetrics, ...]:
    """Fit a network to a data set and return the metrics of all epochs.

    After each epoch the folder ``run`` gets a checkpoint (with the averaged weights) and a line of
    ``history.csv``, and the trackers get the metrics. An interrupted run resumes after its last
    complete epoch and ends with the same weights as an uninterrupted one, because all random
    numbers depend only on the seed and the epoch.

    Args:
        data: the data set.
        config: the settings.
        run: the run's folder.
        trackers: get settings and metrics; by default TensorBoard's logs in the folder.

    Raises:
        InputError: a split that is needed is empty, or the initial weights or a teacher were
            trained on held-out samples.
        OutputError: ``run`` belongs to a training run with other data or settings.
    """
    if trackers is None:
        with Trackers(DEFAULT_TRACKERS, run) as trackers:
            return train(data, config, run, trackers)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # Samples: the split to train on, training-only samples beside it, and teachers' votes.
    samples, validation = data.get_split(config.learn_from), data.get_split("validation")
    if data.pseudo_labelled is not None:
        samples = concatenate((samples, data.pseudo_labelled))
    if data.reviewed is not None:
        samples = concatenate((samples, *[data.reviewed] * config.review_weight))
    ancestors = read_ancestors(config, data)
    is_held_out = config.learn_from == "train"
    check_held_out(ancestors, data.held, *((validation, data.test) if is_held_out else ()))
    samples = mix_teacher_votes(samples, data, config)
    views = 2 if config.box_jitter else 1  # of each sample in an epoch
    if len(samples) < MIN_BATCH:
        raise InputError(
            f"{data.name} has {len(samples)} sample to train on",
            "add photos: it takes at least two",
        )
    steps = len(_list_batch_starts(len(samples), config.batch_size)) - 1  # per epoch

    # The network, from random or pretrained weights.
    torch.manual_seed(config.seed)
    network = build_network(config, len(data.labels), data.framing.channels)
    initialise_network(network, config.init)
    if config.probe and isinstance(network, PhotoNet):
        fit_probe(network, samples, config.probe)
    freeze_layers(network, config.trainable)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(network).requires_grad_(False)
    optimizer = build_optimizer(network, config)
    class_weights = None
    if config.balanced:
        class_weights = _compute_class_weights(samples, config.label_smoothing).to(device)

    # The state so far, if this run was interrupted.
    run.mkdir(parents=True, exist_ok=True)
    trained_on = merge_trained_on([samples.pixels], ancestors)
    state = TrainingState(network, ema, optimizer, trained_on=trained_on)
    restore_checkpoint(run, data, config, state)
    trackers.start(_describe_run(data, config), state.history)
    logger.info(
        "%s: %d samples to train on, %d to validate; %s parameters on %s",
        data.name,
        len(samples),
        len(validation),
        f"{count_parameters(network):,}",
        device,
    )
    if not config.epochs:  # only the probe is fitted
        save_checkpoint(run, data, config, state)

    while not is_finished(state.history, config):
        epoch = len(state.history) + 1
        rate, loss, accuracy = 0.0, 0.0, 0.0
        network.train()
        if config.init:
            freeze_norms(network)
        batches = tqdm(
            _iter_batches(samples, config, epoch),
            total=steps,
            desc=f"epoch {epoch}/{config.epochs}",
            disable=None,
        )
        for step, (pixels, votes, weights) in enumerate(batches, start=(epoch - 1) * steps):
            rate = compute_learning_rate(config, step, config.epochs * steps)
            set_learning_rate(optimizer, rate)
            pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
            votes, weights = votes.to(device), weights.to(device)
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(pixels)
            logits = logits.float()
            losses = F.cross_entropy(
                logits,
                votes,
                class_weights,
                reduction="none",
                label_smoothing=config.label_smoothing,
            )
            if config.box_jitter:
                divergence = _symmetric_divergence(*logits.chunk(views))
                losses = losses + config.consistency * divergence.repeat(views)
            batch_loss = (weights * losses).mean()
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            update_average(ema, network, min(config.ema, limit_ema_decay(step)))
            share = len(votes) / (views * len(samples))
            loss += batch_loss.item() * share
            accuracy += (logits.argmax(1) == votes.argmax(1)).float().mean().item() * share
        state.history.append(
            EpochMetrics(epoch, rate, loss, accuracy, *evaluate_loss(ema, validation))
        )
        if config.patience and find_best_epoch(state.history) == epoch:
            state.best.update(copy.deepcopy(ema.state_dict()))
        save_checkpoint(run, data, config, state)
        trackers.log_history(state.history)
        _log_epoch(state.history[-1])
    return tuple(state.history)


def build_optimizer(network: Network, config: Config) -> AdamW:
    """Build the optimizer of all trainable parameters.

    Each group has a ``scale``, the factor on the scheduled learning rate. Only matrices and kernels
    get weight decay; biases and norms do not.
    """
    groups: list[dict[str, Any]] = []
    parts = ((network.features, config.pretrained_rate), (network.classifier, 1.0))
    for (part, scale), kernels in product(parts, (True, False)):
        parameters = [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) is kernels]
        decay = config.weight_decay if kernels else 0.0
        groups.append({"params": parameters, "weight_decay": decay, "scale": scale})
    return AdamW([group for group in groups if group["params"]])


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times the group's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def compute_learning_rate(config: Config, step: int, total: int) -> float:
    """Compute the learning rate of a step: a linear warm-up, then a half cosine down to zero."""
    warm_up = max(1, int(config.warm_up * total))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, total - warm_up)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def limit_ema_decay(step: int) -> float:
    """Return the largest decay at a step: at step t, averaged weights span about t / 10 steps."""
    return (1 + step) / (10 + step)


def predict_logits(network: torch.nn.Module, pixels: Pixels) -> Tensor:
    """Run a network over samples without augmentation.

    Shapes: uint8 [n, H, W, C] in, float32 [n, classes] out, on the CPU.
    """
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        outputs = [
            network(_to_tensor(pixels[at : at + EVALUATION_BATCH]).to(device)).float().cpu()
            for at in range(0, len(pixels), EVALUATION_BATCH)
        ]
    return torch.cat(outputs)


def evaluate_loss(network: torch.nn.Module, part: Split) -> tuple[float, float]:
    """Compute the cross-entropy over a split, and the accuracy over its certain samples."""
    logits = predict_logits(network, part.pixels)
    loss = F.cross_entropy(logits, torch.from_numpy(part.votes)).item()
    right = (logits.argmax(1).numpy() == part.targets)[part.certain]
    return loss, float(right.mean()) if len(right) else math.nan


def evaluate_test_split(data: Dataset, config: Config, run: Path) -> dict[str, float]:
    """Compute metrics of a run's averaged weights on the test samples with an agreed class.

    They are uncalibrated, and nothing is chosen by them. The result is empty if there are no such
    samples, or if the run trained on them.
    """
    test = keep_agreed(data.test)
    if config.learn_from == "all" or not len(test):
        return {}
    logits = predict_logits(load_trained_network(run).network, test.pixels)
    counts = confusion_matrix(logits.argmax(1).numpy(), test.targets, len(data.labels))
    return {
        "loss": F.cross_entropy(logits, torch.from_numpy(test.votes)).item(),
        "accuracy": float(accuracy(counts)),
        "balanced_accuracy": float(balanced_accuracy(counts)),
        "macro_f1": float(macro_f1(counts)),
    }


def _iter_batches(
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
    for start, end in pairwise(_list_batch_starts(len(order), config.batch_size)):
        chosen = order[start:end]
        pixels = augment(_to_tensor(part.pixels[chosen]), augmentation, generator)
        votes, weights = torch.from_numpy(part.votes[chosen]), torch.from_numpy(normalised[chosen])
        if config.box_jitter:
            pixels = torch.cat([pixels, jitter_boxes(pixels, config.box_jitter, generator)])
            votes, weights = votes.repeat(2, 1), weights.repeat(2)
        yield pixels, votes, weights


def _list_batch_starts(count: int, size: int) -> list[int]:
    """List where each batch of an epoch starts and, last, the number of samples.

    A single sample at the end joins the batch before it, because batch normalisation fails on one
    sample if the features of a picture have one place.
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < MIN_BATCH:
        starts.pop()
    return [*starts, count]


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()


def _symmetric_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Compute the symmetric Kullback-Leibler divergence of pairs of predictions, in nats.

    Shapes: float [n, K] logits each in, float [n] out.
    """
    one, other = logits.log_softmax(1), others.log_softmax(1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=1) / 2


def _compute_class_weights(part: Split, label_smoothing: float) -> Tensor:
    """Compute weights that balance the classes: float32 [classes], of mean 1 over samples.

    They balance the votes that the loss sees, after label smoothing. A class without any gets 0.
    """
    votes = torch.from_numpy(part.votes * part.normalised_weights[:, None])
    shares = votes.mean(dim=0) * (1 - label_smoothing) + label_smoothing / votes.shape[1]
    weights = 1 / (shares * len(shares))
    return torch.where(shares > 0, weights, torch.zeros_like(weights))


def _describe_run(data: Dataset, config: Config) -> dict[str, Any]:
    """Describe a training as plain values: its data and all settings."""
    settings = asdict(config)
    augmentation = settings.pop("augmentation")
    return {
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "labels": ", ".join(data.labels),
        **settings,
        **{f"augmentation.{name}": value for name, value in augmentation.items()},
    }


def _log_epoch(epoch: EpochMetrics) -> None:
    logger.info(
        "epoch %d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f",
        epoch.epoch,
        epoch.train_loss,
        epoch.train_accuracy,
        epoch.validation_loss,
        epoch.validation_accuracy,
    )
