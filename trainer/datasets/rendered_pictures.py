"""Rendered pictures without a person: pages, screenshots, charts, codes, blank frames.

Real folders contain many such pictures, but photo collections for training do not. The pictures
are rendered from a seed and identical on every machine.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import cycle, islice

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Range of the longer side, in pixels.
SIDES = (240, 900)
SYLLABLES = "ba co de fi gu la me ni or pa qui re sa ti un ver wo xy za tion ing est er al".split()

Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw


class PictureKind(StrEnum):
    """Kind of a rendered picture."""

    BLANK = "blank"
    GRADIENT = "gradient"
    NOISE = "noise"
    PATTERN = "pattern"
    PAGE = "page"
    RECEIPT = "receipt"
    TABLE = "table"
    SCREENSHOT = "screenshot"
    CHART = "chart"
    DRAWING = "drawing"
    LOGO = "logo"
    CODE = "code"
    MAP = "map"


def render_picture(kind: PictureKind, seed: int) -> Image.Image:
    """Render one RGB picture, which depends only on kind and seed."""
    rng = random.Random(f"{kind.value} {seed}")
    side = rng.randint(*SIDES)
    other = max(120, int(side * rng.uniform(0.5, 1.0)))
    size = (side, other) if rng.random() < 0.5 else (other, side)
    return RENDERERS[kind](rng, size)


def render_pictures(count: int, seed: int = 0) -> Iterator[tuple[PictureKind, Image.Image]]:
    """Render ``count`` pictures, the same number of each kind."""
    for n, kind in enumerate(islice(cycle(PictureKind), count)):
        yield kind, render_picture(kind, seed + n)


def _render_blank(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    tone = rng.choice([(0, 0, 0), (255, 255, 255), _random_grey(rng), _random_colour(rng)])
    image = Image.new("RGB", size, tone)
    if rng.random() < 0.4:
        return _add_noise(rng, image, rng.uniform(1, 8))
    return image


def _render_gradient(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    cells = rng.choice([(1, 2), (2, 1), (2, 2), (3, 3), (4, 3)])
    image = Image.new("RGB", cells)
    image.putdata([_random_colour(rng) for _ in range(cells[0] * cells[1])])
    smooth = image.resize(size, Image.Resampling.BICUBIC)
    return smooth.filter(ImageFilter.GaussianBlur(rng.uniform(0, 20)))


def _render_noise(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    grain = rng.choice([1, 1, 2, 4, 8, 16])
    cells = (max(2, size[0] // grain), max(2, size[1] // grain))
    numbers = np.random.default_rng(rng.getrandbits(32))
    shape = (cells[1], cells[0], 3 if rng.random() < 0.6 else 1)
    if rng.random() < 0.5:
        pixels = numbers.uniform(0, 256, shape)
    else:
        pixels = numbers.normal(rng.uniform(40, 210), rng.uniform(10, 60), shape)
    pixels = np.broadcast_to(pixels.clip(0, 255).astype(np.uint8), (*shape[:2], 3))
    smooth = rng.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, smooth)


def _render_pattern(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _make_paper(rng, size)
    step = rng.randint(8, 80)
    style = rng.choice(["stripes", "checks", "dots", "rings"])
    for n, x in enumerate(range(0, size[0], step)):
        if style == "stripes":
            pen.rectangle((x, 0, x + step // 2, size[1]), fill=ink)
            continue
        for m, y in enumerate(range(0, size[1], step)):
            if style == "checks" and (n + m) % 2:
                pen.rectangle((x, y, x + step, y + step), fill=ink)
            elif style == "dots":
                pen.ellipse((x, y, x + step // 2, y + step // 2), fill=ink)
            elif style == "rings":
                pen.ellipse((x, y, x + step, y + step), outline=ink, width=max(1, step // 8))
    return image.rotate(rng.choice([0, 0, 30, 45, 90]), fillcolor=ink)


def _render_page(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _make_paper(rng, size)
    margin = size[0] // rng.randint(8, 20)
    letter = rng.randint(9, 26)
    top = margin
    if rng.random() < 0.6:
        pen.text(
            (margin, top), _random_words(rng, 3).title(), fill=ink, font=_load_font(letter * 2)
        )
        top += letter * 4
    while top < size[1] - margin:
        if rng.random() < 0.15:
            top += letter
        indent = letter * 2 if rng.random() < 0.1 else 0
        _write_line(rng, pen, (margin + indent, top), size[0] - margin, ink, letter)
        top += int(letter * 1.5)
    return _simulate_scan(rng, image)


def _render_receipt(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, _random_colour(rng))
    width = int(size[0] * rng.uniform(0.35, 0.8))
    paper, pen, ink = _make_paper(rng, (width, size[1]))
    letter = max(8, width // 22)
    pen.text(
        (width // 4, letter), _random_words(rng, 2).upper(), fill=ink, font=_load_font(letter * 2)
    )
    for top in range(letter * 5, size[1] - letter * 4, int(letter * 1.6)):
        pen.text((letter, top), _random_words(rng, 2), fill=ink, font=_load_font(letter))
        price = f"{rng.uniform(0.5, 90):.2f}"
        pen.text((width - letter * 5, top), price, fill=ink, font=_load_font(letter))
    image.paste(paper, ((size[0] - width) // 2, 0))
    return _simulate_scan(rng, image)


def _render_table(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _make_paper(rng, size)
    across, down = rng.randint(50, 140), rng.randint(16, 40)
    for y in range(0, size[1], down):
        pen.line((0, y, size[0], y), fill=ink)
        for x in range(0, size[0], across):
            pen.line((x, 0, x, size[1]), fill=ink)
            cell = _random_words(rng, 1) if rng.random() < 0.4 else f"{rng.uniform(0, 999):.1f}"
            pen.text((x + 4, y + 3), cell, fill=ink, font=_load_font(max(8, down // 2)))
    return image


def _render_screenshot(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    dark = rng.random() < 0.4
    ground: Colour = (28, 30, 34) if dark else (246, 247, 249)
    ink: Colour = (220, 222, 226) if dark else (30, 32, 36)
    accent = _random_colour(rng)
    image = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(image)
    bar = rng.randint(24, 48)
    pen.rectangle((0, 0, size[0], bar), fill=accent)
    pen.text(
        (bar // 2, bar // 4), _random_words(rng, 2), fill=(255, 255, 255), font=_load_font(bar // 2)
    )
    left = 0
    if rng.random() < 0.6:
        left = size[0] // rng.randint(4, 6)
        pen.rectangle((0, bar, left, size[1]), fill=tuple(max(0, c - 12) for c in ground))
        for y in range(bar + 16, size[1] - 16, 30):
            pen.text((10, y), _random_words(rng, 1), fill=ink, font=_load_font(13))
    letter = rng.randint(11, 18)
    y = bar + 16
    while y < size[1] - 40:
        block = rng.choice(["text", "text", "card", "button", "icons", "bubble"])
        if block == "text":
            _write_line(rng, pen, (left + 16, y), size[0] - 16, ink, letter)
            y += letter * 2
        elif block == "icons":
            for x in range(left + 16, size[0] - 40, 64):
                pen.rounded_rectangle((x, y, x + 40, y + 40), 8, fill=_random_colour(rng))
            y += 56
        else:
            height = {"card": 80, "button": 30, "bubble": 44}[block]
            start = left + 16 if block != "bubble" or rng.random() < 0.5 else size[0] // 2
            end = min(size[0] - 16, start + rng.randint(90, 400))
            if end > start + 20:
                fill = accent if block != "card" else tuple(min(255, c + 9) for c in ground)
                pen.rounded_rectangle((start, y, end, y + height), 10, fill=fill, outline=ink)
                _write_line(rng, pen, (start + 10, y + 8), end - 10, ink, letter)
            y += height + 12
    return image


def _render_chart(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    # Imported late, because matplotlib takes a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers = np.random.default_rng(rng.getrandbits(32))
    count = rng.randint(3, 12)
    values = numbers.uniform(1, 10, count)
    colours = ["#{:02x}{:02x}{:02x}".format(*_random_colour(rng)) for _ in range(count)]
    match rng.choice(["bar", "line", "pie", "scatter", "heat", "area"]):
        case "bar":
            axes.bar(range(count), values, color=colours)
        case "line":
            for colour in colours[:3]:
                axes.plot(numbers.normal(0, 1, 60).cumsum(), color=colour)
        case "pie":
            axes.pie(values, colors=colours, labels=[_random_words(rng, 1) for _ in range(count)])
        case "scatter":
            x, y, shade = numbers.normal(0, 1, (3, 150))
            axes.scatter(x, y, c=shade)
        case "heat":
            axes.imshow(numbers.uniform(0, 1, (count, count)), cmap="viridis")
        case _:
            axes.stackplot(range(30), numbers.uniform(0, 1, (3, 30)), colors=colours[:3])
    if rng.random() < 0.8:
        axes.set_title(_random_words(rng, 3))
        axes.set_xlabel(_random_words(rng, 1))
    if rng.random() < 0.5:
        axes.grid(visible=True)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def _render_drawing(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _make_paper(rng, size)
    filled = rng.random() < 0.6
    for _ in range(rng.randint(3, 40)):
        points = [_random_point(rng, size) for _ in range(rng.randint(2, 6))]
        fill = _random_colour(rng) if filled else None
        width = rng.randint(1, 6)
        match rng.choice(["ellipse", "polygon", "curve", "box"]):
            case "ellipse":
                (x, y), r = points[0], rng.randint(8, max(9, min(size) // 4))
                pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=ink, width=width)
            case "polygon" if len(points) > 2:
                pen.polygon(points, fill=fill, outline=ink)
            case "box":
                x, y = points[0]
                pen.rectangle((x, y, x + size[0] // 6, y + size[1] // 6), fill=fill, outline=ink)
            case _:
                pen.line(points, fill=ink, width=width, joint="curve")
    return image


def _render_logo(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _make_paper(rng, size)
    mark = _random_colour(rng)
    radius = min(size) // rng.randint(4, 7)
    x, y = size[0] // 2, size[1] // 3
    shape = rng.choice(["circle", "square", "triangle", "rings"])
    if shape == "square":
        pen.rounded_rectangle((x - radius, y - radius, x + radius, y + radius), 12, fill=mark)
    elif shape == "triangle":
        corners = [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)]
        pen.polygon(corners, fill=mark)
    else:
        for part in range(1 if shape == "circle" else 3):
            r = radius - part * radius // 3
            pen.ellipse((x - r, y - r, x + r, y + r), fill=mark if part % 2 == 0 else ink)
    letter = max(12, size[0] // rng.randint(7, 14))
    name = _random_words(rng, 1).title()
    width = pen.textlength(name, font=_load_font(letter))
    pen.text((x - width / 2, size[1] * 0.65), name, fill=ink, font=_load_font(letter))
    return image


def _render_code(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    modules = 21 + 4 * rng.randint(0, 10)
    cells = np.random.default_rng(rng.getrandbits(32)).random((modules, modules)) < 0.5
    finder = np.ones((7, 7), bool)
    finder[1:6, 1:6] = False
    finder[2:5, 2:5] = True
    for row, column in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        cells[row : row + 7, column : column + 7] = finder
    if rng.random() < 0.25:  # a barcode
        cells = np.broadcast_to(cells[:1], cells.shape)
    side = int(min(size) * rng.uniform(0.4, 0.95))
    code = Image.fromarray(np.where(cells, 0, 255).astype(np.uint8))
    image = Image.new("RGB", size, (255, 255, 255) if rng.random() < 0.7 else _random_colour(rng))
    code = code.resize((side, side), Image.Resampling.NEAREST).convert("RGB")
    image.paste(code, ((size[0] - side) // 2, (size[1] - side) // 2))
    return _simulate_scan(rng, image) if rng.random() < 0.5 else image


def _render_map(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, (233, 229, 220))
    pen = ImageDraw.Draw(image)
    for fill in ((170, 211, 223), (200, 230, 190), (222, 215, 200)):
        for _ in range(rng.randint(1, 3)):
            pen.polygon([_random_point(rng, size) for _ in range(5)], fill=fill)
    for width, fill in ((3, (255, 255, 255)), (6, (252, 214, 164)), (9, (232, 146, 162))):
        for _ in range(rng.randint(2, 8)):
            pen.line([_random_point(rng, size) for _ in range(4)], fill=fill, width=width)
    for _ in range(rng.randint(3, 14)):
        pen.text(
            _random_point(rng, size),
            _random_words(rng, 1).title(),
            fill=(70, 70, 70),
            font=_load_font(13),
        )
    return image


def _simulate_scan(rng: random.Random, image: Image.Image) -> Image.Image:
    """Tilt, blur or add noise to a page, as a scanner or phone does."""
    if rng.random() < 0.5:
        image = image.rotate(
            rng.uniform(-8, 8), Image.Resampling.BILINEAR, fillcolor=_random_grey(rng)
        )
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.4:
        image = _add_noise(rng, image, rng.uniform(2, 12))
    return image


def _add_noise(rng: random.Random, image: Image.Image, strength: float) -> Image.Image:
    numbers = np.random.default_rng(rng.getrandbits(32))
    pixels = np.asarray(image) + numbers.normal(0, strength, (image.height, image.width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _make_paper(rng: random.Random, size: tuple[int, int]) -> tuple[Image.Image, Pen, Colour]:
    """Make a blank picture, its pen, and a visible ink."""
    ground = rng.choice([(255, 255, 255), (250, 247, 238), _random_grey(rng), _random_colour(rng)])
    image = Image.new("RGB", size, ground)
    light = sum(ground) > 380
    low, high = (0, 90) if light else (190, 255)
    ink = (rng.randint(low, high), rng.randint(low, high), rng.randint(low, high))
    return image, ImageDraw.Draw(image), ink


def _write_line(
    rng: random.Random, pen: Pen, start: tuple[int, int], end: int, ink: Colour, letter: int
) -> None:
    """Write words from ``start``, as many as fit before ``end``."""
    font, text = _load_font(letter), ""
    while True:
        longer = f"{text} {_random_words(rng, 1)}".strip()
        if start[0] + pen.textlength(longer, font=font) > end:
            break
        text = longer
        if rng.random() < 0.03:
            break
    pen.text(start, text, fill=ink, font=font)


def _random_words(rng: random.Random, count: int) -> str:
    words = ("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(count))
    return " ".join(words)


def _load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _random_point(rng: random.Random, size: tuple[int, int]) -> tuple[int, int]:
    return rng.randrange(size[0]), rng.randrange(size[1])


def _random_grey(rng: random.Random) -> Colour:
    tone = rng.randint(0, 255)
    return tone, tone, tone


def _random_colour(rng: random.Random) -> Colour:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


RENDERERS: dict[PictureKind, Callable[[random.Random, tuple[int, int]], Image.Image]] = {
    PictureKind.BLANK: _render_blank,
    PictureKind.GRADIENT: _render_gradient,
    PictureKind.NOISE: _render_noise,
    PictureKind.PATTERN: _render_pattern,
    PictureKind.PAGE: _render_page,
    PictureKind.RECEIPT: _render_receipt,
    PictureKind.TABLE: _render_table,
    PictureKind.SCREENSHOT: _render_screenshot,
    PictureKind.CHART: _render_chart,
    PictureKind.DRAWING: _render_drawing,
    PictureKind.LOGO: _render_logo,
    PictureKind.CODE: _render_code,
    PictureKind.MAP: _render_map,
}
