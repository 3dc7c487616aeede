"""An explanation in words, for its picture and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from batch.records import Abstain, Answer, Photo, Region, Row, Source, Status

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image


# Log-odds under which no spot is called one that matters: a tenth of the odds.
MIN_LOG_ODDS = 0.1
DECIMALS = 4  # of probabilities, as in a report


def title_text(explanation: Explanation) -> str:
    """Name the answer in full, with its probability."""
    answer = explanation.answer
    named = (
        _neither_text(explanation.labels)
        if answer.status is Status.NEITHER
        else answer_name(answer)
    )
    return f"{named}  {answer.confidence:.{DECIMALS}f}"


def answer_name(answer: Answer) -> str:
    """Name an answer in a word or two: its label or, without one, its status."""
    return output_name(answer.status.value) if answer.label is None else answer.label


def quoted_name(answer: Answer) -> str:
    """Name an answer inside a sentence, where "neither" needs quotes to be read as a name."""
    return f'"{answer_name(answer)}"' if answer.label is None else answer.label


def output_name(output: str) -> str:
    """Name one of a model's outputs: a label stays as it is."""
    return "no person" if output == Abstain.NO_PERSON else output


def _neither_text(labels: Sequence[str]) -> str:
    return "neither " + " nor ".join(labels) if len(labels) == 2 else "none of the labels"


def subtitle_text(explanation: Explanation) -> str:
    """Say whether there is a label, whether it is sure, and which models gave the answer."""
    row = explanation.row
    kind = {Status.OK: "sure", Status.UNSURE: "unsure"}.get(row.status, "no label")
    faces = "the face" if len(row.faces) == 1 else f"{len(row.faces)} faces"
    rests_on = {
        Source.FACE: f"{faces} alone",
        Source.IMAGE: "the whole photo",
        Source.BOTH: f"{faces} and the whole photo",
    }
    assert row.source is not None
    return f"{kind}; the answer rests on {rests_on[row.source]}"


def describe_map(explanation: Explanation) -> list[str]:
    """Say what the map shows, and how far the strongest spot moves the answer."""
    name = quoted_name(explanation.answer)
    worth = np.concatenate([view.worth.ravel() for view in explanation.views])
    most, least = float(worth.max()), float(worth.min())
    said = ["Each spot was blurred in turn, and the models were asked again."]
    if most >= MIN_LOG_ODDS:
        moved = _shift_text(explanation, most)
        said.append(f"Red: without the spot the odds of {name} fall, at most by {moved}.")
    if least <= -MIN_LOG_ODDS:
        moved = _shift_text(explanation, least)
        said.append(f"Blue: without the spot the odds of {name} rise, at most by {moved}.")
    if len(said) == 1:
        said.append("No single spot changes the answer much.")
    return said


def _shift_text(explanation: Explanation, worth: float) -> str:
    """Write a change of log-odds as a factor and, where that shows, as a probability."""
    factor = math.exp(abs(worth))
    without = f"{1 / (1 + math.exp(worth - explanation.certainty)):.{DECIMALS}f}"
    now = f"{explanation.answer.confidence:.{DECIMALS}f}"
    shown = f"a factor of {factor:,.{1 if factor < 100 else 0}f}"
    return shown if without == now else f"{shown} ({without} instead of {now})"


# == An explanation of a photo's answer, as numbers and as a picture.


@dataclass(frozen=True)
class View:
    """What a model saw of the photo, and what each spot of it is worth to the photo's answer.

    ``left``, ``top``, ``width`` and ``height`` are the view's place in ``Photo.pixels``; it may
    reach over the edge. ``worth``: float32 [rows, columns], by how much the log-odds of the
    photo's answer fall if the spot with its centre there is hidden; the first and the last
    spots of a row lie on the view's edges.
    """

    region: Region
    left: float
    top: float
    width: float
    height: float
    worth: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """A photo, the row that a run reports of it, and the views that its answer rests on.

    Attributes:
        photo: as it was decoded.
        row: its row.
        labels: the models' labels.
        views: those of the faces first, the main face foremost.
        certainty: log-odds of the photo's answer: of its label or, if it has none, of the abstain
            output, against all other outputs; of its label against the other labels if every
            photo is given one.
    """

    photo: Photo
    row: Row
    labels: tuple[str, ...]
    views: tuple[View, ...]
    certainty: float

    @property
    def answer(self) -> Answer:
        """The photo's answer; a photo without one has no explanation."""
        assert self.row.answer is not None
        return self.row.answer

    def heat(self) -> npt.NDArray[np.float32]:
        """Give what each pixel of ``Photo.pixels`` is worth: float32 [height, width], log-odds.

        Where views overlap, what they say is added up.
        """
        from batch.explaining.occlusion import sum_heat

        return sum_heat(self)

    def picture(self) -> Image.Image:
        """Draw photo, boxes, answer and heat map, with a legend, for people."""
        from batch.explaining.picture import draw_explanation

        return draw_explanation(self)
