"""The networks' common shape, and the one that looks at a face: a small residual CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Added to the standard deviation (in grey levels, 0..255) so that a flat
# picture is not blown up to noise.
MIN_CONTRAST = 8.0


class Standardise(nn.Module):
    """Bring pixels 0..255 to zero mean and unit spread, each image by itself.

    Shapes: float [N, C, H, W] in and out. Light and contrast of a photo say
    nothing about its expression, so they are taken out before the first layer.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        centred = pixels - _image_mean(pixels)
        return centred / (_image_mean(centred * centred).sqrt() + MIN_CONTRAST)


def average_pool(maps: Tensor) -> Tensor:
    """Mean of each channel, [N, C, H, W] to [N, C, 1, 1].

    As a pooling over the whole map, because ONNX Runtime pools every image by itself: a
    reduction may add up in another order in another batch, and the last digits of an
    answer with it. PyTorch's adaptive pooling is exported as such a reduction.
    """
    return F.avg_pool2d(maps, (maps.shape[2], maps.shape[3]))


def _image_mean(pixels: Tensor) -> Tensor:
    """Mean of each image, [N, 1, 1, 1]."""
    means = average_pool(pixels)
    return means if means.shape[1] == 1 else means.mean(dim=1, keepdim=True)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


class Network(nn.Module):
    """Logits of a picture's classes: features, their mean over the picture, a linear layer.

    Shapes: float [N, channels, H, W] with pixels 0..255 in, float [N, classes] out.
    """

    def __init__(
        self, features: nn.Sequential, width: int, classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(
            self.dropout(average_pool(self.features(pixels)).flatten(1))
        )
        return logits


class FaceNet(Network):
    """Looks at a small face crop, grey (``channels`` 1) or RGB (3).

    A 5x5 stem of stride 2, then one residual block a width; each block after the
    first halves the picture.
    """

    def __init__(
        self, classes: int, widths: tuple[int, ...], channels: int = 1, dropout: float = 0.0
    ) -> None:
        stem = [
            Standardise(),
            nn.Conv2d(channels, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        inputs = (widths[0], *widths[:-1])
        blocks = [
            Residual(i, o, stride=1 if n == 0 else 2)
            for n, (i, o) in enumerate(zip(inputs, widths, strict=True))
        ]
        super().__init__(nn.Sequential(*stem, *blocks), widths[-1], classes, dropout)


def count_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters())


def update_average(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged copy ``ema`` a step towards ``network``.

    Batch-norm statistics are averaged too, so that the copy needs no second pass
    over the data.
    """
    with torch.no_grad():
        for mean, now in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1.0 - decay)
            else:
                mean.copy_(now)
