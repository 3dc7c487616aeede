"""Random augmentation of training pictures.

The changes imitate real photos and a detector's crops of them: tilted, off-centre, cropped
differently, of low resolution, under- or over-exposed, in another light, noisy, compressed, partly
covered.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from trainer.training.config import Augmentation

# Number of samples that share one random resolution, because each resolution costs a resize call.
RESOLUTION_GROUP = 16
# Range of the JPEG quality, from visible to invisible artefacts.
JPEG_QUALITIES = (20, 90)


def augment(pixels: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment every picture of a batch at random.

    Args:
        pixels: float [N, C, H, W], 0..255.
        augmentation: the strength of each change.
        generator: the source of all random numbers.

    Returns:
        Pictures of the same shape and range.
    """
    pixels = _warp(pixels, augmentation, generator)
    pixels = _reduce_resolution(pixels, augmentation, generator)
    pixels = _relight(pixels, augmentation, generator)
    pixels = _recolour(pixels, augmentation, generator)
    pixels = _compress(pixels, augmentation, generator)
    return _erase(pixels, augmentation, generator)


def jitter_boxes(pixels: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Crop each face again with its box moved and resized at random.

    A detector's boxes for the same face differ from one photo to the next.

    Args:
        pixels: float [N, C, H, W].
        jitter: largest move of the centre and largest change of the side, as shares of the side.
        generator: the source of all random numbers.

    Returns:
        Pictures of the same shape.
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
    # affine_grid measures in half sides, hence the factor 2.
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
    """Sample the sides of crops, as shares of the picture's, and their centres, in half sides.

    Returns:
        Sides and centres, float [n, 2] each.
    """
    # Draws no random numbers, so that runs of earlier releases can be reproduced.
    if augmentation.crop == 1 and augmentation.aspect == 1:
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
    """Paint a box of the mean grey into chosen samples (Zhong et al. 2017, arXiv 1708.04896)."""
    n, _, height, width = pixels.shape
    chosen = (torch.rand(n, generator=generator) < augmentation.erase).view(n, 1, 1)
    size = _sample_uniform(n, 0.1, augmentation.erase_side, generator).view(n, 1, 1)
    top = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    left = torch.rand(n, generator=generator).view(n, 1, 1) * (1 - size)
    y = torch.linspace(0, 1, height).view(1, height, 1)
    x = torch.linspace(0, 1, width).view(1, 1, width)
    inside = (y >= top) & (y < top + size) & (x >= left) & (x < left + size) & chosen
    return torch.where(inside.unsqueeze(1), pixels.mean(dim=(1, 2, 3), keepdim=True), pixels)
