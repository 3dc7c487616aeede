"""The plots of the page: shares of labels, confidences, and both over earlier reports."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from batch.page.history import Edition
from batch.page.svg import INK, LABEL_COLOURS, SETTINGS, drawing_colour, svg_of
from batch.page.totals import BINS, Totals

# Labels that a plot tells apart; the others are one more.
MOST_LABELS = LABEL_COLOURS - 1
OTHERS = "others"
SIZE = (4.6, 2.7)  # inches, as matplotlib counts; the page scales it
UNSURE = 0.45  # how strong the colour of unsure answers is
NAME_LENGTH = 18  # characters


def draw(totals: Totals, editions: Sequence[Edition]) -> dict[str, str]:
    """Draw all plots of a page as SVG, by their names; empty where there is nothing to show."""
    return {
        "labels": label_plot(totals),
        "confidence": confidence_plot(totals),
        "history": history_plot(editions, shown_labels(totals)) if len(editions) > 1 else "",
    }


def label_plot(totals: Totals) -> str:
    """Draw how many answers each label has, the sure ones strong, as SVG."""
    with _axes() as (figure, axes):
        shown = shown_labels(totals)
        sure = [totals.sure[label] for label in shown]
        unsure = [totals.unsure[label] for label in shown]
        names = [_short(label) for label in shown]
        for label, name in _others(totals, shown):
            names.append(name)
            sure.append(sum(totals.sure[other] for other in label))
            unsure.append(sum(totals.unsure[other] for other in label))
        places = range(len(names))
        colours = [drawing_colour(number) for number in places]
        height = min(0.6, 0.18 * len(names))
        axes.barh(places, sure, color=colours, height=height)
        bars = axes.barh(places, unsure, left=sure, color=colours, height=height, alpha=UNSURE)
        counts = [f"{s + u:,}" for s, u in zip(sure, unsure, strict=True)]
        axes.bar_label(bars, counts, padding=4, color=INK)
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        said = "; ".join(f"{n} {c}" for n, c in zip(names, counts, strict=True))
        return svg_of(figure, "labels", f"Answers by label: {said or 'none'}")


def confidence_plot(totals: Totals) -> str:
    """Draw how many answers have which confidence, by label, as SVG."""
    with _axes() as (figure, axes):
        shown = shown_labels(totals)
        heights = [totals.bins[label] for label in shown]
        for labels, _ in _others(totals, shown):
            columns = zip(*(totals.bins[label] for label in labels), strict=True)
            heights.append([sum(column) for column in columns])
        below = [0] * BINS
        for number, counts in enumerate(heights):
            edges = [part / BINS for part in range(BINS)]
            colour = drawing_colour(number)
            axes.bar(edges, counts, 0.9 / BINS, below, align="edge", color=colour)
            below = [a + b for a, b in zip(below, counts, strict=True)]
        # With two labels nothing is below a half.
        first = next((part for part, count in enumerate(below) if count), 0)
        axes.set_xlim(min(first, BINS // 2) / BINS, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel="confidence", ylabel="answers")
        mean = totals.mean_confidence
        said = "no answers" if mean is None else f"the mean is {mean:.0%}"
        return svg_of(figure, "confidence", f"Answers by confidence: {said}")


def history_plot(editions: Sequence[Edition], labels: Sequence[str]) -> str:
    """Draw the shares of labels among sure answers over reports, the oldest first, as SVG."""
    with _axes() as (figure, axes):
        for number, label in enumerate(labels):
            shares = [edition.totals.share(label) for edition in editions]
            points = [float("nan") if share is None else share for share in shares]
            axes.plot(points, "o-", color=drawing_colour(number), markersize=4, linewidth=1.6)
        places = sorted({*range(0, len(editions), -(-len(editions) // 6)), len(editions) - 1})
        axes.set_xticks(places, [f"{editions[place].when:%d %b}" for place in places])
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.set_ylabel("share of sure answers")
        return svg_of(figure, "history", f"Shares of labels in {len(editions)} reports")


def shown_labels(totals: Totals) -> list[str]:
    """Choose the labels that plots name: all, or the most frequent ones, in the model's order."""
    if len(totals.labels) <= LABEL_COLOURS:
        return list(totals.labels)
    counts = totals.sure + totals.unsure
    most = sorted(totals.labels, key=lambda label: -counts[label])[:MOST_LABELS]
    return [label for label in totals.labels if label in most]


def _others(totals: Totals, shown: list[str]) -> list[tuple[list[str], str]]:
    rest = [label for label in totals.labels if label not in shown]
    return [(rest, f"{len(rest)} {OTHERS}")] if rest else []


def _short(label: str) -> str:
    return label if len(label) <= NAME_LENGTH else f"{label[: NAME_LENGTH - 1]}\u2026"


@contextmanager
def _axes() -> Iterator[tuple[Figure, Axes]]:
    with rc_context(SETTINGS), warnings.catch_warnings():
        # Labels may be in any script: the browser has its letters, this font need not.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=SIZE, layout="constrained")
        yield figure, figure.subplots()
