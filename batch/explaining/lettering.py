"""Text in pictures, in the font that Pillow carries."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from PIL import ImageFont


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give the font whose letters are ``size`` pixels high."""
    return ImageFont.load_default(size)


def plain(text: str) -> str:
    """Write a text in ASCII, which is all that the font has.

    Accents are lost, and other letters become question marks.
    """
    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in apart if not unicodedata.combining(char))
    shown = "".join(char if char.isprintable() else " " for char in bare)
    return shown.encode("ascii", "replace").decode()


def fitting(text: str, width: int, size: int) -> str:
    """Cut off a text that is wider than ``width`` pixels."""
    letters = font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def wrapped(sentences: Iterable[str], width: int, size: int) -> list[str]:
    """Break sentences into lines of at most ``width`` pixels, each sentence on lines of its own."""
    letters = font(size)
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
