"""Shared fixtures: real photos, the shared data, the command, and a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.support.browser import start_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(autouse=True)
def _working_directory() -> Iterator[None]:
    """Fail a test that leaves the process in another working directory, for the tests after it."""
    before = Path.cwd()
    yield
    after = Path.cwd()
    os.chdir(before)
    assert after == before, f"the test left the process in {after}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with ferplus.zip, people.zip and photos.zip."""
    folder = Path(os.environ.get("BATCH_LABEL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"shared photos not found: {folder} (set BATCH_LABEL_DATA)")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> Image.Image:
    """A real photo with one smiling face: scikit-image's portrait of Eileen Collins."""
    import skimage.data

    return Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]


@pytest.fixture
def photos(tmp_path: Path, astronaut: Image.Image) -> Path:
    """A folder with two photos of a face and one without a face."""
    import skimage.data

    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    astronaut.save(folder / "astronaut.jpg", quality=92)
    astronaut.resize((256, 256)).save(folder / "sub" / "small.png")
    coffee = Image.fromarray(skimage.data.coffee())  # type: ignore[no-untyped-call]
    coffee.save(folder / "coffee.jpg")
    return folder


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """A function that runs batch-label as a process in an empty folder."""

    def run(*args: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-m", "batch", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            text=True,
            capture_output=True,
            timeout=120,
            **kwargs,
        )

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of the system."""
    with start_chromium() as browser:
        yield browser
