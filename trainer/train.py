"""The training loop, from top to bottom."""

from __future__ import annotations

import copy
import csv
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.augment import augment
from trainer.config import Config
from trainer.data import Dataset, Part
from trainer.networks import FaceNet, average_into, parameter_count

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"
EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass: losses in nats, accuracies as shares of 1."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


def train(data: Dataset, config: Config, run: Path) -> FaceNet:
    """Fit a network to a data set and return its averaged weights.

    The folder ``run`` gets a checkpoint and a line of ``history.csv`` after each epoch
    and TensorBoard logs under ``logs/train`` and ``logs/validation``. A run that was cut
    off goes on after its last whole epoch, with the same result as one that was not:
    every random number depends on the seed and the epoch alone.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    channels = data.train.pixels.shape[-1]
    network = FaceNet(len(data.labels), config.widths, channels, config.dropout)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(_weight_groups(network, config.weight_decay))
    history = _restore(run, data, config, network, ema, optimizer)
    print(
        f"{data.name}: {len(data.train)} faces to learn from, {len(data.validation)} to check on; "
        f"{parameter_count(network):,} parameters on {device}",
        file=sys.stderr,
    )
    steps = math.ceil(len(data.train) / config.batch_size)
    for epoch in range(len(history) + 1, config.epochs + 1):
        loss, accuracy, rate = 0.0, 0.0, 0.0
        network.train()
        batches = _batches(data.train, config, epoch)
        for step, (pixels, votes) in enumerate(
            tqdm(batches, total=steps, desc=f"epoch {epoch}/{config.epochs}", disable=None)
        ):
            rate = learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            votes = votes.to(device)
            logits = _forward(network, pixels.to(device))
            batch_loss = F.cross_entropy(logits, votes)
            optimizer.zero_grad(set_to_none=True)
            batch_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            average_into(ema, network, min(config.ema, _ema_ramp(epoch, steps, step)))
            share = len(votes) / len(data.train)
            loss += batch_loss.item() * share
            accuracy += (logits.argmax(1) == votes.argmax(1)).float().mean().item() * share
        validation = score(ema, data.validation)
        history.append(Epoch(epoch, rate, loss, accuracy, *validation))
        _save(run, data, config, network, ema, optimizer, history)
    ema.eval()
    return ema


def learning_rate(config: Config, step: int, total: int) -> float:
    """Linear warm-up, then a half cosine down to zero."""
    warm_up = max(1, int(config.warm_up * total))
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, total - warm_up)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def predict_logits(network: torch.nn.Module, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Run a network over faces without augmentation.

    Shapes: uint8 [n, H, W, C] in, float32 [n, classes] out, on the CPU.
    """
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        outputs = [
            network(_as_input(pixels[at : at + EVALUATION_BATCH]).to(device)).float().cpu()
            for at in range(0, len(pixels), EVALUATION_BATCH)
        ]
    return torch.cat(outputs)


def score(network: torch.nn.Module, part: Part) -> tuple[float, float]:
    """Soft cross-entropy over a part, and accuracy over the faces people agreed on."""
    logits = predict_logits(network, part.pixels)
    loss = F.cross_entropy(logits, torch.from_numpy(part.votes)).item()
    right = (logits.argmax(1).numpy() == part.targets)[part.certain]
    return loss, float(right.mean()) if len(right) else math.nan


def _as_input(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()


def _batches(part: Part, config: Config, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    # Dropout draws from the global generator.
    torch.manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(part), generator=generator).numpy()
    for at in range(0, len(order), config.batch_size):
        chosen = order[at : at + config.batch_size]
        pixels = augment(_as_input(part.pixels[chosen]), config.augmentation, generator)
        yield pixels, torch.from_numpy(part.votes[chosen])


def _forward(network: torch.nn.Module, pixels: Tensor) -> Tensor:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        logits: Tensor = network(pixels)
    return logits.float()


def _ema_ramp(epoch: int, steps: int, step: int) -> float:
    """Let the average forget its random start: at step t it spans about t / 10 steps."""
    done = (epoch - 1) * steps + step
    return (1 + done) / (10 + done)


def _weight_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels only: decay on biases and norms shrinks what they scale."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _identity(data: Dataset, config: Config) -> str:
    settings = {k: v for k, v in asdict(config).items() if k != "threads"}
    return json.dumps([data.fingerprint, settings], sort_keys=True)


def _restore(
    run: Path,
    data: Dataset,
    config: Config,
    network: FaceNet,
    ema: FaceNet,
    optimizer: torch.optim.Optimizer,
) -> list[Epoch]:
    path = run / CHECKPOINT
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != _identity(data, config):
        print(f"{path}: of other data or settings; starting anew", file=sys.stderr)
        return []
    network.load_state_dict(state["network"])
    ema.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**epoch) for epoch in state["history"]]


def _save(
    run: Path,
    data: Dataset,
    config: Config,
    network: FaceNet,
    ema: FaceNet,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    state = {
        "identity": _identity(data, config),
        "network": network.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in history],
        "labels": list(data.labels),
        "config": asdict(config),
    }
    partial = run / f"{CHECKPOINT}.partial"
    torch.save(state, partial)
    partial.replace(run / CHECKPOINT)
    with (run / HISTORY).open("w", newline="") as file:
        writer = csv.DictWriter(file, asdict(history[0]).keys())
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
    _log(run, history[-1])


def _log(run: Path, epoch: Epoch) -> None:
    for part in ("train", "validation"):
        with SummaryWriter(str(run / "logs" / part)) as writer:
            for figure in ("loss", "accuracy"):
                writer.add_scalar(figure, getattr(epoch, f"{part}_{figure}"), epoch.epoch)
    print(
        f"epoch {epoch.epoch}: train loss {epoch.train_loss:.4f} accuracy "
        f"{epoch.train_accuracy:.4f}, validation loss {epoch.validation_loss:.4f} accuracy "
        f"{epoch.validation_accuracy:.4f}",
        file=sys.stderr,
    )
