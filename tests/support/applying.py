"""Reports by hand for `batch-label apply`, and what is in a folder."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from batch.applying.apply_report import apply_report
from batch.applying.job import ApplyJob
from batch.applying.summary import Summary
from batch.applying.undoing import undo_last
from batch.location import parse_location
from batch.path_text import path_text
from batch.stopping import Stop

COLUMNS = (
    *("path", "status", "label", "confidence", "p_happy", "p_sad", "p_neither"),
    *("face_left", "face_top", "face_width", "face_height", "width", "height", "sha256", "error"),
)
DEFAULTS = {
    "status": "ok",
    "label": "happy",
    "confidence": "0.9",
    "face_left": "10.0",
    "face_top": "20.0",
    "face_width": "30.0",
    "face_height": "40.0",
    "width": "300",
    "height": "200",
}


def make_row(folder: Path, path: str | Path, **values: str) -> dict[str, str]:
    """Make the row of a photo below a folder, with its digest if it can be read."""
    row = dict.fromkeys(COLUMNS, "") | DEFAULTS
    row["path"] = path_text(parse_location(str(path)))
    file = folder / path
    if file.is_file():
        row["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return row | values


def write_report(report: Path, rows: Iterable[Mapping[str, str]], face: bool = False) -> Path:
    """Write a report in CSV, in the given order."""
    columns = (*COLUMNS, "face") if face else COLUMNS
    with report.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return report


def save_samples(folder: Path) -> Path:
    """Save real photos: two people, a cat and a cup, in two folders, one name twice."""
    import matplotlib
    import skimage.data

    pictures = Path(skimage.data.__path__[0])
    for name, sub in (("astronaut.png", "a"), ("chelsea.png", "a"), ("coffee.png", "b")):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / name, folder / sub)
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    shutil.copy(hopper, folder / "b" / "astronaut.png")  # the bytes tell the format
    return folder


def list_files(folder: Path) -> list[str]:
    """List the files and links below a folder, hidden ones too, relative to it."""
    return sorted(
        os.path.relpath(Path(top) / name, folder)
        for top, _, names in os.walk(folder)
        for name in names
    )


def run_apply(report: Path, **options: Any) -> Summary:
    """Apply a report in this process, for real unless ``execute`` is False."""
    settings: dict[str, Any] = {"photos": report.parent, "execute": True} | options
    job = ApplyJob(str(report), report.parent, **settings)
    return apply_report(job, sys.stdout.buffer, Stop())


def run_undo(report: Path, **options: Any) -> Summary:
    """Undo the last run in this process."""
    settings: dict[str, Any] = {"execute": True} | options
    return undo_last(ApplyJob(str(report), report.parent, **settings), Stop())
