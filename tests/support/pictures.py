"""Pictures of the README, made from real runs: ``python -m tests.support.pictures``.

The photos are in the public domain or under CC0: Eileen Collins (NASA) and objects from
scikit-image, and Grace Hopper (US Navy) from matplotlib.
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
LETTER, LINE, FRAME = 8.0, 20, 18  # pixels: width of a letter, height of a line, padding
DAY_SECONDS = 86_400


def main() -> None:
    """Make both pictures in docs/images."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, start_chromium() as browser:
        make(Path(folder), IMAGES, browser)


def make(folder: Path, images: Path, browser: Browser) -> str:
    """Label sample photos, draw the terminal and the page, and return the terminal output."""
    save_sample(folder / "photos")
    said = run_three_times(folder)
    (images / "terminal.svg").write_text(draw_terminal(said), encoding="utf-8")
    picture_page(browser, folder / "results.html", images / "report.png")
    return said


def save_sample(photos: Path) -> None:
    """Save portraits in several variants, objects without a face, and a truncated file."""
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
    """Run the command three times on a growing folder; return the output of the last run."""
    later = folder / "later"
    later.mkdir()
    for name in ("portraits", "evening"):
        (folder / "photos" / name).rename(later / name)
    previous: list[str] = []
    for number, name in enumerate(("portraits", "evening")):
        run_command(folder, "photos/", "-o", "results.csv")
        old = folder / f"results-{number}.csv"
        shutil.copy(folder / "results.csv", old)
        # Date the report back, as if it were from one of the days before.
        then = (folder / "results.csv").stat().st_mtime - (2 - number) * DAY_SECONDS
        os.utime(old, (then, then))
        previous += ["--previous", old.name]
        (later / name).rename(folder / "photos" / name)
    said = run_command(folder, "photos/", "-o", "results.csv")
    return said + run_command(folder, "report", "results.csv", *previous)


def run_command(folder: Path, *args: str) -> str:
    """Run batch-label; return the command line and its output, as a terminal shows them."""
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
    """Draw terminal output as SVG; command lines start with a dollar sign."""
    lines = [part for line in said.splitlines() for part in textwrap.wrap(line, COLUMNS)]
    width, height = COLUMNS * LETTER + 2 * FRAME, len(lines) * LINE + 2 * FRAME
    texts = "\n".join(
        f'<text x="{FRAME}" y="{FRAME + LINE * number + 14}" '
        f'class="{"typed" if line.startswith("$ ") else "said"}">{escape(line)}</text>'
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


def picture_page(browser: Browser, page: Path, picture: Path) -> None:
    """Save a screenshot of a page, with 256 colours to keep the file small."""
    with open_page(browser, page, viewport=VIEW, color_scheme="light") as shown:
        shown.page.locator("#filters").evaluate("filters => { filters.open = false; }")
        # Wait until all pictures are decoded.
        images = shown.page.locator("#items img")
        images.evaluate_all("images => Promise.all(images.map((image) => image.decode()))")
        shown.page.screenshot(path=picture)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)


if __name__ == "__main__":
    main()
