"""Training curves and evaluation plots, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.metrics import Reliability

if TYPE_CHECKING:  # imports PyTorch, which evaluation plots do not need
    from trainer.training.epoch_metrics import EpochMetrics

PLOT_DPI = 120  # dots per inch


def plot_curves(history: Sequence[EpochMetrics], path: Path) -> None:
    """Plot loss and accuracy of both splits over the epochs."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [epoch.epoch for epoch in history]
    for axes, name, unit in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "share"), strict=True
    ):
        for part in ("train", "validation"):
            axes.plot(epochs, [getattr(e, f"{part}_{name}") for e in history], ".-", label=part)
        axes.set(title=name, xlabel="epoch", ylabel=unit)
        axes.legend()
    figure.savefig(path, dpi=PLOT_DPI)


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Plot the confusion matrix: counts as text, shares of the true label as colour."""
    counts = np.asarray(evaluation.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2 + 0.8 * len(counts)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    ticks = range(len(counts))
    axes.set_xticks(ticks, evaluation.labels, rotation=45, ha="right")
    axes.set_yticks(ticks, evaluation.labels)
    axes.set(xlabel="answer", ylabel="true label")
    figure.savefig(path, dpi=PLOT_DPI)


def plot_reliability(bins: Reliability, path: Path) -> None:
    """Plot accuracy over confidence; a calibrated model is on the diagonal."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    filled = bins.count > 0
    axes.plot([0, 1], [0, 1], ":", color="grey")
    axes.plot(bins.confidence[filled], bins.accuracy[filled], "o-")
    for x, y, n in zip(
        bins.confidence[filled], bins.accuracy[filled], bins.count[filled], strict=True
    ):
        axes.annotate(str(n), (x, y), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path, dpi=PLOT_DPI)
