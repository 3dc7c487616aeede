"""Random changes that turn a training picture into one more photo of the same.

They follow what real photos and a detector's crops of them look like: tilted, a little
off-centre, cut otherwise, taken from few pixels, under- or over-exposed, in another
light, noisy, compressed, half covered.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

# Samples that share one random resolution; each sample its own would mean one
# resize call a sample.
RESOLUTION_GROUP = 16
# From where compression shows to where it no longer does, on PIL's scale.
JPEG_QUALITIES = (20, 90)


@dataclass(frozen=True)
class Augmentation:
    """How far each random change goes; the defaults suit 48 pixel faces.

    Rotation in degrees; scale as a factor (1.22 means 1/1.22 to 1.22); shift as a
    share of the side; ``crop`` as the least share of the area that a cut-out keeps and
    ``aspect`` as the factor it is stretched by; ``min_side`` in pixels; contrast and
    saturation as factors; ``tint`` as the spread of each colour's own factor;
    brightness and noise in grey levels; the others are probabilities.
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
    crop: float = 1.0
    aspect: float = 1.0
    saturation: float = 1.0
    grey: float = 0.0
    tint: float = 0.0
    jpeg: float = 0.0

    def halve(self) -> Augmentation:
        """Go half as far, and as often, in everything but the size of what is erased."""
        return replace(
            self,
            rotation=self.rotation / 2,
            scale=math.sqrt(self.scale),
            shift=self.shift / 2,
            low_resolution=self.low_resolution / 2,
            contrast=math.sqrt(self.contrast),
            brightness=self.brightness / 2,
            noise=self.noise / 2,
            erase=self.erase / 2,
            crop=(1 + self.crop) / 2,
            aspect=math.sqrt(self.aspect),
            saturation=math.sqrt(self.saturation),
            grey=self.grey / 2,
            tint=self.tint / 2,
            jpeg=self.jpeg / 2,
        )


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change every picture of a batch at random.

    Shapes: float [N, C, H, W] with pixels 0..255, in and out. The same generator
    state gives the same batch.
    """
    pixels = _warp(pixels, augmentation, generator)
    pixels = _reduce_resolution(pixels, augmentation, generator)
    pixels = _relight(pixels, augmentation, generator)
    pixels = _recolour(pixels, augmentation, generator)
    pixels = _compress(pixels, augmentation, generator)
    return _erase(pixels, augmentation, generator)


def jitter_boxes(pixels: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Cut each face out again with a box that lies and measures a little differently.

    A detector's box for one face moves between two looks; ``jitter`` bounds the move of its centre
    and the change of its side, both as a share of the side.

    Shapes: float [N, C, H, W], in and out.
    """
    n = len(pixels)
    scale = 1 + _sample_uniform(n, -jitter, jitter, generator)
    right, down = _sample_uniform(2 * n, -2 * jitter, 2 * jitter, generator).view(
        2, n
    )  # half sides
    zero = torch.zeros(n)
    rows = torch.stack([scale, zero, right, zero, scale, down], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _sample_uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _warp(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(pixels)
    angle = _sample_uniform(n, -1, 1, generator) * math.radians(augmentation.rotation)
    log_scale = math.log(augmentation.scale)
    scale = torch.exp(_sample_uniform(n, -log_scale, log_scale, generator))
    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    # affine_grid counts in half sides, hence the factor 2.
    shift = torch.rand(n, 2, generator=generator) * 4 * augmentation.shift - 2 * augmentation.shift
    sides, middle = _sample_crops(n, augmentation, generator)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    (across, down), (right, low) = sides.T, (shift + middle).T
    rows = torch.stack(
        [cos * flip * across, -sin * down, right, sin * flip * across, cos * down, low], dim=1
    )
    grid = F.affine_grid(rows.view(n, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _sample_crops(
    n: int, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sides of cut-outs, as shares of the picture's, and their middles, in half sides: [n, 2]."""
    if (
        augmentation.crop == 1 and augmentation.aspect == 1
    ):  # nothing is drawn, so that older runs repeat
        return torch.ones(n, 2), torch.zeros(n, 2)
    side = _sample_uniform(n, augmentation.crop, 1, generator).sqrt()
    log_aspect = math.log(augmentation.aspect)
    stretch = torch.exp(_sample_uniform(n, -log_aspect, log_aspect, generator))
    sides = torch.stack([side * stretch, side / stretch], dim=1).clamp(max=1)
    return sides, (torch.rand(n, 2, generator=generator) * 2 - 1) * (1 - sides)


def _reduce_resolution(
    pixels: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    side = pixels.shape[-1]
    groups = []
    for group in torch.split(pixels, RESOLUTION_GROUP):
        if torch.rand(1, generator=generator).item() < augmentation.low_resolution:
            small = int(
                torch.randint(min(augmentation.min_side, side - 1), side, (1,), generator=generator)
            )
            group = F.interpolate(group, size=(small, small), mode="area")
            group = F.interpolate(group, size=(side, side), mode="bilinear", align_corners=False)
        groups.append(group)
    return torch.cat(groups)


def _relight(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(pixels)
    log_contrast = math.log(augmentation.contrast)
    contrast = torch.exp(_sample_uniform(n, -log_contrast, log_contrast, generator)).view(
        n, 1, 1, 1
    )
    bright = _sample_uniform(n, -augmentation.brightness, augmentation.brightness, generator).view(
        n, 1, 1, 1
    )
    noise = _sample_uniform(n, 0, augmentation.noise, generator).view(n, 1, 1, 1)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = (pixels - mean) * contrast + mean + bright
    return (pixels + torch.randn(pixels.shape, generator=generator) * noise).clamp(0, 255)


def _recolour(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    if augmentation.saturation == 1 and not augmentation.grey and not augmentation.tint:
        return pixels
    n, channels = pixels.shape[:2]
    log_saturation = math.log(augmentation.saturation)
    saturation = torch.exp(_sample_uniform(n, -log_saturation, log_saturation, generator))
    saturation[torch.rand(n, generator=generator) < augmentation.grey] = 0.0
    tint = torch.exp(torch.randn(n, channels, 1, 1, generator=generator) * augmentation.tint)
    grey = pixels.mean(dim=1, keepdim=True)
    return (((pixels - grey) * saturation.view(n, 1, 1, 1) + grey) * tint).clamp(0, 255)


def _compress(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    if not augmentation.jpeg:
        return pixels
    chosen = torch.rand(len(pixels), generator=generator) < augmentation.jpeg
    qualities = torch.randint(*JPEG_QUALITIES, (len(pixels),), generator=generator)
    pictures = [
        _recompress_jpeg(picture, quality) if compress else picture
        for picture, compress, quality in zip(
            pixels, chosen.tolist(), qualities.tolist(), strict=True
        )
    ]
    return torch.stack(pictures)


def _recompress_jpeg(picture: Tensor, quality: int) -> Tensor:
    pixels = picture.round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float()


def _erase(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Paint one box a chosen sample in its mean grey (Zhong et al. 2017, arXiv 1708.04896)."""
    n, _, height, width = pixels.shape
    chosen = (torch.rand(n, generator=generator) < augmentation.erase).view(n, 1, 1)
    size = _sample_uniform(n, 0.1, augmentation.erase_side, generator).view(n, 1, 1)
    top = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    left = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    y = torch.linspace(0, 1, height).view(1, height, 1)
    x = torch.linspace(0, 1, width).view(1, 1, width)
    inside = (y >= top) & (y < top + size) & (x >= left) & (x < left + size) & chosen
    return torch.where(inside.unsqueeze(1), pixels.mean(dim=(1, 2, 3), keepdim=True), pixels)
