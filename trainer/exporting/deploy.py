"""The network as it is served: pixels in, calibrated probabilities out."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainer.data import Votes
from trainer.networks import Network, average_pool


class DeployedNetwork(nn.Module):
    """Calibrated probabilities of some of a network's classes, or of groups of them.

    Shapes: uint8 [N, H, W, C] in, float32 [N, outputs] out.

    Args:
        network: the trained network.
        columns: the classes that are compared, in the order of the answer. An eight-class network
            may answer happy or sad by the logits of these two alone.
        temperature: divides the logits.
        mirrored: look at every picture a second time, in a mirror, and take the mean of both
            logits.
        groups: float32 [outputs, len(columns)] of 0 and 1; an output is the sum of its classes'
            probabilities. None if every class is an output.
        offsets: float [len(columns)], subtracted from the logits before they are divided.
    """

    def __init__(
        self,
        network: Network,
        columns: tuple[int, ...],
        temperature: float,
        mirrored: bool = False,
        groups: Votes | None = None,
        offsets: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.features = _fuse_norms(copy.deepcopy(network.features).eval())
        self.head = _build_head(network.classifier, columns, temperature, offsets)
        self.joined = nn.Identity() if groups is None else _build_sums(groups)
        self.requires_grad_(False)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels.permute(0, 3, 1, 2).float()
        if self.mirrored:
            seen = torch.cat([seen, seen.flip(3)])
        means = average_pool(self.features(seen))
        if self.mirrored:
            # The head is linear: the mean of its inputs gives the mean of its logits.
            pairs = means.reshape(2, -1, *means.shape[1:])
            means = (pairs[0] + pairs[1]) / 2
        probabilities: Tensor = self.joined(torch.softmax(self.head(means), dim=1))
        return probabilities.squeeze(3).squeeze(2)


def round_to_float16(deployed: DeployedNetwork) -> DeployedNetwork:
    """Round every weight to what float16 can hold; the copy still computes in float32."""
    rounded = copy.deepcopy(deployed)
    for weights in rounded.parameters():
        weights.copy_(weights.half().float())
    return rounded


def _build_head(
    classifier: nn.Linear,
    columns: tuple[int, ...],
    temperature: float,
    offsets: npt.NDArray[np.float64] | None,
) -> nn.Conv2d:
    """Turn the classifier into a 1x1 convolution of the chosen classes.

    A matrix product may add up in another order in another batch, a convolution takes
    every picture by itself. The temperature divides the logits, and so the weights.
    """
    head = nn.Conv2d(classifier.in_features, len(columns), 1)
    chosen = list(columns)
    with torch.no_grad():
        head.weight.copy_(classifier.weight[chosen, :, None, None] / temperature)
        bias = classifier.bias[chosen].clone()
        if offsets is not None:
            bias -= torch.from_numpy(offsets).to(bias)
        head.bias.copy_(bias / temperature)  # type: ignore[union-attr]
    return head


def _build_sums(groups: Votes) -> nn.Conv2d:
    """Add up probabilities by groups, as a 1x1 convolution for the same reason."""
    sums = nn.Conv2d(groups.shape[1], groups.shape[0], 1, bias=False)
    with torch.no_grad():
        sums.weight.copy_(torch.from_numpy(groups)[:, :, None, None])
    return sums


def _fuse_norms(layers: nn.Sequential) -> nn.Sequential:
    """Fold every batch norm into the convolution in front of it, at any depth."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(fused[-1], nn.Conv2d):
            fused[-1] = fuse_conv_bn_eval(fused[-1], layer)
            continue
        for name, child in layer.named_children():
            if isinstance(child, nn.Sequential):
                setattr(layer, name, _fuse_norms(child))
        fused.append(layer)
    return nn.Sequential(*fused)
