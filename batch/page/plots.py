"""Plots of the page: answers, confidences, and shares over earlier reports, as inline SVG.

matplotlib draws with placeholder colours that become CSS variables, so that plots follow the light
and dark theme of the page.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from batch.page.gather import BINS, STATUS_TEXTS, Totals
from batch.page.history import Edition
from batch.records import Abstain, Status

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"(url\(#|^#)([\w-]+)")


def placeholder_colour(number: int) -> str:
    """Return the placeholder of a page colour by its number, 0 to 255."""
    return f"#fe{number:02x}01"


# The first numbers are the colours of labels.
LABEL_COLOURS = 8
INK, MUTED, LINE, NEITHER, NO_PERSON = (
    placeholder_colour(LABEL_COLOURS + number) for number in range(5)
)
_VARIABLES = {
    **{placeholder_colour(number): f"var(--label-{number})" for number in range(LABEL_COLOURS)},
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    NEITHER: "var(--neither)",
    NO_PERSON: "var(--no-person)",
}
SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",
    # A dollar sign in a label does not begin a formula.
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "font.size": 11,
}


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Convert a figure to an ``<svg>`` element that scales with the page.

    Args:
        figure: the figure.
        name: prefix of the ids in the element, distinct for each plot of a page.
        description: text for screen readers.
    """
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(text.getvalue())
    for parent in root.iter():
        # A style element would apply to the whole page.
        for child in [c for c in parent if c.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(child)
    used = {node_id for node in root.iter() for node_id in _find_references(node)}
    for node in root.iter():
        _adapt_node(node, name, used)
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": description}
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _find_references(node: ET.Element) -> list[str]:
    return [match[2] for value in node.attrib.values() for match in _REFERENCE.finditer(value)]


def _adapt_node(node: ET.Element, name: str, used: set[str]) -> None:
    if _XLINK in node.attrib:
        node.set("href", node.attrib.pop(_XLINK))
    if node.get("id") not in used:
        node.attrib.pop("id", None)
    else:
        node.set("id", f"{name}-{node.get('id')}")
    for key, value in node.attrib.items():
        value = _REFERENCE.sub(rf"\g<1>{name}-\g<2>", value) if "#" in value else value
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, variable)
        node.set(key, value)


# Labels with a colour of their own, if there are more than ``LABEL_COLOURS``; others share one.
MAX_NAMED_LABELS = LABEL_COLOURS - 1
OTHERS = "others"
SIZE_INCHES = (4.6, 2.7)  # the page scales it
UNSURE_ALPHA = 0.45  # opacity of unsure answers
MAX_NAME_CHARS = 18
OUTLINE_POINTS = 1.4  # line width of hollow bars


@dataclass(frozen=True)
class _Series:
    """One answer in a plot, or several labels that share a colour.

    Attributes:
        name: text in the plot.
        answers: labels, or one abstain output.
        colour: a placeholder colour.
        marker: shape of its points in matplotlib's notation.
        is_hollow: whether only its outline is drawn, which needs no colour vision.
    """

    name: str
    answers: tuple[str, ...]
    colour: str
    marker: str = "o"
    is_hollow: bool = False


_ABSTAIN = {
    Abstain.NEITHER: _Series(STATUS_TEXTS[Status.NEITHER], (Abstain.NEITHER,), NEITHER, "s"),
    Abstain.NO_PERSON: _Series(
        STATUS_TEXTS[Status.NO_PERSON], (Abstain.NO_PERSON,), NO_PERSON, is_hollow=True
    ),
}


def draw_plots(totals: Totals, editions: Sequence[Edition]) -> dict[str, str]:
    """Draw all plots of a page as SVG, by name; ``history`` is empty without earlier reports."""
    return {
        "labels": draw_answers(totals),
        "confidence": draw_confidence(totals),
        "history": draw_history(editions, totals) if len(editions) > 1 else "",
    }


def draw_answers(totals: Totals) -> str:
    """Draw the number of rows per answer as SVG, with unsure ones in a pale colour."""
    with open_axes() as (figure, axes):
        series = _choose_series(totals)
        counts = [sum(map(totals.count_sure, one.answers)) for one in series]
        unsure = [sum(totals.unsure[answer] for answer in one.answers) for one in series]
        names = [shorten(one.name) for one in series]
        places = range(len(series))
        height = min(0.6, 0.18 * len(series))
        bars = axes.barh(places, counts, height=height)
        for one, bar in zip(series, bars, strict=True):
            _fill_bar(one, bar)
        colours = [one.colour for one in series]
        pale = axes.barh(
            places, unsure, left=counts, color=colours, height=height, alpha=UNSURE_ALPHA
        )
        texts = [f"{s + u:,}" for s, u in zip(counts, unsure, strict=True)]
        axes.bar_label(pale, texts, padding=4, color=INK)
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        counts_text = "; ".join(f"{n} {c}" for n, c in zip(names, texts, strict=True))
        return to_svg(figure, "labels", f"Answers: {counts_text or 'none'}")


def draw_confidence(totals: Totals) -> str:
    """Draw a stacked histogram of the confidences of answers as SVG."""
    with open_axes() as (figure, axes):
        below = [0] * BINS
        edges = [part / BINS for part in range(BINS)]
        for one in _choose_series(totals):
            counts = [
                sum(column)
                for column in zip(*(totals.bins[answer] for answer in one.answers), strict=True)
            ]
            for bar in axes.bar(edges, counts, 0.9 / BINS, below, align="edge"):
                _fill_bar(one, bar)
            below = [a + b for a, b in zip(below, counts, strict=True)]
        # With two labels and no abstain outputs, nothing is below one half.
        first = next((part for part, count in enumerate(below) if count), 0)
        axes.set_xlim(min(first, BINS // 2) / BINS, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set(xlabel="confidence", ylabel="answers")
        mean = totals.mean_confidence
        mean_text = "no answers" if mean is None else f"the mean is {mean:.0%}"
        return to_svg(figure, "confidence", f"Answers by confidence: {mean_text}")


def draw_history(editions: Sequence[Edition], now: Totals) -> str:
    """Draw the share of each answer among those that are not unsure, per report, as SVG."""
    with open_axes() as (figure, axes):
        for one in _choose_series(now):
            if len(one.answers) > 1:
                continue
            shares = [edition.totals.share(one.answers[0]) for edition in editions]
            points = [float("nan") if share is None else share for share in shares]
            fill = "none" if one.is_hollow else one.colour
            axes.plot(
                *(points, one.marker),
                color=one.colour,
                linestyle="--" if one.is_hollow else "-",
                markerfacecolor=fill,
                markersize=6 if one.is_hollow else 4,
                linewidth=1.6,
            )
        places = sorted({*range(0, len(editions), -(-len(editions) // 6)), len(editions) - 1})
        axes.set_xticks(places, [f"{editions[place].when:%d %b}" for place in places])
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
        axes.set_ylabel("share of sure answers")
        return to_svg(figure, "history", f"Shares of answers in {len(editions)} reports")


def _choose_series(totals: Totals) -> list[_Series]:
    """Choose the series of a plot: named labels, all other labels, and abstain outputs."""
    shown = choose_labels(totals)
    rest = tuple(label for label in totals.labels if label not in shown)
    labels: list[tuple[str, tuple[str, ...]]] = [(label, (label,)) for label in shown]
    if rest:
        labels.append((f"{len(rest)} {OTHERS}", rest))
    return [
        *(_Series(name, those, placeholder_colour(n)) for n, (name, those) in enumerate(labels)),
        *(_ABSTAIN[Abstain(name)] for name in totals.abstain),
    ]


def choose_labels(totals: Totals) -> list[str]:
    """Choose the labels that plots name, in the order of the model: all, or the most frequent."""
    if len(totals.labels) <= LABEL_COLOURS:
        return list(totals.labels)
    counts = totals.sure + totals.unsure
    most = sorted(totals.labels, key=lambda label: -counts[label])[:MAX_NAMED_LABELS]
    return [label for label in totals.labels if label in most]


def _fill_bar(series: _Series, bar: Rectangle) -> None:
    """Colour a bar; an empty bar has no outline."""
    is_empty = not bar.get_width() or not bar.get_height()
    bar.set_facecolor("none" if series.is_hollow else series.colour)
    bar.set_edgecolor(series.colour)
    bar.set_linewidth(OUTLINE_POINTS if series.is_hollow and not is_empty else 0)


def shorten(label: str) -> str:
    """Cut a label to the width that plots have for it."""
    return label if len(label) <= MAX_NAME_CHARS else f"{label[: MAX_NAME_CHARS - 1]}\u2026"


@contextmanager
def open_axes() -> Iterator[tuple[Figure, Axes]]:
    """Open a figure in the colours of the page."""
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser renders labels in any script, even if matplotlib's font lacks the letters.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        yield figure, figure.subplots()
