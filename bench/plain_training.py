"""Minimal training script, the baseline of the benchmark of training: a data set, a loader, a loop.

    python -m bench.plain_training FOLDER EPOCHS

It trains the same network as ``bench.training`` lets the trainer train, on photos in a sub-folder
per class, with random changes like the trainer's by Pillow in two loader processes. It has no
checkpoints, no averaged weights and no detection of duplicates, and decodes all photos in every
epoch.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.training import BATCH_SIZE, LEARNING_RATE, NETWORK, SIDE
from trainer.networks import PhotoNet
from trainer.training.config import Config
from trainer.training.pretrained import build_network

VALIDATION_SHARE = 0.1
LOADERS = 2


class Photos(Dataset[tuple[Tensor, int]]):
    """Photos of files, changed at random if they are trained on."""

    def __init__(self, files: list[tuple[Path, int]], is_training: bool) -> None:
        self._files, self._is_training = files, is_training

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        path, label = self._files[number]
        image: Image.Image = Image.open(path).convert("RGB")
        image = change(image) if self._is_training else image.resize((SIDE, SIDE))
        pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)
        return torch.from_numpy(pixels.copy()), label


def change(image: Image.Image) -> Image.Image:
    """Crop, turn, mirror and relight a photo at random, at the trainer's default strength."""
    image = image.resize((SIDE, SIDE)).rotate(random.uniform(-20, 20), Image.Resampling.BILINEAR)
    size = SIDE * random.uniform(0.82, 1)
    left, top = random.uniform(0, SIDE - size), random.uniform(0, SIDE - size)
    box = (left, top, left + size, top + size)
    image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.8, 1.2))
    return ImageEnhance.Contrast(image).enhance(random.uniform(0.67, 1.5))


def main(folder: Path, epochs: int) -> None:
    """Train for some epochs, and validate after each."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [(path, n) for n, class_ in enumerate(classes) for path in sorted(class_.iterdir())]
    random.Random(1).shuffle(files)
    held = int(len(files) * VALIDATION_SHARE)
    training, validation = Photos(files[held:], True), Photos(files[:held], False)
    loader = DataLoader(training, BATCH_SIZE, shuffle=True, num_workers=LOADERS)
    check = DataLoader(validation, BATCH_SIZE, num_workers=LOADERS)
    network = build_network(Config(network=NETWORK), len(classes), 3)
    assert isinstance(network, PhotoNet)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        network.train()
        for pixels, labels in loader:
            loss = F.cross_entropy(network(pixels), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            for pixels, labels in check:
                (network(pixels).argmax(1) == labels).sum().item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
