"""The explanation of an answer: occlusion maps, a picture, and a description in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from batch.explaining.occlusion import Floats, View, sum_heat
from batch.explaining.picture import PictureText, draw_picture, output_name
from batch.records import Answer, Photo, Row, Source, Status

# Smaller effects are not mentioned: 0.1 log-odds is about a tenth of the odds.
MIN_LOG_ODDS = 0.1
DECIMALS = 4  # of probabilities, as in a report


@dataclass(frozen=True)
class Explanation:
    """A photo, its row, and the occlusion maps of its answer.

    Attributes:
        photo: the decoded photo.
        row: its row, as a run reports it.
        labels: labels of the models.
        views: views that the answer depends on: faces, the main face first, then the whole photo.
        certainty: log-odds of the answer, a label or an abstain output, against all other outputs;
            with ``always_answer``, of the label against the other labels.
    """

    photo: Photo
    row: Row
    labels: tuple[str, ...]
    views: tuple[View, ...]
    certainty: float

    @property
    def answer(self) -> Answer:
        """The answer of the photo; every explained photo has one."""
        assert self.row.answer is not None
        return self.row.answer

    def heat(self) -> Floats:
        """Map the importance of each pixel of ``Photo.pixels``.

        Returns:
            float32 [height, width], log-odds; the sum of all views.
        """
        height, width, _ = self.photo.pixels.shape
        return sum_heat(self.views, height, width)

    def picture(self) -> Image.Image:
        """Draw the photo, boxes, answer and map, with a legend, as an RGB image."""
        text = PictureText(
            title=title_text(self),
            subtitle=subtitle_text(self),
            answer=quoted_name(self.answer),
            sentences=describe_map(self),
        )
        return draw_picture(self.photo, self.row, self.views, text)


def title_text(explanation: Explanation) -> str:
    """Name the answer in full, with its probability."""
    answer = explanation.answer
    if answer.status is Status.NEITHER:
        name = _neither_text(explanation.labels)
    else:
        name = _answer_name(answer)
    return f"{name}  {answer.confidence:.{DECIMALS}f}"


def _neither_text(labels: Sequence[str]) -> str:
    return "neither " + " nor ".join(labels) if len(labels) == 2 else "none of the labels"


def _answer_name(answer: Answer) -> str:
    return output_name(answer.status.value) if answer.label is None else answer.label


def quoted_name(answer: Answer) -> str:
    """Name an answer inside a sentence: a label as it is, an abstain output in quotes."""
    return f'"{_answer_name(answer)}"' if answer.label is None else answer.label


def subtitle_text(explanation: Explanation) -> str:
    """Describe whether the answer is sure, and which views it depends on."""
    row = explanation.row
    kind = {Status.OK: "sure", Status.UNSURE: "unsure"}.get(row.status, "no label")
    faces = "the face" if len(row.faces) == 1 else f"{len(row.faces)} faces"
    source_texts = {
        Source.FACE: f"{faces} only",
        Source.IMAGE: "the whole photo",
        Source.BOTH: f"{faces} and the whole photo",
    }
    assert row.source is not None
    return f"{kind}; the answer depends on {source_texts[row.source]}"


def describe_map(explanation: Explanation) -> list[str]:
    """Describe the colours of the map, and the effect of the strongest spots."""
    name = quoted_name(explanation.answer)
    importance = np.concatenate([view.importance.ravel() for view in explanation.views])
    most, least = float(importance.max()), float(importance.min())
    sentences = ["Each spot was blurred in turn, and the models were run again."]
    if most >= MIN_LOG_ODDS:
        effect = _effect_text(explanation, most)
        sentences.append(f"Red: without the spot the odds of {name} fall, at most by {effect}.")
    if least <= -MIN_LOG_ODDS:
        effect = _effect_text(explanation, least)
        sentences.append(f"Blue: without the spot the odds of {name} rise, at most by {effect}.")
    if len(sentences) == 1:
        sentences.append("No single spot changes the answer much.")
    return sentences


def _effect_text(explanation: Explanation, importance: float) -> str:
    """Format a change of log-odds as a factor and, if that differs, as a probability."""
    factor = math.exp(abs(importance))
    without = f"{1 / (1 + math.exp(importance - explanation.certainty)):.{DECIMALS}f}"
    now = f"{explanation.answer.confidence:.{DECIMALS}f}"
    text = f"a factor of {factor:,.{1 if factor < 100 else 0}f}"
    return text if without == now else f"{text} ({without} instead of {now})"
