"""How a model's answers hold if its pictures are corrupted as real photos are.

After ImageNet-C (Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", arXiv 1903.12261), with strengths in physical terms. The samples are
corrupted: the face crop or the whole photo, at the size of the model's input. So a face that is not
found in a corrupted photo is not counted, and JPEG blocks are larger beside a face than in a file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from batch.models.ensemble import Thresholds
from batch.models.model import Model
from batch.options import Provider
from batch.vision.classify import Classifier
from trainer.datasets.dataset import Pixels, Split, select_samples
from trainer.evaluation.evaluate import get_thresholds, match_to_model
from trainer.evaluation.exported_models import PREDICTION_BATCH
from trainer.evaluation.metrics import (
    Estimate,
    Probabilities,
    estimate_paired_gain,
    estimate_shares,
    estimate_to_json,
)
from trainer.evaluation.selective import decide_all

# Samples that are corrupted at most, drawn at random. Their accuracy has a standard error of up to
# 1.6 points; the change, measured on the same samples, has a smaller one.
MAX_SAMPLES = 1000
SEED = 1
# Exposure in stops: each doubles or halves the light, of which sRGB stores about the root.
DARKER_STOPS, BRIGHTER_STOPS = (2, 4), (1, 2)
# Standard deviation of a Gaussian blur, as a share of the side: 1 and 2 pixels of 48.
BLUR_SHARES = (1 / 48, 2 / 48)
# Factors by which a picture is reduced, and enlarged again.
REDUCTIONS = (2, 4)
# Standard deviation of the noise, in grey levels.
NOISE_LEVELS = (10, 25)
JPEG_QUALITIES = (25, 10)
# Degrees; every second picture is turned the other way. Edge pixels fill the corners.
ANGLES = (15, 30)

UNCHANGED = "none"

# Changes a picture, uint8 [H, W, C]; the number is the picture's place among the samples.
Change = Callable[[Pixels, int], Pixels]


@dataclass(frozen=True)
class Corruption:
    """A corruption of one strength.

    Attributes:
        name: what it does, with its strength.
        change: corrupts a picture.
    """

    name: str
    change: Change

    def apply(self, pixels: Pixels) -> Pixels:
        """Corrupt pictures, uint8 [n, H, W, C]; the same pictures give the same result."""
        return np.stack([self.change(picture, n) for n, picture in enumerate(pixels)])


@dataclass(frozen=True)
class CorruptedMetrics:
    """Metrics on samples with one corruption.

    Attributes:
        name: the corruption.
        accuracy: share of right answers.
        change: its difference from the accuracy without a corruption, on the same samples, with
            the score interval of paired answers.
        ok: share of samples that get a label with status ``ok``.
        right: share of right labels among these; NaN if there are none.
    """

    name: str
    accuracy: Estimate
    change: Estimate
    ok: Estimate
    right: Estimate


@dataclass(frozen=True)
class CorruptionMetrics:
    """Metrics of a model on corrupted samples.

    Attributes:
        samples: number of samples.
        of: number of samples that these were drawn from.
        rows: metrics without a corruption, then with each.
    """

    samples: int
    of: int
    rows: tuple[CorruptedMetrics, ...]


def list_corruptions(side: int) -> tuple[Corruption, ...]:
    """List the corruptions of pictures with sides of so many pixels."""
    return (
        *(Corruption(f"darker by {n} stops", _expose(-n)) for n in DARKER_STOPS),
        *(
            Corruption(f"brighter by {n} stop{'s' if n > 1 else ''}", _expose(n))
            for n in BRIGHTER_STOPS
        ),
        *(
            Corruption(f"blur, sigma {side * share:.1f} px", _blur(side * share))
            for share in BLUR_SHARES
        ),
        *(
            Corruption(f"resolution of {max(1, side // n)} px", _reduce(max(1, side // n)))
            for n in REDUCTIONS
        ),
        *(Corruption(f"noise, sigma {n} grey levels", _add_noise(n)) for n in NOISE_LEVELS),
        *(Corruption(f"JPEG quality {n}", _compress(n)) for n in JPEG_QUALITIES),
        *(Corruption(f"rotation by {n} degrees", _rotate(n)) for n in ANGLES),
    )


def measure_model(model: Model, part: Split, labels: tuple[str, ...]) -> CorruptionMetrics:
    """Measure a model on corrupted samples; it runs as in the runner.

    Args:
        model: the model.
        part: held-out samples.
        labels: the classes of ``part``, which are mapped to the model's outputs.

    Raises:
        ModelError: the model's input has another shape, or the data lack one of its labels.
    """
    classifier = Classifier(model, Provider.CPU, PREDICTION_BATCH)
    matched = match_to_model(part, labels, model)
    return measure_corruptions(
        classifier.classify, matched, model.spec.labels, get_thresholds(model.spec)
    )


def measure_corruptions(
    classify: Callable[[Pixels], Probabilities],
    part: Split,
    labels: tuple[str, ...],
    thresholds: Thresholds,
) -> CorruptionMetrics:
    """Measure answers to samples without and with each corruption.

    At most ``MAX_SAMPLES`` are drawn, the same ones every time.

    Args:
        classify: computes float32 [n, K + A] from pixels.
        part: samples whose classes are the outputs.
        labels: the K labels.
        thresholds: decide which labels count.
    """
    count = len(part)
    if count > MAX_SAMPLES:
        drawn = np.random.default_rng(SEED).choice(count, MAX_SAMPLES, replace=False)
        part = select_samples(part, np.sort(drawn))
    targets, before = part.targets, None
    rows = []
    unchanged = Corruption(UNCHANGED, lambda picture, _: picture)
    for corruption in (unchanged, *list_corruptions(part.pixels.shape[1])):
        answers = classify(corruption.apply(part.pixels))
        right = answers.argmax(axis=1) == targets
        before = right if before is None else before
        made = decide_all(answers, labels, thresholds)
        ok = made.outcome < len(labels)
        change = (
            Estimate(0.0, 0.0, 0.0)
            if corruption is unchanged
            else estimate_paired_gain(
                int((right & ~before).sum()), int((before & ~right).sum()), len(part)
            )
        )
        answered = int(ok.sum())
        accuracy, sure, right_of_sure = estimate_shares(
            np.array([right.sum(), answered, (ok & (made.label == targets)).sum()]),
            np.array([len(part), len(part), answered]),
        )
        rows.append(CorruptedMetrics(corruption.name, accuracy, change, sure, right_of_sure))
    return CorruptionMetrics(len(part), count, tuple(rows))


def corruptions_to_json(found: CorruptionMetrics) -> dict[str, Any]:
    """Convert the metrics to plain values for JSON, rounded to 4 digits."""
    return {
        "samples": found.samples,
        "of": found.of,
        "rows": {
            row.name: {
                "accuracy": estimate_to_json(row.accuracy),
                "change": estimate_to_json(row.change),
                "ok": estimate_to_json(row.ok),
                "right": estimate_to_json(row.right),
            }
            for row in found.rows
        },
    }


def _expose(stops: float) -> Change:
    """Change the exposure by stops; what gets brighter than white is white."""
    levels = np.arange(256) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    light = np.minimum(light * 2.0**stops, 1)
    stored = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.rint(stored * 255).astype(np.uint8)
    return lambda picture, _: table[picture]


def _blur(sigma: float) -> Change:
    return lambda picture, _: _to_pixels(
        _to_image(picture).filter(ImageFilter.GaussianBlur(sigma)), picture
    )


def _reduce(side: int) -> Change:
    """Reduce a picture to a smaller side, and enlarge it again."""

    def change(picture: Pixels, _: int) -> Pixels:
        image = _to_image(picture)
        small = image.resize((side, side), Image.Resampling.BILINEAR)
        return _to_pixels(small.resize(image.size, Image.Resampling.BILINEAR), picture)

    return change


def _add_noise(sigma: float) -> Change:
    """Add Gaussian noise, with a seed of its own for each picture."""

    def change(picture: Pixels, n: int) -> Pixels:
        noise = np.random.default_rng((SEED, n)).standard_normal(picture.shape)
        return np.rint(picture + sigma * noise).clip(0, 255).astype(np.uint8)

    return change


def _compress(quality: int) -> Change:
    def change(picture: Pixels, _: int) -> Pixels:
        file = io.BytesIO()
        _to_image(picture).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            return _to_pixels(image, picture)

    return change


def _rotate(degrees: float) -> Change:
    """Rotate pictures around their centre, every second one the other way."""

    def change(picture: Pixels, n: int) -> Pixels:
        height, width = picture.shape[:2]
        border = (height // 2, width // 2)
        wide = np.pad(picture, (*((side, side) for side in border), (0, 0)), mode="edge")
        turned = _to_image(wide).rotate(degrees if n % 2 else -degrees, Image.Resampling.BILINEAR)
        top, left = border
        return _to_pixels(turned, wide)[top : top + height, left : left + width]

    return change


def _to_image(picture: Pixels) -> Image.Image:
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def _to_pixels(image: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(image).reshape(like.shape)
