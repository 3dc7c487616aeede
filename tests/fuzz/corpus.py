"""Label the test images of Pillow (``python -m tests.fuzz.corpus``, ``make corpus``)."""

from __future__ import annotations

import csv
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath

import PIL

from tests.conftest import REPOSITORY
from tests.fuzz.labelling import label_files

PLACE = REPOSITORY / "data" / "corpus"


def main() -> None:
    """Download the test images of the installed release, if missing, and label them."""
    folder = PLACE / f"pillow-{PIL.__version__}"
    if not folder.is_dir():
        _fetch(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as place:
        for run in label_files(files, Path(place)):
            sys.stdout.write(f"labelled {len(files)} files: {run}\n")
        with (Path(place) / "1.csv").open(newline="", encoding="utf-8") as report:
            words = Counter(
                row["error"].partition(":")[0] or row["status"] for row in csv.DictReader(report)
            )
    sys.stdout.write(f"{dict(words.most_common())}\n")


def _fetch(folder: Path) -> None:
    """Download Pillow's source distribution with pip, and keep its test images."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE) as place:
        wanted = ["--no-deps", "--no-binary", ":all:", f"pillow=={PIL.__version__}"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "-d", place, *wanted]
        subprocess.run(command, check=True)
        (source,) = Path(place).glob("*.tar.gz")
        with tarfile.open(source) as archive:
            images = [entry for entry in archive if _is_test_image(entry)]
            archive.extractall(place, images, filter="data")
        (top,) = (path for path in Path(place).iterdir() if path.is_dir())
        (top / "Tests" / "images").rename(folder)


def _is_test_image(entry: tarfile.TarInfo) -> bool:
    return entry.isfile() and PurePosixPath(entry.name).parts[1:3] == ("Tests", "images")


if __name__ == "__main__":
    main()
