"""Reviews as saved by the report page, and drawn faces for training or held out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from PIL import Image

from batch.reading.reviews import REVIEW_COLUMNS
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.samples import assign_split

Row = dict[str, object]


def write_review(path: Path, rows: Iterable[Row]) -> Path:
    """Write a review; missing columns are empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, REVIEW_COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def is_held(photo: Path) -> bool:
    return assign_split(hashlib.sha256(photo.read_bytes()).hexdigest()) != "train"


def write_snapshots(folder: Path, mood: Mood, learn: int, held: int, first_seed: int) -> list[Path]:
    """Write drawn faces: ``learn`` for training and ``held`` held-out ones."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {False: learn, True: held}
    written: list[Path] = []
    for seed in count(first_seed):
        if not any(wanted.values()):
            return written
        path = folder / f"{mood.value}-{seed}.png"
        Image.fromarray(draw_snapshot(mood, 32, 3, seed)).save(path)
        if wanted[is_held(path)]:
            wanted[is_held(path)] -= 1
            written.append(path)
        else:
            path.unlink()
    raise AssertionError


def review_rows(report: Path, answers: Mapping[str, str], face: str = "") -> list[Row]:
    """Make the rows of a review as the page of a CSV report does: right labels by path."""
    with report.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("face", "") == face]
    return [
        {name: row[name] for name in REVIEW_COLUMNS if name in row}
        | {"said": row["label"] or row["status"], "label": answers[row["path"]]}
        for row in rows
        if row["path"] in answers
    ]
