"""How fast a network learns: the optimizer's groups, and their rates step by step."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from torch.optim import AdamW, Optimizer

from trainer.config import Config
from trainer.networks import Network


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
