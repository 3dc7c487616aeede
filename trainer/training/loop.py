"""How fast a network learns: the optimizer's groups, and their rates step by step."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from batch.errors import UsageError
from batch.models.contract import load_model
from batch.models.shipped import find_model
from trainer.datasets.dataset import Dataset, Split, concatenate
from trainer.evaluation.exported_models import predict_onnx
from trainer.networks import Network, PhotoNet, count_parameters, update_average
from trainer.training.augment import augment, jitter_boxes
from trainer.training.checkpoint import (
    EpochMetrics,
    TrainingState,
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


def optimizer(network: Network, config: Config) -> AdamW:
    """Make the optimizer of all that may change in a network.

    Each group carries its ``scale``, the factor on the scheduled rate. Only matrices and
    kernels decay: decay on biases and norms shrinks what they scale.
    """
    groups: list[dict[str, Any]] = []
    parts = ((network.features, config.pretrained_rate), (network.classifier, 1.0))
    for (part, scale), kernels in product(parts, (True, False)):
        parameters = [p for p in part.parameters() if p.requires_grad and (p.ndim > 1) is kernels]
        decay = config.weight_decay if kernels else 0.0
        groups.append({"params": parameters, "weight_decay": decay, "scale": scale})
    return AdamW([group for group in groups if group["params"]])


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every group by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def compute_learning_rate(config: Config, step: int, total: int) -> float:
    """Linear warm-up, then a half cosine down to zero."""
    warm_up = max(1, int(config.warm_up * total))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, total - warm_up)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def limit_ema_decay(step: int) -> float:
    """Let the average forget its random start: at step t it spans about t / 10 steps."""
    return (1 + step) / (10 + step)


# == Learning from another model's answers beside people's votes.
# ==
# == Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531): ten
# == people's votes on a picture are few, and a model that has seen all of them smooths their chance.


def mix_teacher_votes(part: Split, data: Dataset, config: Config) -> Split:
    """Mix a teacher's answers into a part's votes, where the settings name a teacher.

    The teacher, an exported model, sees each picture as it is and mirrored; the mean of the two
    answers gets ``config.teacher_share`` of the vote.

    Raises:
        ModelError: there is no such model.
        UsageError: the teacher has other labels, or looks at other pictures.
    """
    if not config.teacher:
        return part
    teacher = load_model(find_model(config.teacher))
    if teacher.spec.labels != data.labels:
        raise UsageError(
            f"the teacher {teacher.path} knows {', '.join(teacher.spec.labels)}; the data have "
            f"{', '.join(data.labels)}",
            "name a teacher of the same labels",
        )
    if (teacher.height, teacher.width, teacher.channels) != part.pixels.shape[1:]:
        raise UsageError(
            f"the teacher {teacher.path} looks at pictures of another size or colour",
            "name a teacher of the same --side and colours",
        )
    mirrored = np.ascontiguousarray(part.pixels[:, :, ::-1])
    answers = (predict_onnx(teacher.graph, part.pixels) + predict_onnx(teacher.graph, mirrored)) / 2
    share = np.float32(config.teacher_share)
    mixed = (1 - share) * part.votes + share * answers
    return replace(part, votes=mixed.astype(np.float32))


# == The training loop, from top to bottom.

LOG_FOLDER = "logs"
EVALUATION_BATCH = 512

logger = logging.getLogger(__name__)


def train(data: Dataset, config: Config, run: Path) -> tuple[EpochMetrics, ...]:
    """Fit a network to a data set and return the figures of all epochs.

    The folder ``run`` gets a checkpoint (with the averaged weights) and a line of
    ``history.csv`` after each epoch and TensorBoard logs under ``logs/train`` and
    ``logs/validation``. A run that was cut off goes on after its last whole epoch, with
    the same result as one that was not: every random number depends on the seed and the
    epoch alone.

    Raises:
        InputError: a part that is needed is empty.
        OutputError: ``run`` holds a training with other data or settings.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    learn, check = data.get_split(config.learn_from), data.get_split("validation")
    if data.pseudo_labelled is not None:
        learn = concatenate((learn, data.pseudo_labelled))
    if data.reviewed is not None:
        learn = concatenate((learn, *[data.reviewed] * config.review_weight))
    learn = mix_teacher_votes(learn, data, config)
    run.mkdir(parents=True, exist_ok=True)
    progress = _init_state(data, learn, config)
    restore_checkpoint(run, data, config, progress)
    logger.info(
        "%s: %d samples to learn from, %d to check on; %s parameters on %s",
        data.name,
        len(learn),
        len(check),
        f"{count_parameters(progress.network):,}",
        _get_device(progress.network),
    )
    if not config.epochs:  # the probe is all there is
        save_checkpoint(run, data, config, progress)
    while not _is_finished(progress, config):
        epoch = len(progress.history) + 1
        rate, loss, accuracy = _train_epoch(learn, config, epoch, progress)
        progress.history.append(
            EpochMetrics(epoch, rate, loss, accuracy, *evaluate_loss(progress.ema, check))
        )
        if config.patience and _best_epoch(progress) == epoch:
            progress.best.update(copy.deepcopy(progress.ema.state_dict()))
        save_checkpoint(run, data, config, progress)
        _log_epoch(run, progress.history[-1])
    return tuple(progress.history)


def _is_finished(progress: TrainingState, config: Config) -> bool:
    done = len(progress.history)
    waited = done - _best_epoch(progress)
    return done == config.epochs or (config.patience > 0 and waited >= config.patience)


def _best_epoch(progress: TrainingState) -> int:
    """Number of the epoch with the least validation loss, 0 before the first."""
    best = min(progress.history, key=lambda epoch: epoch.validation_loss, default=None)
    return best.epoch if best else 0


def _init_state(data: Dataset, learn: Split, config: Config) -> TrainingState:
    torch.manual_seed(config.seed)
    network = build_network(config, len(data.labels), data.framing.channels)
    initialise_network(network, config.init)
    if config.probe and isinstance(network, PhotoNet):
        fit_probe(network, learn, config.probe)
    freeze_layers(network, config.trainable)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState(
        network=network,
        ema=copy.deepcopy(network).requires_grad_(False),
        optimizer=optimizer(network, config),
    )


def _train_epoch(
    part: Split, config: Config, epoch: int, progress: TrainingState
) -> tuple[float, float, float]:
    """Take one pass over a part; the last learning rate, mean loss and mean accuracy."""
    loss, accuracy, rate = 0.0, 0.0, 0.0
    network = progress.network.train()
    if config.init:
        freeze_norms(network)
    class_weights = (
        _compute_class_weights(part).to(_get_device(network)) if config.balanced else None
    )
    steps = math.ceil(len(part) / config.batch_size)
    batches = _iter_batches(part, config, epoch)
    for step, (pixels, votes, weights) in enumerate(
        tqdm(batches, total=steps, desc=f"epoch {epoch}/{config.epochs}", disable=None),
        start=(epoch - 1) * steps,
    ):
        rate = compute_learning_rate(config, step, config.epochs * steps)
        set_learning_rate(progress.optimizer, rate)
        votes, weights = votes.to(_get_device(network)), weights.to(_get_device(network))
        logits = _compute_logits(network, pixels.to(votes.device))
        if config.box_jitter:
            votes, weights = torch.cat([votes, votes]), torch.cat([weights, weights])
        losses = F.cross_entropy(
            logits,
            votes,
            class_weights,
            reduction="none",
            label_smoothing=config.label_smoothing,
        )
        if config.box_jitter:
            losses = losses + config.consistency * _symmetric_divergence(*logits.chunk(2)).repeat(2)
        batch_loss = (weights * losses).mean()
        progress.optimizer.zero_grad(set_to_none=True)
        batch_loss.backward()  # type: ignore[no-untyped-call]
        progress.optimizer.step()
        update_average(progress.ema, network, min(config.ema, limit_ema_decay(step)))
        share = len(votes) / len(part) / (2 if config.box_jitter else 1)
        loss += batch_loss.item() * share
        accuracy += (logits.argmax(1) == votes.argmax(1)).float().mean().item() * share
    return rate, loss, accuracy


def predict_logits(network: torch.nn.Module, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Run a network over samples without augmentation.

    Shapes: uint8 [n, H, W, C] in, float32 [n, classes] out, on the CPU.
    """
    device = _get_device(network)
    network.eval()
    with torch.inference_mode():
        outputs = [
            network(_to_tensor(pixels[at : at + EVALUATION_BATCH]).to(device)).float().cpu()
            for at in range(0, len(pixels), EVALUATION_BATCH)
        ]
    return torch.cat(outputs)


def evaluate_loss(network: torch.nn.Module, part: Split) -> tuple[float, float]:
    """Soft cross-entropy over a part, and accuracy over the samples people agreed on."""
    logits = predict_logits(network, part.pixels)
    loss = F.cross_entropy(logits, torch.from_numpy(part.votes)).item()
    right = (logits.argmax(1).numpy() == part.targets)[part.certain]
    return loss, float(right.mean()) if len(right) else math.nan


def _get_device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


def _to_tensor(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()


def _iter_batches(
    part: Split, config: Config, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield pixels, votes and weights of mean 1 over the part; pixels twice with ``box_jitter``."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    # Dropout draws from the global generator.
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    settling = epoch > config.epochs * (1 - config.settle)
    how = config.augmentation.halve() if settling else config.augmentation
    order = torch.randperm(len(part), generator=generator).numpy()
    weights = part.normalised_weights
    for at in range(0, len(order), config.batch_size):
        chosen = order[at : at + config.batch_size]
        pixels = augment(_to_tensor(part.pixels[chosen]), how, generator)
        if config.box_jitter:
            pixels = torch.cat([pixels, jitter_boxes(pixels, config.box_jitter, generator)])
        yield pixels, torch.from_numpy(part.votes[chosen]), torch.from_numpy(weights[chosen])


def _compute_logits(network: torch.nn.Module, pixels: Tensor) -> Tensor:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        logits: Tensor = network(pixels)
    return logits.float()


def _symmetric_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Symmetric Kullback-Leibler divergence of pairs of answers, in nats.

    Shapes: float [n, K] logits each in, float [n] out.
    """
    one, other = logits.log_softmax(1), others.log_softmax(1)
    return ((one.exp() - other.exp()) * (one - other)).sum(dim=1) / 2


def _compute_class_weights(part: Split) -> Tensor:
    """Weights that let every class count alike: float32 [classes], of mean 1 over samples."""
    votes = torch.from_numpy(part.votes * part.normalised_weights[:, None])
    shares = votes.mean(dim=0)
    return 1 / (shares.clamp(min=1e-6) * len(shares))


def _log_epoch(run: Path, epoch: EpochMetrics) -> None:
    for part in ("train", "validation"):
        with SummaryWriter(str(run / LOG_FOLDER / part)) as writer:
            for figure in ("loss", "accuracy"):
                writer.add_scalar(figure, getattr(epoch, f"{part}_{figure}"), epoch.epoch)
    logger.info(
        "epoch %d: train loss %.4f accuracy %.4f, validation loss %.4f accuracy %.4f",
        epoch.epoch,
        epoch.train_loss,
        epoch.train_accuracy,
        epoch.validation_loss,
        epoch.validation_accuracy,
    )
