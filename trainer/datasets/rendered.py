"""Pictures without a person that are no photos: pages, screenshots, charts, codes, blank frames.

Folders of photos are full of them and no photo collection teaches them, so they are rendered: the
same for everyone, from a seed.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import cycle, islice

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Pixels of the longer side.
SIDES = (240, 900)
SYLLABLES = "ba co de fi gu la me ni or pa qui re sa ti un ver wo xy za tion ing est er al".split()

Colour = tuple[int, int, int]
Pen = ImageDraw.ImageDraw


class Kind(StrEnum):
    """What is rendered."""

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


def render(kind: Kind, seed: int) -> Image.Image:
    """Render one picture, RGB; kind and seed decide every pixel."""
    chance = random.Random(f"{kind.value} {seed}")
    side = chance.randint(*SIDES)
    other = max(120, int(side * chance.uniform(0.5, 1.0)))
    size = (side, other) if chance.random() < 0.5 else (other, side)
    return RENDERERS[kind](chance, size)


def render_all(count: int, seed: int = 0) -> Iterator[tuple[Kind, Image.Image]]:
    """Render ``count`` pictures one after the other, as many of each kind as of any other."""
    for n, kind in enumerate(islice(cycle(Kind), count)):
        yield kind, render(kind, seed + n)


def _blank(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    tone = chance.choice([(0, 0, 0), (255, 255, 255), _grey(chance), _colour(chance)])
    image = Image.new("RGB", size, tone)
    if chance.random() < 0.4:
        return _with_noise(chance, image, chance.uniform(1, 8))
    return image


def _gradient(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    cells = chance.choice([(1, 2), (2, 1), (2, 2), (3, 3), (4, 3)])
    image = Image.new("RGB", cells)
    image.putdata([_colour(chance) for _ in range(cells[0] * cells[1])])
    smooth = image.resize(size, Image.Resampling.BICUBIC)
    return smooth.filter(ImageFilter.GaussianBlur(chance.uniform(0, 20)))


def _noise(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    grain = chance.choice([1, 1, 2, 4, 8, 16])
    cells = (max(2, size[0] // grain), max(2, size[1] // grain))
    numbers = np.random.default_rng(chance.getrandbits(32))
    shape = (cells[1], cells[0], 3 if chance.random() < 0.6 else 1)
    if chance.random() < 0.5:
        pixels = numbers.uniform(0, 256, shape)
    else:
        pixels = numbers.normal(chance.uniform(40, 210), chance.uniform(10, 60), shape)
    pixels = np.broadcast_to(pixels.clip(0, 255).astype(np.uint8), (*shape[:2], 3))
    smooth = chance.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, smooth)


def _pattern(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _paper(chance, size)
    step = chance.randint(8, 80)
    style = chance.choice(["stripes", "checks", "dots", "rings"])
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
    return image.rotate(chance.choice([0, 0, 30, 45, 90]), fillcolor=ink)


def _page(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _paper(chance, size)
    margin = size[0] // chance.randint(8, 20)
    letter = chance.randint(9, 26)
    top = margin
    if chance.random() < 0.6:
        pen.text((margin, top), _words(chance, 3).title(), fill=ink, font=_font(letter * 2))
        top += letter * 4
    while top < size[1] - margin:
        if chance.random() < 0.15:
            top += letter
        indent = letter * 2 if chance.random() < 0.1 else 0
        _line(chance, pen, (margin + indent, top), size[0] - margin, ink, letter)
        top += int(letter * 1.5)
    return _scanned(chance, image)


def _receipt(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, _colour(chance))
    width = int(size[0] * chance.uniform(0.35, 0.8))
    paper, pen, ink = _paper(chance, (width, size[1]))
    letter = max(8, width // 22)
    pen.text((width // 4, letter), _words(chance, 2).upper(), fill=ink, font=_font(letter * 2))
    for top in range(letter * 5, size[1] - letter * 4, int(letter * 1.6)):
        pen.text((letter, top), _words(chance, 2), fill=ink, font=_font(letter))
        price = f"{chance.uniform(0.5, 90):.2f}"
        pen.text((width - letter * 5, top), price, fill=ink, font=_font(letter))
    image.paste(paper, ((size[0] - width) // 2, 0))
    return _scanned(chance, image)


def _table(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _paper(chance, size)
    across, down = chance.randint(50, 140), chance.randint(16, 40)
    for y in range(0, size[1], down):
        pen.line((0, y, size[0], y), fill=ink)
        for x in range(0, size[0], across):
            pen.line((x, 0, x, size[1]), fill=ink)
            cell = _words(chance, 1) if chance.random() < 0.4 else f"{chance.uniform(0, 999):.1f}"
            pen.text((x + 4, y + 3), cell, fill=ink, font=_font(max(8, down // 2)))
    return image


def _screenshot(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    dark = chance.random() < 0.4
    ground: Colour = (28, 30, 34) if dark else (246, 247, 249)
    ink: Colour = (220, 222, 226) if dark else (30, 32, 36)
    accent = _colour(chance)
    image = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(image)
    bar = chance.randint(24, 48)
    pen.rectangle((0, 0, size[0], bar), fill=accent)
    pen.text((bar // 2, bar // 4), _words(chance, 2), fill=(255, 255, 255), font=_font(bar // 2))
    left = 0
    if chance.random() < 0.6:
        left = size[0] // chance.randint(4, 6)
        pen.rectangle((0, bar, left, size[1]), fill=tuple(max(0, c - 12) for c in ground))
        for y in range(bar + 16, size[1] - 16, 30):
            pen.text((10, y), _words(chance, 1), fill=ink, font=_font(13))
    letter = chance.randint(11, 18)
    y = bar + 16
    while y < size[1] - 40:
        block = chance.choice(["text", "text", "card", "button", "icons", "bubble"])
        if block == "text":
            _line(chance, pen, (left + 16, y), size[0] - 16, ink, letter)
            y += letter * 2
        elif block == "icons":
            for x in range(left + 16, size[0] - 40, 64):
                pen.rounded_rectangle((x, y, x + 40, y + 40), 8, fill=_colour(chance))
            y += 56
        else:
            height = {"card": 80, "button": 30, "bubble": 44}[block]
            start = left + 16 if block != "bubble" or chance.random() < 0.5 else size[0] // 2
            end = min(size[0] - 16, start + chance.randint(90, 400))
            if end > start + 20:
                fill = accent if block != "card" else tuple(min(255, c + 9) for c in ground)
                pen.rounded_rectangle((start, y, end, y + height), 10, fill=fill, outline=ink)
                _line(chance, pen, (start + 10, y + 8), end - 10, ink, letter)
            y += height + 12
    return image


def _chart(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    # Here, as matplotlib takes a second to import.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers = np.random.default_rng(chance.getrandbits(32))
    count = chance.randint(3, 12)
    values = numbers.uniform(1, 10, count)
    colours = ["#{:02x}{:02x}{:02x}".format(*_colour(chance)) for _ in range(count)]
    match chance.choice(["bar", "line", "pie", "scatter", "heat", "area"]):
        case "bar":
            axes.bar(range(count), values, color=colours)
        case "line":
            for colour in colours[:3]:
                axes.plot(numbers.normal(0, 1, 60).cumsum(), color=colour)
        case "pie":
            axes.pie(values, colors=colours, labels=[_words(chance, 1) for _ in range(count)])
        case "scatter":
            x, y, shade = numbers.normal(0, 1, (3, 150))
            axes.scatter(x, y, c=shade)
        case "heat":
            axes.imshow(numbers.uniform(0, 1, (count, count)), cmap="viridis")
        case _:
            axes.stackplot(range(30), numbers.uniform(0, 1, (3, 30)), colors=colours[:3])
    if chance.random() < 0.8:
        axes.set_title(_words(chance, 3))
        axes.set_xlabel(_words(chance, 1))
    if chance.random() < 0.5:
        axes.grid(visible=True)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def _drawing(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _paper(chance, size)
    filled = chance.random() < 0.6
    for _ in range(chance.randint(3, 40)):
        points = [_point(chance, size) for _ in range(chance.randint(2, 6))]
        fill = _colour(chance) if filled else None
        width = chance.randint(1, 6)
        match chance.choice(["ellipse", "polygon", "curve", "box"]):
            case "ellipse":
                (x, y), r = points[0], chance.randint(8, max(9, min(size) // 4))
                pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=ink, width=width)
            case "polygon" if len(points) > 2:
                pen.polygon(points, fill=fill, outline=ink)
            case "box":
                x, y = points[0]
                pen.rectangle((x, y, x + size[0] // 6, y + size[1] // 6), fill=fill, outline=ink)
            case _:
                pen.line(points, fill=ink, width=width, joint="curve")
    return image


def _logo(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image, pen, ink = _paper(chance, size)
    mark = _colour(chance)
    radius = min(size) // chance.randint(4, 7)
    x, y = size[0] // 2, size[1] // 3
    shape = chance.choice(["circle", "square", "triangle", "rings"])
    if shape == "square":
        pen.rounded_rectangle((x - radius, y - radius, x + radius, y + radius), 12, fill=mark)
    elif shape == "triangle":
        corners = [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)]
        pen.polygon(corners, fill=mark)
    else:
        for part in range(1 if shape == "circle" else 3):
            r = radius - part * radius // 3
            pen.ellipse((x - r, y - r, x + r, y + r), fill=mark if part % 2 == 0 else ink)
    letter = max(12, size[0] // chance.randint(7, 14))
    name = _words(chance, 1).title()
    width = pen.textlength(name, font=_font(letter))
    pen.text((x - width / 2, size[1] * 0.65), name, fill=ink, font=_font(letter))
    return image


def _code(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    modules = 21 + 4 * chance.randint(0, 10)
    cells = np.random.default_rng(chance.getrandbits(32)).random((modules, modules)) < 0.5
    finder = np.ones((7, 7), bool)
    finder[1:6, 1:6] = False
    finder[2:5, 2:5] = True
    for row, column in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        cells[row : row + 7, column : column + 7] = finder
    if chance.random() < 0.25:  # a bar code
        cells = np.broadcast_to(cells[:1], cells.shape)
    side = int(min(size) * chance.uniform(0.4, 0.95))
    code = Image.fromarray(np.where(cells, 0, 255).astype(np.uint8))
    image = Image.new("RGB", size, (255, 255, 255) if chance.random() < 0.7 else _colour(chance))
    code = code.resize((side, side), Image.Resampling.NEAREST).convert("RGB")
    image.paste(code, ((size[0] - side) // 2, (size[1] - side) // 2))
    return _scanned(chance, image) if chance.random() < 0.5 else image


def _map(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, (233, 229, 220))
    pen = ImageDraw.Draw(image)
    for fill in ((170, 211, 223), (200, 230, 190), (222, 215, 200)):
        for _ in range(chance.randint(1, 3)):
            pen.polygon([_point(chance, size) for _ in range(5)], fill=fill)
    for width, fill in ((3, (255, 255, 255)), (6, (252, 214, 164)), (9, (232, 146, 162))):
        for _ in range(chance.randint(2, 8)):
            pen.line([_point(chance, size) for _ in range(4)], fill=fill, width=width)
    for _ in range(chance.randint(3, 14)):
        pen.text(_point(chance, size), _words(chance, 1).title(), fill=(70, 70, 70), font=_font(13))
    return image


def _scanned(chance: random.Random, image: Image.Image) -> Image.Image:
    """Tilt, blur or speckle a page, as a scanner or a phone does."""
    if chance.random() < 0.5:
        image = image.rotate(
            chance.uniform(-8, 8), Image.Resampling.BILINEAR, fillcolor=_grey(chance)
        )
    if chance.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.3, 1.5)))
    if chance.random() < 0.4:
        image = _with_noise(chance, image, chance.uniform(2, 12))
    return image


def _with_noise(chance: random.Random, image: Image.Image, strength: float) -> Image.Image:
    numbers = np.random.default_rng(chance.getrandbits(32))
    pixels = np.asarray(image) + numbers.normal(0, strength, (image.height, image.width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _paper(chance: random.Random, size: tuple[int, int]) -> tuple[Image.Image, Pen, Colour]:
    """Make a sheet, its pen and an ink that shows on it."""
    ground = chance.choice([(255, 255, 255), (250, 247, 238), _grey(chance), _colour(chance)])
    image = Image.new("RGB", size, ground)
    light = sum(ground) > 380
    low, high = (0, 90) if light else (190, 255)
    ink = (chance.randint(low, high), chance.randint(low, high), chance.randint(low, high))
    return image, ImageDraw.Draw(image), ink


def _line(
    chance: random.Random, pen: Pen, start: tuple[int, int], end: int, ink: Colour, letter: int
) -> None:
    """Write words from ``start`` on, as many as fit before ``end``."""
    font, text = _font(letter), ""
    while True:
        longer = f"{text} {_words(chance, 1)}".strip()
        if start[0] + pen.textlength(longer, font=font) > end:
            break
        text = longer
        if chance.random() < 0.03:
            break
    pen.text(start, text, fill=ink, font=font)


def _words(chance: random.Random, count: int) -> str:
    words = ("".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(count))
    return " ".join(words)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _point(chance: random.Random, size: tuple[int, int]) -> tuple[int, int]:
    return chance.randrange(size[0]), chance.randrange(size[1])


def _grey(chance: random.Random) -> Colour:
    tone = chance.randint(0, 255)
    return tone, tone, tone


def _colour(chance: random.Random) -> Colour:
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


RENDERERS: dict[Kind, Callable[[random.Random, tuple[int, int]], Image.Image]] = {
    Kind.BLANK: _blank,
    Kind.GRADIENT: _gradient,
    Kind.NOISE: _noise,
    Kind.PATTERN: _pattern,
    Kind.PAGE: _page,
    Kind.RECEIPT: _receipt,
    Kind.TABLE: _table,
    Kind.SCREENSHOT: _screenshot,
    Kind.CHART: _chart,
    Kind.DRAWING: _drawing,
    Kind.LOGO: _logo,
    Kind.CODE: _code,
    Kind.MAP: _map,
}
