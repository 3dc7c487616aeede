"""The starter set: drawn faces, to see the way from data to a model where there are no data."""

from __future__ import annotations

import numpy as np

from trainer.data import Dataset, Framing, Pixels, Split
from trainer.datasets.drawn import Mood, draw_snapshot

STARTER_NAME = "drawn"
STARTER_LABELS = tuple(mood.value for mood in Mood)
# Samples of each part, half of them happy, and the seed of its first face.
SPLIT_SIZES = {"train": (400, 10_000), "validation": (100, 20_000), "test": (100, 30_000)}
# Grey levels: cameras give no clean surfaces, and noise makes the set less of a toy.
NOISE_LEVEL = 8.0
STARTER_CREDIT = "Faces that this project draws itself."
STARTER_WARNING = (
    "These are drawn faces, not photos: they only show the way from data to a model. "
    "Do not use a model of them for anything else."
)


def load_starter(framing: Framing) -> Dataset:
    """Draw the starter set, the same every time: happy and sad faces, none in two parts."""
    parts = {
        split: _draw_split(count, first_seed, framing)
        for split, (count, first_seed) in SPLIT_SIZES.items()
    }
    return Dataset(
        name=STARTER_NAME,
        labels=STARTER_LABELS,
        framing=framing,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        credit=STARTER_CREDIT,
        warning=STARTER_WARNING,
    )


def _draw_split(count: int, first_seed: int, framing: Framing) -> Split:
    moods = [tuple(Mood)[n % len(Mood)] for n in range(count)]
    faces = [_draw_noisy_face(mood, framing, first_seed + n) for n, mood in enumerate(moods)]
    return Split(
        pixels=np.stack(faces),
        votes=np.eye(len(STARTER_LABELS), dtype=np.float32)[
            [STARTER_LABELS.index(mood) for mood in moods]
        ],
        certain=np.ones(count, dtype=np.bool_),
        kinds=np.array(moods, dtype=np.str_),
    )


def _draw_noisy_face(mood: Mood, framing: Framing, seed: int) -> Pixels:
    face = draw_snapshot(mood, framing.side, framing.channels, seed)
    noise = np.random.default_rng(seed).normal(0, NOISE_LEVEL, face.shape)
    return np.clip(np.rint(face + noise), 0, 255).astype(np.uint8)
