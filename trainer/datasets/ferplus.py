"""Reader of FER+: grey 48x48 faces, each labelled by ten people.

Barsoum et al. 2016, arXiv 1608.01041. FER+ is read from the pictures that
https://github.com/microsoft/FERPlus writes, or from the two tables behind them: FER2013's table of
pixels and FERPlus's table of votes.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from batch.errors import InputError
from batch.records import Region
from trainer.datasets.dataset import Dataset, Framing, Pixels, Split
from trainer.datasets.duplicates import drop_near_duplicates

FERPLUS_LABELS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
FACE_SIDE = 48
# YuNet's box on these pictures is as wide as the picture (median over the validation split: 1.00 of
# its side), so a face crop of a photo needs no margin.
FERPLUS_FRAMING = Framing(region=Region.FACE, margin=0.0, side=FACE_SIDE, channels=1)
FERPLUS_CREDIT = (
    "FER+: the faces of FER2013 (Goodfellow et al. 2013, arXiv 1307.0414), found by web search, "
    "with ten people's labels for each by Barsoum et al. 2016 (arXiv 1608.01041); the labels "
    "are under the MIT licence, the pictures are their owners'."
)
SPLIT_FOLDERS = {"train": "FER2013Train", "validation": "FER2013Valid", "test": "FER2013Test"}
LABEL_FILE = "label.csv"
PIXEL_FILE, VOTE_FILE = "fer2013.csv", "fer2013new.csv"
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
VOTE_COLUMNS = (*FERPLUS_LABELS, "unknown", "NF")
USAGE_COLUMN, PIXELS_COLUMN, NAME_COLUMN = "Usage", "pixels", "Image name"
UNUSABLE_REASON = 'most votes are "unknown" or "not a face", or no two people agree'

DOWNLOAD_REMEDY = "download the data set again"
TABLES_REMEDY = f"download {PIXEL_FILE} and {VOTE_FILE} again"

Reader = Callable[[str], bytes]
# Usage, the picture's name, votes in the order of VOTE_COLUMNS, grey levels.
FaceRow = tuple[str, str, list[int], bytes]


class FerplusError(InputError):
    """A folder or file is not FER+, or is damaged."""


@dataclass(frozen=True)
class PublishedSplit:
    """A split as it is published.

    Attributes:
        names: file name of each picture.
        counts: votes for each of ``VOTE_COLUMNS``, int64 [n, 10].
        pixels: grey levels, uint8 [n, 48, 48, 1].
    """

    names: tuple[str, ...]
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    pixels: Pixels


def is_ferplus(source: Path) -> bool:
    """Tell whether a folder or zip file holds the three splits of FER+ as pictures."""
    try:
        with _open_source(source):
            return True
    except (FerplusError, zipfile.BadZipFile, OSError):
        return False


def load_ferplus(source: Path) -> Dataset:
    """Read FER+ from the pictures in a folder or zip file, see ``build_ferplus``.

    Raises:
        FerplusError: the file does not exist, or is not FER+.
    """
    return build_ferplus(read_ferplus(source))


def read_ferplus(source: Path) -> dict[str, PublishedSplit]:
    """Read all pictures and votes of FER+, by the name of the split.

    Raises:
        FerplusError: the file does not exist, or is not FER+.
    """
    with _open_source(source) as read:
        return {split: _read_split(read, folder) for split, folder in SPLIT_FOLDERS.items()}


def is_fer2013(source: Path) -> bool:
    """Tell whether a folder holds the two tables of FER+."""
    return all((source / name).is_file() for name in (PIXEL_FILE, VOTE_FILE))


def load_fer2013(source: Path) -> Dataset:
    """Read FER+ from its two tables; the data set is the same as from its pictures.

    Rows without a picture's name are skipped, because FERPlus removed these pictures.

    Raises:
        FerplusError: a table can't be read, or the tables do not match.
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


def build_ferplus(faces: Mapping[str, PublishedSplit]) -> Dataset:
    """Build a data set of FER+'s three splits, by the rules of its paper.

    A single vote for a class is treated as an error and dropped. A face is skipped if "unknown" or
    "not a face" has the most votes. It is certain if one class has more than half of the remaining
    votes. Near duplicates of held-out faces are skipped too.
    """
    parts, skipped = {}, []
    for split, part in faces.items():
        votes = np.where(part.counts > 1, part.counts, 0).astype(np.float32)
        usable = (votes.sum(axis=1) > 0) & (votes.argmax(axis=1) < len(FERPLUS_LABELS))
        certain = votes.max(axis=1) > 0.5 * votes.sum(axis=1)
        kept = votes[usable][:, : len(FERPLUS_LABELS)]
        shares = kept / kept.sum(axis=1, keepdims=True)
        paths = np.array([f"{SPLIT_FOLDERS[split]}/{name}" for name in part.names], np.object_)
        parts[split] = Split(
            pixels=part.pixels[usable],
            votes=shares,
            certain=certain[usable],
            kinds=np.array(FERPLUS_LABELS)[shares.argmax(axis=1)],
            names=paths[usable],
        )
        skipped += [(path, UNUSABLE_REASON) for path in paths[~usable]]
    whole = Dataset(
        name="ferplus",
        labels=FERPLUS_LABELS,
        framing=FERPLUS_FRAMING,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        skipped=tuple(skipped),
        credit=FERPLUS_CREDIT,
    )
    return drop_near_duplicates(whole)


@contextmanager
def _open_source(source: Path) -> Iterator[Reader]:
    wanted = f"{SPLIT_FOLDERS['train']}/{LABEL_FILE}"
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
    raise FerplusError(
        f"{source} does not contain {wanted}",
        f"give the folder or zip file with {', '.join(SPLIT_FOLDERS.values())} in it",
    )


def _folder_reader(root: Path) -> Reader:
    def read(name: str) -> bytes:
        try:
            return (root / name).read_bytes()
        except OSError as error:
            raise FerplusError(f"{root / name} can't be read", DOWNLOAD_REMEDY) from error

    return read


def _archive_reader(archive: zipfile.ZipFile, base: PurePosixPath) -> Reader:
    def read(name: str) -> bytes:
        try:
            return archive.read(str(base / name))
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise FerplusError(
                f"{name} is missing or damaged in {archive.filename}", DOWNLOAD_REMEDY
            ) from error

    return read


def _read_split(read: Reader, folder: str) -> PublishedSplit:
    path = f"{folder}/{LABEL_FILE}"
    names, counts = [], []
    try:
        for row in csv.reader(io.StringIO(read(path).decode())):
            name, _, *votes = row
            names.append(name)
            counts.append([int(n) for n in votes])
        table = np.array(counts, np.int64).reshape(len(names), len(VOTE_COLUMNS))
    except ValueError as error:
        raise FerplusError(
            f"{path} is not a table with ten votes per picture", DOWNLOAD_REMEDY
        ) from error
    return PublishedSplit(
        tuple(names), table, _read_images(read, [f"{folder}/{name}" for name in names])
    )


def _read_images(read: Reader, paths: list[str]) -> Pixels:
    pixels = np.empty((len(paths), FACE_SIDE, FACE_SIDE, 1), dtype=np.uint8)

    def fill(index: int, path: str) -> None:
        try:
            with Image.open(io.BytesIO(read(path)), formats=("PNG",)) as image:
                grey = np.asarray(image.convert("L"))
        except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a damaged PNG
            raise FerplusError(f"{path} is damaged", DOWNLOAD_REMEDY) from error
        if grey.shape != (FACE_SIDE, FACE_SIDE):
            raise FerplusError(f"{path} is not {FACE_SIDE}x{FACE_SIDE} pixels", DOWNLOAD_REMEDY)
        pixels[index, :, :, 0] = grey

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(len(paths)), paths))
    return pixels


def _read_rows(source: Path) -> Iterator[FaceRow]:
    pictures = _read_table(source / PIXEL_FILE, (USAGE_COLUMN, PIXELS_COLUMN))
    answers = _read_table(source / VOTE_FILE, (USAGE_COLUMN, NAME_COLUMN, *VOTE_COLUMNS))
    for line, (picture, answer) in enumerate(zip_longest(pictures, answers), start=2):
        try:
            row = _parse_row(picture, answer)
        except (ValueError, AttributeError, TypeError) as error:
            raise FerplusError(
                f"{source / VOTE_FILE} and {PIXEL_FILE} do not match in line {line} ({error})",
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
                raise FerplusError(f"{path} has no column {', '.join(missing)}", TABLES_REMEDY)
            yield from rows
    except (OSError, UnicodeDecodeError) as error:
        raise FerplusError(f"{path} can't be read ({error})", TABLES_REMEDY) from error
