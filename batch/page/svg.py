"""Plots by matplotlib as pieces of an HTML page, in whose colours they are drawn."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"(url\(#|^#)([\w-]+)")


def drawing_colour(number: int) -> str:
    """Give the colour that stands in a plot for the page's colour of that number, 0 to 255."""
    return f"#fe{number:02x}01"


# What plots are drawn with: numbers from 0 on are the labels' colours.
LABEL_COLOURS = 8
INK, MUTED, LINE, NEITHER, NO_PERSON = (
    drawing_colour(LABEL_COLOURS + number) for number in range(5)
)
_VARIABLES = {
    **{drawing_colour(number): f"var(--label-{number})" for number in range(LABEL_COLOURS)},
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    NEITHER: "var(--neither)",
    NO_PERSON: "var(--no-person)",
}
SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",
    # Labels are anybody's: a dollar sign in them is no formula.
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


def svg_of(figure: Figure, name: str, says: str) -> str:
    """Turn a figure into an ``<svg>`` that scales, and says ``says`` to who can't see it.

    ``name`` keeps the marks inside it apart from those of other plots.
    """
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(text.getvalue())
    for parent in root.iter():
        # Its style would hold for the whole page.
        for child in [c for c in parent if c.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(child)
    used = {mark for node in root.iter() for mark in _references(node)}
    for node in root.iter():
        _adapt(node, name, used)
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": says}
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _references(node: ET.Element) -> list[str]:
    return [match[2] for value in node.attrib.values() for match in _REFERENCE.finditer(value)]


def _adapt(node: ET.Element, name: str, used: set[str]) -> None:
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
