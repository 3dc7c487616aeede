"""The picture of an explanation: panels side by side, the answer, and a legend.

Text is drawn in Pillow's built-in font, which has ASCII letters only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from batch.explaining.occlusion import Floats, View, sum_heat, upsample_spots
from batch.records import Abstain, Answer, Photo, Pixels, Region, Row

# Sizes in pixels.
MARGIN = 28
PANEL_HEIGHT = 440  # largest height of a panel
MAX_PANEL_WIDTH = 660
TITLE, BODY, SMALL = 34, 19, 17  # sizes of letters
BAR = 22  # height of a bar
MAX_BARS = 10
LABELS_WIDTH = 380
LEGEND_WIDTH = 430

INK, PALE, RULE = (25, 25, 28), (105, 105, 112), (205, 205, 210)
BOX = (255, 196, 0)
# Red and blue, which people with a red-green deficiency can tell apart.
_FOR_COLOUR = np.asarray([217, 54, 20], dtype=np.float32)
_AGAINST_COLOUR = np.asarray([33, 102, 200], dtype=np.float32)
# Least log-odds drawn in full colour, so that a weak map stays pale. They change a probability of
# one half by 12 percentage points.
MIN_SCALE = 0.5
# Opacity of the full colour over the photo, 0 to 1.
OPACITY = 0.75
# Contrast and brightness of the grey photo under the colours.
CONTRAST = 0.85
BRIGHTNESS = 30.0


@dataclass(frozen=True)
class PictureText:
    """The words of a picture.

    Attributes:
        title: the answer with its probability.
        subtitle: whether the answer is sure, and what it depends on.
        answer: name of the answer inside a sentence.
        sentences: description of the map.
    """

    title: str
    subtitle: str
    answer: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """An image with a caption.

    Attributes:
        caption: the text above the image.
        image: the image.
    """

    caption: str
    image: Image.Image


def draw_picture(photo: Photo, row: Row, views: Sequence[View], text: PictureText) -> Image.Image:
    """Draw the explanation of an answer: photo, map, main face, probabilities and legend.

    Args:
        photo: the decoded photo.
        row: its row, with an answer.
        views: the views of the answer, the main face first.
        text: the words of the picture.

    Returns:
        An RGB image.
    """
    assert row.answer is not None
    height, width, _ = photo.pixels.shape
    heat = sum_heat(views, height, width)
    main = views[0] if views[0].region is Region.FACE else None
    close = None if main is None else upsample_spots(main.importance, PANEL_HEIGHT, PANEL_HEIGHT)
    scale = find_scale(heat) if close is None else find_scale(heat, close)
    overlay = overlay_heat(photo.pixels, heat, scale)
    panels = [
        Panel("The photo", _draw_boxes(photo, row, photo.image)),
        Panel("What the answer depends on", _draw_boxes(photo, row, overlay)),
    ]
    if main is not None and close is not None:
        face = np.asarray(_crop_view(photo, main))
        panels.append(Panel("The main face, enlarged", overlay_heat(face, close, scale)))
    return _compose(panels, row.answer, scale, text)


def output_name(output: str) -> str:
    """Name an output of a model for people; a label stays as it is."""
    return "no person" if output == Abstain.NO_PERSON else output


def find_scale(*heats: Floats) -> float:
    """Find the log-odds that are drawn in full colour."""
    return max(MIN_SCALE, *(float(np.abs(heat).max()) for heat in heats))


def overlay_heat(pixels: Pixels, heat: Floats, scale: float) -> Image.Image:
    """Draw a map over a grey photo: red supports the answer, blue opposes it.

    Args:
        pixels: uint8 [height, width, 3].
        heat: float32 [height, width], log-odds.
        scale: log-odds that are drawn in full colour.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32)
    background = grey[..., None] * CONTRAST + BRIGHTNESS
    return Image.fromarray(np.rint(_blend(background, heat / scale)).astype(np.uint8))


def _draw_colour_bar(height: int, width: int) -> Image.Image:
    """Draw all colours from full blue to full red over white."""
    strength = np.broadcast_to(np.linspace(-1, 1, width, dtype=np.float32), (height, width))
    white = np.full((height, width, 1), 255, dtype=np.float32)
    return Image.fromarray(np.rint(_blend(white, strength)).astype(np.uint8))


def _blend(background: Floats, strength: Floats) -> Floats:
    colour = np.where(strength[..., None] > 0, _FOR_COLOUR, _AGAINST_COLOUR)
    share = np.minimum(np.abs(strength), 1)[..., None] * OPACITY
    return (background * (1 - share) + colour * share).astype(np.float32)


def _crop_view(photo: Photo, view: View) -> Image.Image:
    frame = (view.left, view.top, view.left + view.width, view.top + view.height)
    return photo.image.transform(
        (PANEL_HEIGHT, PANEL_HEIGHT),
        Image.Transform.EXTENT,
        frame,
        Image.Resampling.BICUBIC,
        fillcolor="grey",
    )


def _draw_boxes(photo: Photo, row: Row, image: Image.Image) -> Image.Image:
    """Resize an image of the photo to a panel, and draw the boxes of the faces."""
    factor = min(PANEL_HEIGHT / image.height, MAX_PANEL_WIDTH / image.width)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    panel = image.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(panel)
    across, down = size[0] / photo.width, size[1] / photo.height
    # The main face last, so that its box lies on top.
    for number, face in reversed(list(enumerate(row.faces))):
        if face.box is not None:
            left, top = face.box.left * across, face.box.top * down
            right, bottom = left + face.box.width * across, top + face.box.height * down
            # A box that extends beyond the photo is drawn along its edge.
            frame = (max(2, left), max(2, top), min(size[0] - 3, right), min(size[1] - 3, bottom))
            _draw_box(pen, frame, is_main=number == 0)
    return panel


def _draw_box(
    pen: ImageDraw.ImageDraw, frame: tuple[float, float, float, float], is_main: bool
) -> None:
    left, top, right, bottom = frame
    width = 3 if is_main else 1
    # A dark outline makes the box visible on any photo.
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black", width=width + 2)
    pen.rectangle(frame, outline=BOX, width=width)


def _compose(
    panels: Sequence[Panel], answer: Answer, scale: float, text: PictureText
) -> Image.Image:
    panels_width = sum(panel.image.width for panel in panels) + MARGIN * (len(panels) - 1)
    width = max(panels_width, LABELS_WIDTH + LEGEND_WIDTH + MARGIN)
    panel_height = max(panel.image.height for panel in panels)
    lines = wrap_sentences(map(to_ascii, text.sentences), width, BODY)
    bars = _draw_bars(answer)
    top_of_panels = MARGIN + TITLE + BODY + 34
    top_of_bars = top_of_panels + SMALL + 10 + panel_height + MARGIN
    legend = _draw_legend(text.answer, scale)
    top_of_lines = top_of_bars + max(bars.height, legend.height) + MARGIN // 2
    height = top_of_lines + len(lines) * (BODY + 8) + MARGIN
    page = Image.new("RGB", (width + 2 * MARGIN, height), "white")
    pen = ImageDraw.Draw(page)
    pen.text((MARGIN, MARGIN), to_ascii(text.title), fill=INK, font=load_font(TITLE))
    pen.text((MARGIN, MARGIN + TITLE + 10), text.subtitle, fill=PALE, font=load_font(BODY))
    x = MARGIN
    for panel in panels:
        pen.text((x, top_of_panels), panel.caption, fill=INK, font=load_font(SMALL))
        page.paste(panel.image, (x, top_of_panels + SMALL + 10))
        x += panel.image.width + MARGIN
    page.paste(bars, (MARGIN, top_of_bars))
    page.paste(legend, (MARGIN + width - LEGEND_WIDTH, top_of_bars))
    for number, line in enumerate(lines):
        pen.text((MARGIN, top_of_lines + number * (BODY + 8)), line, fill=INK, font=load_font(BODY))
    return page


def _draw_bars(answer: Answer) -> Image.Image:
    """Draw the probabilities of the most likely outputs, in the order of the model."""
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
    image.paste(_draw_colour_bar(BAR, LEGEND_WIDTH), (0, 0))
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
    pen.text((0, y), f"opposes {name}", fill=INK, font=load_font(SMALL))
    pen.text((LEGEND_WIDTH, y), f"supports {name}", fill=INK, font=load_font(SMALL), anchor="ra")
    return image


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Load the font in a size in pixels."""
    return ImageFont.load_default(size)


def to_ascii(text: str) -> str:
    """Convert a text to ASCII: accents are dropped, other characters become question marks."""
    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    shown = "".join(char if char.isprintable() else " " for char in bare)
    return shown.encode("ascii", "replace").decode()


def truncate_text(text: str, width: int, size: int) -> str:
    """Shorten a text that is wider than ``width`` pixels."""
    letters = load_font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def wrap_sentences(sentences: Iterable[str], width: int, size: int) -> list[str]:
    """Wrap sentences into lines of at most ``width`` pixels; each sentence begins a line."""
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
