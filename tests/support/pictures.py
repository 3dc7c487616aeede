"""The README's pictures, of real runs: ``python -m tests.support.pictures`` makes them anew.

The photos are in the public domain or under CC0: Eileen Collins (NASA) and things, which
scikit-image carries, and Grace Hopper (US Navy), whom matplotlib carries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from PIL import Image, ImageEnhance, ImageOps

from tests.conftest import REPOSITORY
from tests.support.browser import open_page, start_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

IMAGES = REPOSITORY / "docs" / "images"
VIEW = {"width": 1180, "height": 1572}
COLUMNS = 96
LETTER, LINE, FRAME = 8.0, 20, 18  # pixels: a letter's width, a line's height, what is around them
DAY_SECONDS = 86_400  # seconds


def main() -> None:
    """Make both pictures in docs/images."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, start_chromium() as browser:
        make(Path(folder), IMAGES, browser)


def make(folder: Path, images: Path, browser: Browser) -> str:
    """Label sample photos in a folder, picture the runs and their page, and give what they said."""
    save_sample(folder / "photos")
    said = run_three_times(folder)
    (images / "terminal.svg").write_text(draw_terminal(said), encoding="utf-8")
    picture_page(browser, folder / "results.html", images / "report.png")
    return said


def save_sample(photos: Path) -> None:
    """Save portraits in some variants, things without a face, and a file that is cut off."""
    import matplotlib
    import skimage.data

    samples = Path(matplotlib.get_data_path()) / "sample_data"
    with Image.open(samples / "grace_hopper.jpg") as image:
        hopper = image.convert("RGB")
    collins = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    for name, picture in {
        "evening/collins.jpg": ImageEnhance.Brightness(collins).enhance(0.25),
        "evening/hopper.jpg": ImageEnhance.Brightness(hopper).enhance(0.25),
        "portraits/collins.jpg": collins,
        "portraits/collins close.jpg": collins.crop((120, 0, 380, 260)),
        "portraits/hopper.jpg": hopper,
        "portraits/hopper close.jpg": hopper.crop((120, 40, 400, 320)),
        "portraits/hopper grey.png": ImageOps.grayscale(hopper),
    }.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(photos / name)
    (photos / "things").mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(Path(skimage.data.__path__[0]) / name, photos / "things")
    whole = (photos / "portraits" / "hopper.jpg").read_bytes()
    (photos / "things" / "cut off.jpg").write_bytes(whole[:9_000])


def run_three_times(folder: Path) -> str:
    """Run the command on three nights, on which the folder grows; give what the last one said."""
    later = folder / "later"
    later.mkdir()
    for name in ("portraits", "evening"):
        (folder / "photos" / name).rename(later / name)
    previous: list[str] = []
    for night, name in enumerate(("portraits", "evening")):
        run_command(folder, "photos/", "-o", "results.csv")
        old = folder / f"results-{night}.csv"
        shutil.copy(folder / "results.csv", old)
        # As it would be had it been kept on one of the nights before.
        then = (folder / "results.csv").stat().st_mtime - (2 - night) * DAY_SECONDS
        os.utime(old, (then, then))
        previous += ["--previous", old.name]
        (later / name).rename(folder / "photos" / name)
    said = run_command(folder, "photos/", "-o", "results.csv")
    return said + run_command(folder, "report", "results.csv", *previous)


def run_command(folder: Path, *args: str) -> str:
    """Run batch-label, and give the command line and all that it said, as a terminal shows it."""
    done = subprocess.run(
        [sys.executable, "-m", "batch", *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode in (0, 3), done.stdout
    return f"$ batch-label {' '.join(args)}\n{done.stdout}"


def draw_terminal(said: str) -> str:
    """Draw lines of a terminal as SVG; command lines begin with a dollar sign."""
    lines = [part for line in said.splitlines() for part in textwrap.wrap(line, COLUMNS)]
    width, height = COLUMNS * LETTER + 2 * FRAME, len(lines) * LINE + 2 * FRAME
    texts = "\n".join(
        f'<text x="{FRAME}" y="{FRAME + LINE * number + 14}" class="{_kind(line)}">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:g} {height}">
<title>batch-label in a terminal</title>
<style>
text {{ font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; white-space: pre; }}
.typed {{ fill: #8cc3e4; font-weight: 600; }}
.said {{ fill: #c9d1d9; }}
</style>
<rect width="100%" height="100%" rx="10" fill="#15181b"/>
{texts}
</svg>
"""


def _kind(line: str) -> str:
    return "typed" if line.startswith("$ ") else "said"


def picture_page(browser: Browser, page: Path, picture: Path) -> None:
    """Save what a browser shows of a page, in few colours, as they take few bytes."""
    with open_page(browser, page, viewport=VIEW, color_scheme="light") as shown:
        shown.page.locator("#filters").evaluate("filters => { filters.open = false; }")
        # All pictures are in sight, and are to be there.
        images = shown.page.locator("#items img")
        images.evaluate_all("images => Promise.all(images.map((image) => image.decode()))")
        shown.page.screenshot(path=picture)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)


if __name__ == "__main__":
    main()
