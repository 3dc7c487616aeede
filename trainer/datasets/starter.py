"""The starter set: drawn faces, to see the way from data to a model where there are no data."""

from __future__ import annotations

import numpy as np

from trainer.data import Dataset, Framing, Part, Pixels
from trainer.datasets.drawn import Mood, draw_snapshot

NAME = "drawn"
LABELS = tuple(mood.value for mood in Mood)
# Samples of each part, half of them happy, and the seed of its first face.
PARTS = {"train": (400, 10_000), "validation": (100, 20_000), "test": (100, 30_000)}
# Grey levels: cameras give no clean surfaces, and noise makes the set less of a toy.
NOISE = 8.0
CREDIT = "Faces that this project draws itself."
WARNING = (
    "These are drawn faces, not photos: they only show the way from data to a model. "
    "Do not use a model of them for anything else."
)


def load_starter(framing: Framing) -> Dataset:
    """Draw the starter set, the same every time: happy and sad faces, none in two parts."""
    parts = {
        split: _part(count, first_seed, framing) for split, (count, first_seed) in PARTS.items()
    }
    return Dataset(
        name=NAME,
        labels=LABELS,
        framing=framing,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        credit=CREDIT,
        warning=WARNING,
    )


def _part(count: int, first_seed: int, framing: Framing) -> Part:
    moods = [tuple(Mood)[n % len(Mood)] for n in range(count)]
    faces = [_noisy(mood, framing, first_seed + n) for n, mood in enumerate(moods)]
    return Part(
        pixels=np.stack(faces),
        votes=np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(mood) for mood in moods]],
        certain=np.ones(count, dtype=np.bool_),
        kinds=np.array(moods, dtype=np.str_),
    )


def _noisy(mood: Mood, framing: Framing, seed: int) -> Pixels:
    face = draw_snapshot(mood, framing.side, framing.channels, seed)
    noise = np.random.default_rng(seed).normal(0, NOISE, face.shape)
    return np.clip(np.rint(face + noise), 0, 255).astype(np.uint8)
