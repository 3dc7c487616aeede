"""Plots of the page of a training, as inline SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from batch.page.plots import (
    LABEL_COLOURS,
    LINE,
    MUTED,
    open_axes,
    placeholder_colour,
    shorten,
    to_svg,
)
from batch.path_text import printable_text
from trainer.evaluation.metrics import Reliability
from trainer.training.epoch_metrics import EPOCH, RECALL_PREFIX, History

# Epochs that are drawn; of longer trainings an even selection.
MAX_EPOCHS = 200
# Size of a point of the reliability diagram: the smallest, and what a share of all samples adds.
POINT_AREA = (12.0, 160.0)


def draw_curves(history: History, name: str, kept: int) -> str:
    """Draw the loss or the accuracy of both splits over the epochs as SVG.

    Args:
        history: the history.
        name: ``loss`` or ``accuracy``.
        kept: the epoch whose weights are kept.
    """
    series = {
        part: history[f"{part}_{name}"]
        for part in ("train", "validation")
        if f"{part}_{name}" in history
    }
    last = "; ".join(f"{part} {values[-1]:.3g}" for part, values in series.items())
    return _draw_lines(history[EPOCH], series, kept, name, f"{name} by epoch, at the end {last}")


def draw_recalls(history: History, kept: int) -> str:
    """Draw the recall of each class over the epochs as SVG; empty if the history has none.

    Of more classes than there are colours, those with the lowest recall at the kept epoch.
    """
    recalls = {
        name.removeprefix(RECALL_PREFIX): values
        for name, values in history.items()
        if name.startswith(RECALL_PREFIX)
    }
    if not recalls:
        return ""
    place = list(history[EPOCH]).index(kept)
    lowest = sorted(recalls, key=lambda label: _rank(recalls[label][place]))[:LABEL_COLOURS]
    shown = {shorten(printable_text(label)): recalls[label] for label in recalls if label in lowest}
    return _draw_lines(
        history[EPOCH], shown, kept, "recall", "recall of each class by epoch, validation split"
    )


def draw_reliability(bins: Reliability) -> str:
    """Draw accuracy over confidence as SVG; a calibrated network is on the diagonal."""
    with open_axes() as (figure, axes):
        axes.plot([0, 1], [0, 1], ":", color=MUTED)
        filled = bins.count > 0
        confidence, accuracy = bins.confidence[filled], bins.accuracy[filled]
        counts = bins.count[filled]
        axes.plot(confidence, accuracy, color=placeholder_colour(1), linewidth=1)
        least, more = POINT_AREA
        areas = least + more * counts / counts.sum()
        axes.scatter(confidence, accuracy, s=areas, color=placeholder_colour(1))
        axes.set(xlabel="confidence", ylabel="right", xlim=(0, 1.02), ylim=(0, 1.05))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, 0, " %"))
        points = "; ".join(
            f"{100 * c:.0f} % confident, {100 * a:.0f} % of {n} right"
            for c, a, n in zip(confidence, accuracy, counts, strict=True)
        )
        return to_svg(figure, "reliability", f"Reliability: {points}")


def _draw_lines(
    epochs: Sequence[float],
    series: Mapping[str, Sequence[float]],
    kept: int,
    unit: str,
    description: str,
) -> str:
    """Draw one line per series; the kept epoch is a vertical line."""
    step = -(-len(epochs) // MAX_EPOCHS)
    chosen = sorted({*range(0, len(epochs), step), list(epochs).index(kept), len(epochs) - 1})
    with open_axes() as (figure, axes):
        axes.axvline(kept, color=LINE, linewidth=1.2)
        for number, (label, values) in enumerate(series.items()):
            axes.plot(
                [epochs[n] for n in chosen],
                [values[n] for n in chosen],
                color=placeholder_colour(number),
                # Not by colour alone.
                linestyle=("-", "--", ":", "-.")[number % 4],
                marker="." if len(chosen) == 1 else "",
                linewidth=1.6,
                # Matplotlib hides labels that begin with an underscore.
                label=f" {label}",
            )
        axes.set(xlabel="epoch", ylabel="nats" if unit == "loss" else unit)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        _limit_shares(axes, unit)
        axes.legend(frameon=False, fontsize=9, ncols=2)
        return to_svg(figure, unit, f"{description}; the weights are those of epoch {kept}")


def _limit_shares(axes: Axes, unit: str) -> None:
    if unit == "loss":
        axes.set_ylim(bottom=0)
        return
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))


def _rank(recall: float) -> float:
    return math.inf if math.isnan(recall) else recall
