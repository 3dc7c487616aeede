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
from trainer.datasets.ferplus import LABELS, SIDE, Faces, NotFerPlus, dataset_of

PIXEL_FILE, VOTE_FILE = "fer2013.csv", "fer2013new.csv"
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
VOTE_COLUMNS = (*LABELS, "unknown", "NF")
USAGE, PIXELS, IMAGE = "Usage", "pixels", "Image name"

GET_BOTH = "get fer2013.csv and fer2013new.csv anew"

# Usage, the picture's name, votes in the order of VOTE_COLUMNS, grey levels.
Row = tuple[str, str, list[int], bytes]


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
    for usage, name, votes, levels in _rows(source):
        names[usage].append(name)
        counts[usage].append(votes)
        pixels[usage].append(levels)
    return dataset_of(
        {
            split: Faces(
                tuple(names[usage]),
                np.array(counts[usage], np.int64).reshape(-1, len(VOTE_COLUMNS)),
                np.frombuffer(b"".join(pixels[usage]), np.uint8).reshape(-1, SIDE, SIDE, 1),
            )
            for split, usage in USAGES.items()
        }
    )


def _rows(source: Path) -> Iterator[Row]:
    pictures = _table(source / PIXEL_FILE, (USAGE, PIXELS))
    answers = _table(source / VOTE_FILE, (USAGE, IMAGE, *VOTE_COLUMNS))
    for line, (picture, answer) in enumerate(zip_longest(pictures, answers), start=2):
        try:
            row = _row(picture, answer)
        except (ValueError, AttributeError, TypeError) as error:
            raise NotFerPlus(
                f"{source / VOTE_FILE} and {PIXEL_FILE} don't go together in line {line} ({error})",
                GET_BOTH,
            ) from error
        if row is not None:
            yield row


def _row(picture: dict[str, str] | None, answer: dict[str, str] | None) -> Row | None:
    if picture is None or answer is None:
        raise ValueError("one has more rows than the other")
    usage, name = answer[USAGE], answer[IMAGE]
    if picture[USAGE] != usage or usage not in USAGES.values():
        raise ValueError(f"usage {usage} in one, {picture[USAGE]} in the other")
    if not name:
        return None
    levels = bytes(map(int, picture[PIXELS].split()))
    if len(levels) != SIDE * SIDE:
        raise ValueError(f"a picture of {len(levels)} pixels, not {SIDE * SIDE}")
    return usage, name, [int(answer[column]) for column in VOTE_COLUMNS], levels


def _table(path: Path, wanted: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            missing = [column for column in wanted if column not in (rows.fieldnames or ())]
            if missing:
                raise NotFerPlus(f"{path} has no column {', '.join(missing)}", GET_BOTH)
            yield from rows
    except (OSError, UnicodeDecodeError) as error:
        raise NotFerPlus(f"{path} can't be read ({error})", GET_BOTH) from error
