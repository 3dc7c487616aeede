"""Number format of the network's forward and backward pass: chosen once, and kept by a training."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from trainer.networks import Network, PhotoNet
from trainer.training.config import Config

AUTO = "auto"
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Checkpoints of earlier releases, which all computed in bfloat16, do not have a state.
EARLIER_STATE: dict[str, Any] = {"name": "bfloat16", "scaler": {}}

logger = logging.getLogger(__name__)


class Precision:
    """The format that a training computes in, and the scale of its gradients.

    The weights are float32 always. Gradients in float16 are scaled, so that small ones do not
    vanish (Micikevicius et al. 2018, arXiv 1710.03740).

    Attributes:
        name: the format, a key of ``FORMATS``.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self._device = device
        self._scaler = _build_scaler(name, device)

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        enabled = self.name != "float32"
        return torch.autocast(self._device.type, FORMATS[self.name], enabled=enabled)

    def step(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Compute gradients and update the weights; a step whose gradients overflow is skipped."""
        optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"name": self.name, "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint: a resumed training keeps its format."""
        if state["name"] != self.name:
            logger.info("the training continues in %s, in which it began", state["name"])
            self.name = state["name"]
            self._scaler = _build_scaler(self.name, self._device)
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])


def choose_precision(config: Config, network: Network, device: torch.device) -> Precision:
    """Choose the format of a new training: that of the settings or, for ``auto``, by a rule.

    - A GPU computes in bfloat16 if it has it, else in float16.
    - A CPU with instructions for bfloat16 computes the residual network in it. EfficientNets are
      faster in float32 there: most of their layers are depthwise convolutions, which do not use
      these instructions.
    - Another CPU computes in float32.
    """
    if config.precision != AUTO:
        return Precision(config.precision, device)
    if device.type == "cuda":
        return Precision("bfloat16" if torch.cuda.is_bf16_supported() else "float16", device)
    is_faster = has_bfloat16_instructions() and not isinstance(network, PhotoNet)
    return Precision("bfloat16" if is_faster else "float32", device)


def has_bfloat16_instructions() -> bool:
    """Tell whether this CPU multiplies in bfloat16, by AVX-512 BF16 or AMX."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def _build_scaler(name: str, device: torch.device) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device.type, enabled=name == "float16")
