"""The page of a training in a real browser: no errors, no requests, accessible, fits a phone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.batch.page.test_access import faults
from tests.support.browser import DESKTOP, PHONE, open_page
from tests.support.trainer_data import CONFIG, SIDE, write_folders
from trainer.datasets.dataset import Framing
from trainer.datasets.drawn_faces import Mood
from trainer.datasets.labelled_files import load_folders
from trainer.page.make import make_training_page
from trainer.training.loop import train

from .test_make import HOSTILE_LABEL, HOSTILE_NAMES, save_face

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section, hostile names and a long label."""
    folder = tmp_path_factory.mktemp("page")
    root = write_folders(folder / "photos", 40)
    for n, name in enumerate(HOSTILE_NAMES):
        save_face(root / HOSTILE_LABEL / name, Mood.SAD, 800 + n)
        save_face(root / "happy" / name, Mood.SAD, 900 + n)
        save_face(root / ("long label " * 12) / f"{n}.png", Mood.HAPPY, 950 + n)
    (root / "sad" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for label in ("happy", "sad"):
        save_face(root / label / "both.png", Mood.HAPPY, 999)
    data, config = load_folders(root, Framing(side=SIDE)), replace(CONFIG, epochs=2)
    train(data, config, folder / "run")
    return make_training_page(folder / "run", data, config)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_opens_and_is_accessible(
    browser: Browser, page: Path, scheme: str, size: dict[str, int]
) -> None:
    with open_page(browser, page, color_scheme=scheme, viewport=size) as shown:
        assert faults(shown) == []
        wide = shown.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"]
        assert [url for url in shown.requests if not url.startswith("data:")] == [page.as_uri()]
        pictures = shown.page.locator(".samples img")
        assert pictures.count() > 6
        assert pictures.evaluate_all("all => all.every((one) => one.naturalWidth > 0)")
        # Names are text, and no script runs.
        assert HOSTILE_LABEL in shown.page.locator("tbody th bdi").all_text_contents()
        assert shown.page.locator("script, img:not([src^='data:'])").count() == 0
