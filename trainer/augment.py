"""Random changes that turn a training face into one more photo of it.

They follow what a detector's crop of a real photo looks like: tilted, a little
off-centre, taken from few pixels, under- or over-exposed, noisy, half covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Samples that share one random resolution; each sample its own would mean one
# resize call a sample.
RESOLUTION_GROUP = 16


@dataclass(frozen=True)
class Augmentation:
    """How far each random change goes; the defaults suit 48 pixel faces.

    Rotation in degrees; scale as a factor (1.22 means 1/1.22 to 1.22); shift as a
    share of the side; ``min_side`` in pixels; contrast as a factor; brightness and
    noise in grey levels; the others are probabilities.
    """

    rotation: float = 20.0
    scale: float = 1.22
    shift: float = 0.08
    low_resolution: float = 0.4
    min_side: int = 16
    contrast: float = 1.5
    brightness: float = 25.0
    noise: float = 10.0
    erase: float = 0.3
    erase_side: float = 0.45


def augment(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Change every face of a batch at random.

    Shapes: float [N, C, H, W] with pixels 0..255, in and out. The same generator
    state gives the same batch.
    """
    pixels = _warp(pixels, how, generator)
    pixels = _lower_resolution(pixels, how, generator)
    pixels = _relight(pixels, how, generator)
    return _erase(pixels, how, generator)


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _warp(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(pixels)
    angle = _uniform(n, -1, 1, generator) * math.radians(how.rotation)
    log_scale = math.log(how.scale)
    scale = torch.exp(_uniform(n, -log_scale, log_scale, generator))
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    # affine_grid counts in half sides, hence the factor 2.
    shift = torch.rand(n, 2, generator=generator) * 4 * how.shift - 2 * how.shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _lower_resolution(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    side = pixels.shape[-1]
    groups = []
    for group in torch.split(pixels, RESOLUTION_GROUP):
        if torch.rand(1, generator=generator).item() < how.low_resolution:
            small = int(torch.randint(how.min_side, side, (1,), generator=generator))
            group = F.interpolate(group, size=(small, small), mode="area")
            group = F.interpolate(group, size=(side, side), mode="bilinear", align_corners=False)
        groups.append(group)
    return torch.cat(groups)


def _relight(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(pixels)
    log_contrast = math.log(how.contrast)
    contrast = torch.exp(_uniform(n, -log_contrast, log_contrast, generator)).view(n, 1, 1, 1)
    bright = _uniform(n, -how.brightness, how.brightness, generator).view(n, 1, 1, 1)
    noise = _uniform(n, 0, how.noise, generator).view(n, 1, 1, 1)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean + bright
    return (pixels + torch.randn(pixels.shape, generator=generator) * noise).clamp(0, 255)


def _erase(pixels: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Paint one box a chosen sample in its mean grey (Zhong et al. 2017, arXiv 1708.04896)."""
    n, _, height, width = pixels.shape
    chosen = (torch.rand(n, generator=generator) < how.erase).view(n, 1, 1)
    size = _uniform(n, 0.1, how.erase_side, generator).view(n, 1, 1)
    top = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    left = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    y = torch.linspace(0, 1, height).view(1, height, 1)
    x = torch.linspace(0, 1, width).view(1, 1, width)
    inside = (y >= top) & (y < top + size) & (x >= left) & (x < left + size) & chosen
    return torch.where(inside.unsqueeze(1), pixels.mean(dim=(1, 2, 3), keepdim=True), pixels)
