"""FER+: grey 48x48 faces, each labelled by ten people (Barsoum et al. 2016, arXiv 1608.01041)."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from batch.errors import InputError
from batch.records import Region
from trainer.data import Dataset, Framing, Part, Pixels
from trainer.datasets.duplicates import without_twins

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
# The short names that models use for these classes.
SYNONYMS = {"happy": "happiness", "sad": "sadness", "angry": "anger", "surprised": "surprise"}
SIDE = 48
# YuNet's box on these pictures is as wide as the picture itself (median over the
# validation part: 1.00 of its side), so a face crop of a photo needs no margin.
FRAMING = Framing(region=Region.FACE, margin=0.0, side=SIDE, channels=1)
CREDIT = (
    "FER+: the faces of FER2013 (Goodfellow et al. 2013, arXiv 1307.0414), found by web search, "
    "with ten people's labels for each by Barsoum et al. 2016 (arXiv 1608.01041); the labels "
    "are under the MIT licence, the pictures are their owners'."
)
FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
LABEL_FILE = "label.csv"
NOT_USABLE = 'most people saw "unknown" or no face, or no two saw the same'

UNPACK_ANEW = "get the data set anew"

Reader = Callable[[str], bytes]


class NotFerPlus(InputError):
    """The given path does not hold FER+ in the layout that the loader knows."""


@dataclass(frozen=True)
class Faces:
    """One part as it is published.

    ``counts``: int64 [n, 10], the people who chose each of ``LABELS``, "unknown" and "not
    a face". ``pixels``: uint8 [n, 48, 48, 1].
    """

    names: tuple[str, ...]
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    pixels: Pixels


def is_ferplus(source: Path) -> bool:
    """Tell whether a folder or zip file holds FER+'s three parts."""
    try:
        with _opened(source):
            return True
    except (NotFerPlus, zipfile.BadZipFile, OSError):
        return False


def load_ferplus(source: Path) -> Dataset:
    """Read FER+ from a folder or a zip file, see ``dataset_of``.

    Raises:
        NotFerPlus: there is no such file, or it is laid out differently.
    """
    return dataset_of(read_ferplus(source))


def read_ferplus(source: Path) -> dict[str, Faces]:
    """Read every picture and vote of FER+ by the name of the part.

    Raises:
        NotFerPlus: there is no such file, or it is laid out differently.
    """
    with _opened(source) as read:
        return {split: _read_part(read, folder) for split, folder in FOLDERS.items()}


def dataset_of(faces: Mapping[str, Faces]) -> Dataset:
    """Make a data set of FER+'s three parts, by the rules of its paper.

    The published split is kept. A class that a single person chose is taken for a slip
    and dropped, and a face is left out of every part where "unknown" or "not a face"
    won; it counts as certain where one class holds more than half of the rest, which is
    the paper's majority rule. Near duplicates of held-out faces are left out as well.
    """
    names, parts, left_out = {}, {}, []
    for split, part in faces.items():
        votes = np.where(part.counts > 1, part.counts, 0).astype(np.float32)
        usable = (votes.sum(axis=1) > 0) & (votes.argmax(axis=1) < len(LABELS))
        certain = votes.max(axis=1) > 0.5 * votes.sum(axis=1)
        kept = votes[usable][:, : len(LABELS)]
        shares = kept / kept.sum(axis=1, keepdims=True)
        parts[split] = Part(
            pixels=part.pixels[usable],
            votes=shares,
            certain=certain[usable],
            kinds=np.array(LABELS)[shares.argmax(axis=1)],
        )
        paths = [f"{FOLDERS[split]}/{name}" for name in part.names]
        names[split] = [path for path, use in zip(paths, usable, strict=True) if use]
        left_out += [(p, NOT_USABLE) for p, use in zip(paths, usable, strict=True) if not use]
    whole = Dataset(
        name="ferplus",
        labels=LABELS,
        framing=FRAMING,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        left_out=tuple(left_out),
        credit=CREDIT,
    )
    return without_twins(whole, names)


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
        f"{source} has no {wanted} in it",
        f"give the folder or the zip file that holds {', '.join(FOLDERS.values())}",
    )


def _folder_reader(root: Path) -> Reader:
    def read(name: str) -> bytes:
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise NotFerPlus(f"{root / name} can't be read", UNPACK_ANEW) from error

    return read


def _archive_reader(archive: zipfile.ZipFile, base: PurePosixPath) -> Reader:
    def read(name: str) -> bytes:
        try:
            return archive.read(str(base / name))
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise NotFerPlus(f"{archive.filename} has no sound {name}", UNPACK_ANEW) from error

    return read


def _read_part(read: Reader, folder: str) -> Faces:
    path = f"{folder}/{LABEL_FILE}"
    names, counts = [], []
    try:
        for row in csv.reader(io.StringIO(read(path).decode())):
            name, _, *votes = row
            names.append(name)
            counts.append([int(n) for n in votes])
        table = np.array(counts, np.int64).reshape(len(names), len(LABELS) + 2)
    except ValueError as error:
        raise NotFerPlus(f"{path} is not a table of ten votes a picture", UNPACK_ANEW) from error
    return Faces(tuple(names), table, _read_images(read, [f"{folder}/{name}" for name in names]))


def _read_images(read: Reader, paths: list[str]) -> Pixels:
    pixels = np.empty((len(paths), SIDE, SIDE, 1), dtype=np.uint8)

    def fill(index: int, path: str) -> None:
        try:
            with Image.open(io.BytesIO(read(path)), formats=("PNG",)) as image:
                grey = np.asarray(image.convert("L"))
        except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG
            raise NotFerPlus(f"{path} is not a sound picture", UNPACK_ANEW) from error
        if grey.shape != (SIDE, SIDE):
            raise NotFerPlus(f"{path} is not {SIDE}x{SIDE} pixels", UNPACK_ANEW)
        pixels[index, :, :, 0] = grey

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(len(paths)), paths))
    return pixels
