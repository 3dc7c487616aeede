"""FER+: grey 48x48 faces, each labelled by ten people (Barsoum et al. 2016, arXiv 1608.01041)."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from trainer.data import Dataset, Part, Pixels

LABELS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
SIDE = 48
FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
LABEL_FILE = "label.csv"

Reader = Callable[[str], bytes]


class NotFerPlus(ValueError):
    """The given path does not hold FER+ in the layout that the loader knows."""


def is_ferplus(source: Path) -> bool:
    """Tell whether a folder or zip file holds FER+'s three parts."""
    try:
        with _opened(source):
            return True
    except (NotFerPlus, zipfile.BadZipFile, OSError):
        return False


def load_ferplus(source: Path) -> Dataset:
    """Read FER+ from a folder or a zip file.

    The published split is kept. A class that a single person chose is taken for a slip
    and dropped, and a face is left out of every part where "unknown" or "not a face"
    won; it counts as certain where one class holds more than half of the rest, which is
    the paper's majority rule.

    Raises:
        NotFerPlus: there is no such file, or it is laid out differently.
    """
    with _opened(source) as read:
        return Dataset(
            name="ferplus",
            labels=LABELS,
            region="face",
            train=_load_part(read, FOLDERS["train"]),
            validation=_load_part(read, FOLDERS["validation"]),
            test=_load_part(read, FOLDERS["test"]),
        )


@contextmanager
def _opened(source: Path) -> Iterator[Reader]:
    wanted = f"{FOLDERS['train']}/{LABEL_FILE}"
    if source.is_dir():
        for label_file in (source / wanted, *source.glob(f"*/{wanted}")):
            if label_file.is_file():
                yield _folder_reader(label_file.parent.parent)
                return
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                if name == wanted or name.endswith(f"/{wanted}"):
                    yield _archive_reader(archive, PurePosixPath(name).parent.parent)
                    return
    raise NotFerPlus(
        f"{source}: no {wanted} in it; give the folder or the zip file that holds "
        f"{', '.join(FOLDERS.values())}"
    )


def _folder_reader(root: Path) -> Reader:
    return lambda name: (root / name).read_bytes()


def _archive_reader(archive: zipfile.ZipFile, base: PurePosixPath) -> Reader:
    return lambda name: archive.read(str(base / name))


def _load_part(read: Reader, folder: str) -> Part:
    rows = csv.reader(io.StringIO(read(f"{folder}/{LABEL_FILE}").decode()))
    names, counts = [], []
    for row in rows:
        names.append(row[0])
        counts.append([int(votes) for votes in row[2:]])
    votes = np.asarray(counts, dtype=np.float32)
    votes[votes <= 1] = 0  # the paper's rule against slips
    winner = votes.argmax(axis=1)
    usable = (votes.sum(axis=1) > 0) & (winner < len(LABELS))
    certain = votes.max(axis=1) > 0.5 * votes.sum(axis=1)
    kept = votes[usable][:, : len(LABELS)]
    paths = [f"{folder}/{name}" for name, use in zip(names, usable, strict=True) if use]
    return Part(
        pixels=_read_images(read, paths),
        votes=kept / kept.sum(axis=1, keepdims=True),
        certain=certain[usable],
    )


def _read_images(read: Reader, paths: list[str]) -> Pixels:
    pixels = np.empty((len(paths), SIDE, SIDE, 1), dtype=np.uint8)

    def fill(index: int, path: str) -> None:
        with Image.open(io.BytesIO(read(path)), formats=("PNG",)) as image:
            if image.size != (SIDE, SIDE):
                raise NotFerPlus(f"{path}: {image.size} pixels, not {SIDE}x{SIDE}")
            pixels[index, :, :, 0] = np.asarray(image.convert("L"))

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(len(paths)), paths))
    return pixels
