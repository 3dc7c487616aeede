"""The training loop, from top to bottom, and the schedules that it follows."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from batch.errors import InputError
from trainer.datasets.dataset import Dataset, Pixels, Split, concatenate, keep_agreed
from trainer.evaluation.metrics import accuracy, balanced_accuracy, confusion_matrix, macro_f1
from trainer.evaluation.trained_on import merge_trained_on
from trainer.networks import Network, count_parameters, update_average
from trainer.training.ancestors import check_held_out, read_ancestors
from trainer.training.batches import (
    MIN_BATCH,
    choose_workers,
    iter_batches,
    list_batch_starts,
    to_tensor,
)
from trainer.training.checkpoint import (
    CHECKPOINT_FILE,
    BestEpoch,
    TrainingState,
    load_trained_network,
    restore_checkpoint,
    save_checkpoint,
)
from trainer.training.config import Config
from trainer.training.epoch_metrics import BASELINE_EPOCH, EpochMetrics, find_finite, is_finished
from trainer.training.precision import choose_precision
from trainer.training.pretrained import (
    build_network,
    freeze_layers,
    freeze_norms,
    initialise_network,
)
from trainer.training.probe import fit_probe
from trainer.training.teacher import mix_teacher_votes
from trainer.training.time_left import TimeLeft
from trainer.training.tracking import DEFAULT_TRACKERS, Trackers
from trainer.training.validation import Validation, evaluate_logits

EVALUATION_BATCH = 512

logger = logging.getLogger(__name__)


def train(
    data: Dataset,
    config: Config,
    run: Path,
    trackers: Trackers | None = None,
    *,
    is_fold: bool = False,
) -> tuple[EpochMetrics, ...]:
    """Fit a network to a data set and return the metrics of all epochs.

    After each epoch the folder ``run`` gets a checkpoint (with the averaged weights) and a line of
    ``history.csv``, and the trackers get the metrics. An interrupted run resumes after its last
    complete epoch and ends with the same weights as an uninterrupted one, because all random
    numbers depend only on the seed and the epoch. The classifier that ``probe`` fits is epoch 0.
    The weights of the epoch with the lowest validation loss are kept, if that split is held out.

    Args:
        data: the data set.
        config: the settings.
        run: the run's folder.
        trackers: get settings and metrics; by default TensorBoard's logs in the folder.
        is_fold: whether the validation split is the held-out fold of a cross-validation, which must
            not choose the epoch.

    Raises:
        InputError: a split that is needed is empty, the initial weights or a teacher were trained
            on held-out samples, or no epoch has a finite validation loss.
        OutputError: ``run`` belongs to a training run with other data or settings.
    """
    if trackers is None:
        with Trackers(DEFAULT_TRACKERS, run) as trackers:
            return train(data, config, run, trackers, is_fold=is_fold)
    if config.threads:
        torch.set_num_threads(config.threads)
    is_on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_on_gpu else "cpu")

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
    steps = len(list_batch_starts(len(samples), config.batch_size)) - 1  # per epoch

    # The network, from random or pretrained weights.
    torch.manual_seed(config.seed)
    network = build_network(config, len(data.labels), data.framing.channels)
    initialise_network(network, config.init)
    if config.probe and not (run / CHECKPOINT_FILE).exists():  # which has the fitted classifier
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
    precision = choose_precision(config, network, device)
    selects_epoch = is_held_out and not is_fold
    state = TrainingState(network, ema, optimizer, precision, trained_on=trained_on)
    restore_checkpoint(run, data, config, state)
    trackers.start(_describe_run(data, config), state.history)
    logger.info(
        "%s: %d samples to train on%s, %d to validate; %s parameters on %s in %s",
        data.name,
        len(samples),
        _describe_sources(data, config),
        len(validation),
        f"{count_parameters(network):,}",
        device,
        precision.name,
    )
    if not is_held_out:
        logger.info(
            'learn_from = "all": the validation samples are trained on too, so their loss and '
            "accuracy do not measure the network; its cross-validation does"
        )

    def evaluate_samples(part: Split) -> Validation:
        return evaluate_logits(predict_logits(ema, part.pixels), part, data.labels)

    def end_epoch(epoch: int, rate: float, loss: float, accuracy: float) -> Validation:
        measured = evaluate_samples(validation)
        figures = (measured.loss, measured.accuracy, measured.recall)
        state.history.append(EpochMetrics(epoch, rate, loss, accuracy, *figures))
        if selects_epoch:
            state.keep_best(measured.losses)
        save_checkpoint(run, data, config, state)
        trackers.log_history(state.history)
        return measured

    if config.probe and not state.history:
        fitted = evaluate_samples(samples)
        _log_baseline(end_epoch(BASELINE_EPOCH, 0.0, fitted.loss, fitted.accuracy))
    time_left = TimeLeft(steps, config.epochs - state.epoch)
    while not is_finished(state.history, config):
        epoch = state.epoch + 1
        rate = 0.0
        # Sums stay on the device: reading one would wait for the step.
        loss = accuracy = torch.zeros((), dtype=torch.float64, device=device)
        network.train()
        if config.init:
            freeze_norms(network)
        batches = tqdm(
            iter_batches(samples, config, epoch, choose_workers(device), pin=is_on_gpu),
            total=steps,
            desc=f"epoch {epoch}/{config.epochs}",
            disable=None,
        )
        for step, (pixels, votes, weights) in enumerate(batches, start=(epoch - 1) * steps):
            rate = compute_learning_rate(config, step, config.epochs * steps)
            set_learning_rate(optimizer, rate)
            pixels = pixels.to(device, non_blocking=True)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            votes = votes.to(device, non_blocking=True)
            weights = weights.to(device, non_blocking=True)
            with precision.autocast():
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
            precision.step(batch_loss, optimizer)
            update_average(ema, network, min(config.ema, limit_ema_decay(step)))
            share = len(votes) / (views * len(samples))
            loss = loss + batch_loss.detach() * share
            accuracy = accuracy + (logits.argmax(1) == votes.argmax(1)).double().mean() * share
            announced = time_left.end_step()
            if announced:
                logger.info("epoch %d/%d: %s", epoch, config.epochs, announced)
        measured = end_epoch(epoch, rate, loss.item(), accuracy.item())
        is_last = is_finished(state.history, config)
        _log_epoch(state.history[-1], config, measured.worst, time_left.end_epoch(is_last))
        if is_last and state.best.weights:
            _log_kept_epoch(state.best, epoch, measured)
    has_trained_all = is_finished(state.history, config)
    if selects_epoch and state.history and has_trained_all and not find_finite(state.history):
        raise InputError(
            f"{run}: the training diverged: no epoch has a finite validation loss",
            "lower learning_rate",
        )
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
    # One kernel for all parameters, instead of several for each.
    fused = next(network.parameters()).is_cuda
    return AdamW([group for group in groups if group["params"]], fused=fused)


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
            network(to_tensor(pixels[at : at + EVALUATION_BATCH]).to(device)).float().cpu()
            for at in range(0, len(pixels), EVALUATION_BATCH)
        ]
    return torch.cat(outputs)


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


def _symmetric_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Compute the symmetric Kullback-Leibler divergence of pairs of predictions, in nats.

    Shapes: float [n, K] logits each in, float [n] out.
    """
    one, other = logits.log_softmax(1), others.log_softmax(1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=1) / 2


def _describe_sources(data: Dataset, config: Config) -> str:
    """Say how many samples come from the photos, a report and reviews; empty for photos alone."""
    own = f"{len(data.get_split(config.learn_from))} of the photos"
    parts = [own]
    if data.pseudo_labelled is not None:
        parts.append(f"{len(data.pseudo_labelled)} labelled by a model")
    if data.reviewed is not None:
        times = f", each {config.review_weight} times" if config.review_weight > 1 else ""
        parts.append(f"{len(data.reviewed)} reviewed{times}")
    return "" if parts == [own] else f" ({' + '.join(parts)})"


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


def _log_baseline(measured: Validation) -> None:
    logger.info(
        "baseline, a probe of the initial features: validation loss %.4f accuracy %.4f%s",
        measured.loss,
        measured.accuracy,
        f"; {measured.worst}" if measured.worst else "",
    )


def _log_kept_epoch(best: BestEpoch, last: int, measured: Validation) -> None:
    """Log which epoch is kept, and whether it is better than the last one beyond chance."""
    if best.epoch == last:
        logger.info("epoch %d is kept, its validation loss is the lowest", last)
        return
    kept = f"epoch {best.epoch}" if best.epoch else "the baseline (no epoch beats it)"
    if not math.isfinite(measured.loss):
        logger.info(
            "%s is kept, its validation loss is the lowest; that of epoch %d is not finite",
            kept,
            last,
        )
        return
    gains = measured.losses - best.losses.numpy()
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
    logger.info(
        "%s is kept, its validation loss is the lowest: by %.4f than that of epoch %d, standard "
        "error %.4f%s",
        kept,
        gains.mean(),
        last,
        error,
        "" if gains.mean() > 2 * error else ", so they may be equally good",
    )


def _log_epoch(epoch: EpochMetrics, config: Config, *notes: str) -> None:
    logger.info(
        "epoch %d/%d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f%s",
        epoch.epoch,
        config.epochs,
        epoch.train_loss,
        epoch.train_accuracy,
        epoch.validation_loss,
        epoch.validation_accuracy,
        "".join(f"; {note}" for note in notes if note),
    )
