"""What an explanation says in words, to readers of its picture and of the terminal."""

from __future__ import annotations

import math

import numpy as np

from batch.explaining.explanation import Explanation
from batch.records import Answer, Source, Status

# Log-odds under which no spot is called one that matters: a tenth of the odds.
FAINT = 0.1
DECIMALS = 4  # of probabilities, as in a report


def title(answer: Answer) -> str:
    """Name the label and its probability."""
    return f"{answer.label}  {answer.confidence:.{DECIMALS}f}"


def subtitle(explanation: Explanation) -> str:
    """Say how sure the answer is and which models gave it."""
    row = explanation.row
    surety = "sure" if row.status is Status.OK else "unsure"
    faces = "the face" if len(row.faces) == 1 else f"{len(row.faces)} faces"
    rests_on = {
        Source.FACE: f"{faces} alone",
        Source.IMAGE: "the whole photo",
        Source.BOTH: f"{faces} and the whole photo",
    }
    assert row.source is not None
    return f"{surety}; the answer rests on {rests_on[row.source]}"


def sentences(explanation: Explanation) -> list[str]:
    """Say what the map shows, and how far the strongest spot moves the answer."""
    label = explanation.answer.label
    worth = np.concatenate([view.worth.ravel() for view in explanation.views])
    most, least = float(worth.max()), float(worth.min())
    said = ["Each spot was blurred in turn, and the models were asked again."]
    if most >= FAINT:
        moved = _moved(explanation, most)
        said.append(f"Red: without the spot the odds of {label} fall, at most by {moved}.")
    if least <= -FAINT:
        moved = _moved(explanation, least)
        said.append(f"Blue: without the spot the odds of {label} rise, at most by {moved}.")
    if len(said) == 1:
        said.append("No single spot changes the answer much.")
    return said


def _moved(explanation: Explanation, worth: float) -> str:
    """Write a change of log-odds as a factor and, where that shows, as a probability."""
    factor = math.exp(abs(worth))
    without = f"{1 / (1 + math.exp(worth - explanation.certainty)):.{DECIMALS}f}"
    now = f"{explanation.answer.confidence:.{DECIMALS}f}"
    shown = f"a factor of {factor:,.{1 if factor < 100 else 0}f}"
    return shown if without == now else f"{shown} ({without} instead of {now})"
