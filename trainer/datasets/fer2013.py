"""FER+ as it is published: two tables, FER2013's with the pixels and FERPlus's with the votes.

https://github.com/microsoft/FERPlus describes both.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from trainer.data import Dataset
from trainer.datasets.ferplus import (
    FACE_SIDE,
    FERPLUS_LABELS,
    NotFerPlus,
    PublishedSplit,
    build_ferplus,
)

PIXEL_FILE, VOTE_FILE = "fer2013.csv", "fer2013new.csv"
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
VOTE_COLUMNS = (*FERPLUS_LABELS, "unknown", "NF")
USAGE_COLUMN, PIXELS_COLUMN, NAME_COLUMN = "Usage", "pixels", "Image name"

TABLES_REMEDY = "get fer2013.csv and fer2013new.csv anew"

# Usage, the picture's name, votes in the order of VOTE_COLUMNS, grey levels.
FaceRow = tuple[str, str, list[int], bytes]


def is_fer2013(source: Path) -> bool:
    """Tell whether a folder holds the two tables."""
    return all((source / name).is_file() for name in (PIXEL_FILE, VOTE_FILE))


def load_fer2013(source: Path) -> Dataset:
    """Read FER+ from its two tables; the same data set as from its pictures.

    Rows that FERPlus gives no picture's name are those that it removed.

    Raises:
        NotFerPlus: a table can't be read, or one does not go with the other.
    """
    names: dict[str, list[str]] = {usage: [] for usage in USAGES.values()}
    counts: dict[str, list[list[int]]] = {usage: [] for usage in USAGES.values()}
    pixels: dict[str, list[bytes]] = {usage: [] for usage in USAGES.values()}
    for usage, name, votes, levels in _read_rows(source):
        names[usage].append(name)
        counts[usage].append(votes)
        pixels[usage].append(levels)
    return build_ferplus(
        {
            split: PublishedSplit(
                tuple(names[usage]),
                np.array(counts[usage], np.int64).reshape(-1, len(VOTE_COLUMNS)),
                np.frombuffer(b"".join(pixels[usage]), np.uint8).reshape(
                    -1, FACE_SIDE, FACE_SIDE, 1
                ),
            )
            for split, usage in USAGES.items()
        }
    )


def _read_rows(source: Path) -> Iterator[FaceRow]:
    pictures = _read_table(source / PIXEL_FILE, (USAGE_COLUMN, PIXELS_COLUMN))
    answers = _read_table(source / VOTE_FILE, (USAGE_COLUMN, NAME_COLUMN, *VOTE_COLUMNS))
    for line, (picture, answer) in enumerate(zip_longest(pictures, answers), start=2):
        try:
            row = _parse_row(picture, answer)
        except (ValueError, AttributeError, TypeError) as error:
            raise NotFerPlus(
                f"{source / VOTE_FILE} and {PIXEL_FILE} don't go together in line {line} ({error})",
                TABLES_REMEDY,
            ) from error
        if row is not None:
            yield row


def _parse_row(picture: dict[str, str] | None, answer: dict[str, str] | None) -> FaceRow | None:
    if picture is None or answer is None:
        raise ValueError("one has more rows than the other")
    usage, name = answer[USAGE_COLUMN], answer[NAME_COLUMN]
    if picture[USAGE_COLUMN] != usage or usage not in USAGES.values():
        raise ValueError(f"usage {usage} in one, {picture[USAGE_COLUMN]} in the other")
    if not name:
        return None
    levels = bytes(map(int, picture[PIXELS_COLUMN].split()))
    if len(levels) != FACE_SIDE * FACE_SIDE:
        raise ValueError(f"a picture of {len(levels)} pixels, not {FACE_SIDE * FACE_SIDE}")
    return usage, name, [int(answer[column]) for column in VOTE_COLUMNS], levels


def _read_table(path: Path, wanted: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            missing = [column for column in wanted if column not in (rows.fieldnames or ())]
            if missing:
                raise NotFerPlus(f"{path} has no column {', '.join(missing)}", TABLES_REMEDY)
            yield from rows
    except (OSError, UnicodeDecodeError) as error:
        raise NotFerPlus(f"{path} can't be read ({error})", TABLES_REMEDY) from error
