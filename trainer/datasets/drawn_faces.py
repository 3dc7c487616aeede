"""Cartoon faces drawn from a seed, and the starter data set made of them.

The faces are free of rights and identical on every machine. They serve as golden samples of model
files, and as the starter set, on which the trainer can be tried without photos.
"""

from __future__ import annotations

import random
from enum import StrEnum

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from trainer.datasets.dataset import Dataset, Framing, Pixels, Split

# Faces are drawn larger by this factor and then shrunk, which smooths the edges.
OVERSAMPLING = 4

STARTER_NAME = "drawn"
# Samples of each split, half of them happy, and the seed of its first face.
SPLIT_SIZES = {"train": (400, 10_000), "validation": (100, 20_000), "test": (100, 30_000)}
# Standard deviation of the noise, in grey levels; similar to that of a camera.
NOISE_LEVEL = 8.0
STARTER_CREDIT = "Faces drawn by this project."
STARTER_WARNING = (
    "These are drawn faces, not photos: use them only to try the trainer. "
    "A model trained on them does not work on photos."
)


class Mood(StrEnum):
    """Expression of a drawn face."""

    HAPPY = "happy"
    SAD = "sad"


STARTER_LABELS = tuple(mood.value for mood in Mood)


def draw_face(mood: Mood, side: int, channels: int, seed: int) -> Pixels:
    """Draw a cartoon face that fills its picture.

    Args:
        mood: the expression.
        side: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        seed: seed of the tones and of the position of each part.

    Returns:
        uint8 [side, side, channels].
    """
    rng = random.Random(f"{mood.value} {seed}")
    size = side * OVERSAMPLING
    image = Image.new("RGB", (size, size), _random_tone(rng, 30, 120))
    centre = (size * rng.uniform(0.47, 0.53), size * rng.uniform(0.47, 0.53))
    _draw_head(image, mood, centre, size * rng.uniform(0.40, 0.46), rng)
    return _shrink(image, side, channels)


def draw_snapshot(mood: Mood, side: int, channels: int, seed: int) -> Pixels:
    """Draw a cartoon face like a bad snapshot: tilted, off-centre, in uneven light.

    Arguments and result are those of ``draw_face``. Different seeds never give near duplicates, as
    a data set requires.
    """
    rng = random.Random(f"snapshot {mood.value} {seed}")
    size = side * OVERSAMPLING
    image = _draw_patches(rng, 5, 30, 225).resize((size, size), Image.Resampling.BICUBIC)
    centre = (size * rng.uniform(0.38, 0.62), size * rng.uniform(0.38, 0.62))
    _draw_head(image, mood, centre, size * rng.uniform(0.3, 0.5), rng)
    tilted = image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR)
    light = _draw_patches(rng, 3, 110, 255).resize((size, size), Image.Resampling.BICUBIC)
    return _shrink(ImageChops.multiply(tilted, light), side, channels)


def load_starter(framing: Framing) -> Dataset:
    """Draw the starter set: happy and sad faces, the same every time."""
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


def _draw_head(
    image: Image.Image,
    mood: Mood,
    centre: tuple[float, float],
    radius: float,
    rng: random.Random,
) -> None:
    pen = ImageDraw.Draw(image)
    pen.ellipse(_bounding_box(centre, radius * 0.9, radius), fill=_random_tone(rng, 150, 235))
    ink = _random_tone(rng, 0, 60)
    _draw_eyes(pen, mood, centre, radius, ink, rng)
    _draw_mouth(pen, mood, centre, radius, ink, rng)


def _draw_patches(rng: random.Random, count: int, low: int, high: int) -> Image.Image:
    """Draw ``count`` x ``count`` pixels of random tones."""
    image = Image.new("RGB", (count, count))
    image.putdata([_random_tone(rng, low, high) for _ in range(count * count)])
    return image


def _shrink(image: Image.Image, side: int, channels: int) -> Pixels:
    mode = "L" if channels == 1 else "RGB"
    small = image.convert(mode).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small).reshape(side, side, channels)


def _draw_eyes(
    pen: ImageDraw.ImageDraw,
    mood: Mood,
    centre: tuple[float, float],
    radius: float,
    ink: tuple[int, int, int],
    rng: random.Random,
) -> None:
    apart = radius * rng.uniform(0.34, 0.42)
    height = centre[1] - radius * rng.uniform(0.18, 0.28)
    # Sad brows rise towards the nose, happy ones are level.
    slope = radius * rng.uniform(0.08, 0.16) * (mood is Mood.SAD)
    for sign in (-1, 1):
        eye = (centre[0] + sign * apart, height)
        pen.ellipse(_bounding_box(eye, radius * 0.09, radius * 0.12), fill=ink)
        inner = (eye[0] - sign * radius * 0.16, height - radius * 0.28 - slope / 2)
        outer = (eye[0] + sign * radius * 0.16, height - radius * 0.28 + slope / 2)
        pen.line((inner, outer), fill=ink, width=max(1, round(radius * 0.07)))


def _draw_mouth(
    pen: ImageDraw.ImageDraw,
    mood: Mood,
    centre: tuple[float, float],
    radius: float,
    ink: tuple[int, int, int],
    rng: random.Random,
) -> None:
    reach = radius * rng.uniform(0.38, 0.5)
    depth = radius * rng.uniform(0.24, 0.36)
    width = max(1, round(radius * 0.09))
    if mood is Mood.HAPPY:
        mouth = (centre[0], centre[1] + radius * 0.25)
        pen.chord(
            _bounding_box(mouth, reach, depth),
            0,
            180,
            fill=(245, 245, 245),
            outline=ink,
            width=width,
        )
    else:
        mouth = (centre[0], centre[1] + radius * 0.65)
        pen.arc(_bounding_box(mouth, reach, depth), 200, 340, fill=ink, width=width)


def _bounding_box(centre: tuple[float, float], across: float, down: float) -> tuple[float, ...]:
    return (centre[0] - across, centre[1] - down, centre[0] + across, centre[1] + down)


def _random_tone(rng: random.Random, low: int, high: int) -> tuple[int, int, int]:
    level = rng.randint(low, high)
    return (level, max(0, level - rng.randint(0, 20)), max(0, level - rng.randint(0, 30)))


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
