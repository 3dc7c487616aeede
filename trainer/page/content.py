"""What the page of a training shows, as plain records for its template."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from batch.path_text import printable_text
from trainer.datasets.dataset import Dataset, Pixels
from trainer.datasets.samples import SPLIT_NAMES
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.metrics import Estimate, Reliability
from trainer.page.answers import MeasuredAnswers
from trainer.page.problems import Problem
from trainer.training.config import Config

# Pictures of a gallery, rows of a list, and classes of a table; the page says how many there are.
MAX_PICTURES = 24
MAX_ROWS = 20
MAX_CLASSES = 100
MAX_MATRIX_CLASSES = 20
# Largest side of a picture in pixels, and its quality as WebP.
MAX_SIDE = 128
QUALITY = 80


@dataclass(frozen=True)
class SamplePicture:
    """A sample in a gallery.

    Attributes:
        source: the picture as a data URI.
        width: its width in the page, in pixels.
        height: its height.
        name: its file.
        label: its label.
        note: what the gallery says of it.
    """

    source: str
    width: int
    height: int
    name: str
    label: str
    note: str


@dataclass(frozen=True)
class Gallery:
    """The first pictures of a list.

    Attributes:
        pictures: those that are shown.
        count: how many there are.
    """

    pictures: Sequence[SamplePicture]
    count: int


@dataclass(frozen=True)
class CountedShare:
    """A share of samples.

    Attributes:
        name: of what.
        right: number of samples that count.
        total: number of all samples.
        interval: the share with its 95 % interval; None without samples.
    """

    name: str
    right: int
    total: int
    interval: Estimate | None


@dataclass(frozen=True)
class Metrics:
    """Metrics on held-out samples.

    Attributes:
        accuracy: right answers of all.
        calibration_error: expected calibration error, with its 95 % interval; None if the
            samples are too few to measure it.
        recalls: right answers of each class.
        confusion: samples by true class (rows) and answer (columns); empty if there are too many
            classes.
        confusions: true class, answer and number of the most frequent mistakes.
        reliability: the reliability diagram.
        independent: number of samples that the intervals count: those of a group count as one.
    """

    accuracy: CountedShare
    calibration_error: Estimate | None
    recalls: Sequence[CountedShare]
    confusion: Sequence[Sequence[int]]
    confusions: Sequence[tuple[str, str, int]]
    reliability: Reliability
    independent: int


@dataclass(frozen=True)
class ChangedSetting:
    """A setting that differs from its default.

    Attributes:
        name: its name in TOML.
        value: its value.
        default: its default.
    """

    name: str
    value: str
    default: str


def describe_data(data: Dataset) -> list[tuple[str, str]]:
    """Describe a data set in pairs of name and value."""
    total = sum(map(len, (data.train, data.validation, data.test)))
    facts = [("Data", data.name), ("Samples", f"{total:,} {data.framing.describe()}")]
    for what, part in (("pseudo-labelled", data.pseudo_labelled), ("reviewed", data.reviewed)):
        if part is not None:
            facts.append(("Training only", f"{len(part):,} {what} samples"))
    return facts


def count_classes(data: Dataset) -> list[tuple[str, list[int]]]:
    """Count the samples of each class in each split: train, validation, test."""
    parts = [getattr(data, split) for split in SPLIT_NAMES]
    counts = [np.bincount(part.targets, minlength=len(data.labels)) for part in parts]
    return [(label, [int(count[n]) for count in counts]) for n, label in enumerate(data.labels)]


def list_changed_settings(config: Config) -> list[ChangedSetting]:
    """List the settings that differ from their defaults."""
    values, defaults = _flatten(asdict(config)), _flatten(asdict(Config()))
    return [
        ChangedSetting(name, _to_toml(value), _to_toml(defaults[name]))
        for name, value in values.items()
        if value != defaults[name]
    ]


def measure(held: MeasuredAnswers, labels: tuple[str, ...]) -> Metrics:
    """Compute the metrics of held-out answers."""
    measured = held.measured
    found = evaluate(measured.probabilities, measured.part.targets, labels, measured.part.groups)
    counts = np.asarray(found.confusion)
    right = np.diagonal(counts)
    wrong = counts - np.diag(right)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_ROWS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return Metrics(
        accuracy=_make_share("accuracy", int(right.sum()), len(measured), found.accuracy),
        calibration_error=(
            None if math.isnan(found.calibration_error.value) else found.calibration_error
        ),
        recalls=[
            _make_share(label, int(right[n]), int(counts[n].sum()), found.recall[n])
            for n, label in enumerate(labels)
        ],
        confusion=found.confusion if len(labels) <= MAX_MATRIX_CLASSES else (),
        confusions=[
            (labels[row], labels[column], int(wrong[row, column]))
            for row, column in places
            if wrong[row, column]
        ],
        reliability=found.reliability,
        independent=found.independent,
    )


def collect_mistakes(held: MeasuredAnswers, labels: Sequence[str]) -> Gallery:
    """Collect the wrong answers with the highest loss, those that are most certain."""
    answers = held.answers
    targets, likeliest = answers.part.targets, answers.probabilities.argmax(axis=1)
    own = answers.probabilities[np.arange(len(targets)), targets]
    wrong = np.flatnonzero(likeliest != targets)
    wrong = wrong[np.argsort(own[wrong], kind="stable")]
    pictures = [
        make_picture(
            answers.part.pixels[n],
            name=answers.part.names[n] or f"{answers.splits[n]} sample without a file",
            label=labels[targets[n]],
            note=f"answer {labels[likeliest[n]]}, "
            f"{100 * answers.probabilities[n, likeliest[n]]:.0f}\u00a0%; {answers.splits[n]} split",
        )
        for n in wrong[:MAX_PICTURES]
    ]
    return Gallery(pictures, len(wrong))


def collect_problems(problems: Sequence[Problem]) -> Gallery:
    """Collect the first problems that have a sample."""
    pictured = [problem for problem in problems if problem.pixels is not None]
    pictures = [
        make_picture(
            one.pixels,
            name=one.name or f"{one.split} sample without a file",
            label=one.label,
            note=_describe_problem(one),
        )
        for one in pictured[:MAX_PICTURES]
        if one.pixels is not None
    ]
    return Gallery(pictures, len(problems))


def make_picture(pixels: Pixels, name: str, label: str, note: str) -> SamplePicture:
    """Make a small picture of a sample, uint8 [H, W, C]."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    source = f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
    scale = MAX_SIDE / max(image.size)
    width, height = (round(scale * side) for side in image.size)
    return SamplePicture(source, width, height, name, label, note)


def join_names(names: Iterable[str], most: int = MAX_ROWS) -> str:
    """Join names to a text, and count those beyond the first ones."""
    listed = [printable_text(name) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


def _describe_problem(one: Problem) -> str:
    if one.probability is None:
        return f"{one.detail}; {one.split} split"
    return f"{one.judge}: {one.suggested}, {100 * one.probability:.0f}\u00a0%; {one.split} split"


def _make_share(name: str, right: int, total: int, estimate: Estimate) -> CountedShare:
    return CountedShare(name, right, total, estimate if total else None)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten tables of settings to the names that they have in TOML."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _to_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
