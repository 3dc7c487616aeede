"""Text in pictures, in the font that Pillow carries."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from batch.explaining.explanation import (
    Explanation,
    View,
    describe_map,
    output_name,
    quoted_name,
    subtitle_text,
    title_text,
)
from batch.explaining.occlusion import colour_bar, find_scale, overlay_heat, upsample_spots
from batch.records import Answer, Region


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give the font whose letters are ``size`` pixels high."""
    return ImageFont.load_default(size)


def to_ascii(text: str) -> str:
    """Write a text in ASCII, which is all that the font has.

    Accents are lost, and other letters become question marks.
    """
    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    shown = "".join(char if char.isprintable() else " " for char in bare)
    return shown.encode("ascii", "replace").decode()


def truncate_text(text: str, width: int, size: int) -> str:
    """Cut off a text that is wider than ``width`` pixels."""
    letters = load_font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def wrap_sentences(sentences: Iterable[str], width: int, size: int) -> list[str]:
    """Break sentences into lines of at most ``width`` pixels, each sentence on lines of its own."""
    letters = load_font(size)
    lines: list[str] = []
    for sentence in sentences:
        line = ""
        for word in sentence.split():
            longer = f"{line} {word}".strip()
            if line and letters.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


# == The picture of an explanation: panels side by side, the answer, and a legend in words.

MARGIN = 28
PANEL_HEIGHT = 440  # pixels of a panel's height, at most
MAX_PANEL_WIDTH = 660
TITLE, BODY, SMALL = 34, 19, 17  # pixels of the letters
INK, PALE, RULE = (25, 25, 28), (105, 105, 112), (205, 205, 210)
BOX = (255, 196, 0)
BAR = 22  # pixels of a bar's height
MAX_BARS = 10
LABELS_WIDTH = 380
LEGEND_WIDTH = 430


@dataclass(frozen=True)
class Panel:
    """A picture and the words over it."""

    caption: str
    image: Image.Image


def draw_explanation(explanation: Explanation) -> Image.Image:
    """Draw an explanation as an RGB picture: photo, heat map, main face, answer and legend."""
    heat = explanation.heat()
    main = _find_main_face(explanation)
    close = None if main is None else upsample_spots(main.worth, PANEL_HEIGHT, PANEL_HEIGHT)
    scale = find_scale(heat) if close is None else find_scale(heat, close)
    seen = _draw_boxes(explanation, explanation.photo.image)
    panels = [
        Panel("The photo", seen),
        Panel(
            "What the answer rests on",
            _draw_boxes(explanation, overlay_heat(explanation.photo.pixels, heat, scale)),
        ),
    ]
    if main is not None and close is not None:
        face = np.asarray(_crop_view(explanation, main))
        panels.append(Panel("The main face, closer", overlay_heat(face, close, scale)))
    return _compose(explanation, panels, scale)


def _find_main_face(explanation: Explanation) -> View | None:
    first = explanation.views[0]
    return first if first.region is Region.FACE else None


def _crop_view(explanation: Explanation, view: View) -> Image.Image:
    photo = explanation.photo.image
    frame = (view.left, view.top, view.left + view.width, view.top + view.height)
    return photo.transform(
        (PANEL_HEIGHT, PANEL_HEIGHT),
        Image.Transform.EXTENT,
        frame,
        Image.Resampling.BICUBIC,
        fillcolor="grey",
    )


def _draw_boxes(explanation: Explanation, image: Image.Image) -> Image.Image:
    """Bring a photo to a panel's size and draw the faces' boxes."""
    factor = min(PANEL_HEIGHT / image.height, MAX_PANEL_WIDTH / image.width)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    panel = image.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(panel)
    across, down = size[0] / explanation.photo.width, size[1] / explanation.photo.height
    # The main face last, so that its box lies on top.
    for number, face in reversed(list(enumerate(explanation.row.faces))):
        if face.box is not None:
            left, top = face.box.left * across, face.box.top * down
            right, bottom = left + face.box.width * across, top + face.box.height * down
            # A box that reaches over the edge is drawn along it.
            place = (max(2, left), max(2, top), min(size[0] - 3, right), min(size[1] - 3, bottom))
            _draw_box(pen, place, is_main=number == 0)
    return panel


def _draw_box(
    pen: ImageDraw.ImageDraw, place: tuple[float, float, float, float], is_main: bool
) -> None:
    left, top, right, bottom = place
    width = 3 if is_main else 1
    # Dark around bright shows on any photo.
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=width + 2)
    pen.rectangle(place, outline=BOX, width=width)


def _compose(explanation: Explanation, panels: list[Panel], scale: float) -> Image.Image:
    least = LABELS_WIDTH + LEGEND_WIDTH + MARGIN
    row = sum(panel.image.width for panel in panels) + MARGIN * (len(panels) - 1)
    width = max(row, least)
    high = max(panel.image.height for panel in panels)
    answer = explanation.answer
    words = wrap_sentences(map(to_ascii, describe_map(explanation)), width, BODY)
    bars = _draw_bars(answer)
    top_of_panels = MARGIN + TITLE + BODY + 34
    top_of_bars = top_of_panels + SMALL + 10 + high + MARGIN
    legend = _draw_legend(quoted_name(answer), scale)
    top_of_words = top_of_bars + max(bars.height, legend.height) + MARGIN // 2
    height = top_of_words + len(words) * (BODY + 8) + MARGIN
    page = Image.new("RGB", (width + 2 * MARGIN, height), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), to_ascii(title_text(explanation)), fill=INK, font=load_font(TITLE))
    pen.text(
        (MARGIN, MARGIN + TITLE + 10), subtitle_text(explanation), fill=PALE, font=load_font(BODY)
    )
    x = MARGIN
    for panel in panels:
        pen.text((x, top_of_panels), panel.caption, fill=INK, font=load_font(SMALL))
        page.paste(panel.image, (x, top_of_panels + SMALL + 10))
        x += panel.image.width + MARGIN
    page.paste(bars, (MARGIN, top_of_bars))
    page.paste(legend, (MARGIN + width - LEGEND_WIDTH, top_of_bars))
    for number, line in enumerate(words):
        pen.text((MARGIN, top_of_words + number * (BODY + 8)), line, fill=INK, font=load_font(BODY))
    return page


def _draw_bars(answer: Answer) -> Image.Image:
    """Draw the probability of each output, or of the likeliest ones, in the model's order."""
    likeliest = sorted(answer.probabilities.values(), reverse=True)[:MAX_BARS]
    shown = [pair for pair in answer.probabilities.items() if pair[1] >= likeliest[-1]][:MAX_BARS]
    step = BAR + 8
    image = Image.new("RGB", (LABELS_WIDTH, step * len(shown)), "white")
    pen = ImageDraw.Draw(image)
    room = LABELS_WIDTH - 200
    for number, (output, probability) in enumerate(shown):
        y = number * step
        colour = INK if output == (answer.label or answer.status) else PALE
        name = truncate_text(to_ascii(output_name(output)), 112, SMALL)
        pen.text((0, y), name, fill=colour, font=load_font(SMALL))
        pen.rectangle((120, y, 120 + room, y + BAR - 4), fill=(238, 238, 240))
        if probability > 0:
            pen.rectangle((120, y, 120 + room * probability, y + BAR - 4), fill=colour)
        pen.text((130 + room, y), f"{probability:.4f}", fill=colour, font=load_font(SMALL))
    return image


def _draw_legend(answer: str, scale: float) -> Image.Image:
    image = Image.new("RGB", (LEGEND_WIDTH, BAR + 2 * SMALL + 24), "white")
    pen = ImageDraw.Draw(image)
    image.paste(colour_bar(BAR, LEGEND_WIDTH), (0, 0))
    pen.rectangle((0, 0, LEGEND_WIDTH - 1, BAR - 1), outline=RULE)
    y = BAR + 6
    for x, text, anchor in (
        (0, f"-{scale:.1f}", "la"),
        (LEGEND_WIDTH // 2, "0 log-odds", "ma"),
        (LEGEND_WIDTH, f"+{scale:.1f}", "ra"),
    ):
        pen.text((x, y), text, fill=PALE, font=load_font(SMALL), anchor=anchor)
    name = truncate_text(to_ascii(answer), 110, SMALL)
    y += SMALL + 8
    pen.text((0, y), f"speaks against {name}", fill=INK, font=load_font(SMALL))
    pen.text((LEGEND_WIDTH, y), f"speaks for {name}", fill=INK, font=load_font(SMALL), anchor="ra")
    return image
