"""The pictures of the README, and the program that makes them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.conftest import REPOSITORY
from tests.support.pictures import IMAGES, VIEW, draw_terminal, make

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MOST_BYTES = 300_000


def lines_of(picture: Path) -> list[str]:
    return [text.text or "" for text in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")]


def check(images: Path) -> None:
    assert (images / "report.png").stat().st_size < MOST_BYTES
    with Image.open(images / "report.png") as image:
        assert image.size == (VIEW["width"], VIEW["height"])
    said = " ".join(lines_of(images / "terminal.svg"))
    assert said.startswith("$ batch-label photos/ -o results.csv happy-sad 3 + people 4 on ")
    assert "11 photos found, 3 to be labelled" in said
    assert re.search(r"results\.html: 11 rows, 10 pictures, 0\.\d MB$", said)


def test_the_pictures_are_made_of_real_runs(browser: Browser, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    said = make(tmp_path, images, browser)
    check(images)
    assert " ".join(lines_of(images / "terminal.svg")).split() == said.split()


def test_the_readme_shows_the_pictures(repository: Path) -> None:
    check(IMAGES)
    readme = (repository / "README.md").read_text(encoding="utf-8")
    for picture in IMAGES.iterdir():
        assert f"](docs/images/{picture.name})" in readme


def test_terminal_output_is_escaped_and_wrapped(tmp_path: Path) -> None:
    (tmp_path / "t.svg").write_text(draw_terminal("$ echo '<b>' & \"more\"\n" + "word " * 40))
    command, *rest = lines_of(tmp_path / "t.svg")
    assert command == "$ echo '<b>' & \"more\""
    assert len(rest) == 3


def test_the_docs_credit_the_photos() -> None:
    text = (REPOSITORY / "docs" / "review.md").read_text(encoding="utf-8")
    assert "public domain" in text
    assert "NASA" in text
