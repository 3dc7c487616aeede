"""Labelled photos for accuracy: a folder or zip file of photos, or the test part of FER+.

Photos are in folders named after their labels. The faces of FER+, 48 pixels per side, are
enlarged and put on a grey photo of 350 pixels, so that every program has to find them.
"""

from __future__ import annotations

import csv
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

from PIL import Image, ImageOps

from bench.command import CommandError

LABELS = ("happy", "sad")
NEITHER = "neither"
# FER+ (Barsoum et al. 2016, arXiv 1608.01041): columns with the votes of ten people.
TEST_PART = "FER2013Test/label.csv"
VOTES = (
    *("neutral", "happiness", "surprise", "sadness", "anger"),
    *("disgust", "fear", "contempt", "unknown", "NF"),
)
LABEL_OF = {"happiness": "happy", "sadness": "sad"}
NO_EXPRESSION = ("unknown", "NF")
FACE_SIDE, BORDER = 250, 50  # pixels
GREY = 128


@dataclass(frozen=True)
class AnswerQuality:
    """Accuracy of answers, as shares (0 to 1); a share of no photos is None.

    Attributes:
        photos: the number of photos.
        answered: share of the photos with a true label that got a label.
        right: share of these that got the right label.
        wrongly: share of the photos without a true label (``neither``) that got a label.
    """

    photos: int
    answered: float | None
    right: float | None
    wrongly: float | None


def judge_answers(truths: Mapping[Path, str], answers: Mapping[Path, str]) -> AnswerQuality:
    """Compare answers with the true labels; any other text than a label counts as no answer."""
    given = {path: answers.get(path, "") for path in truths}
    named = [path for path, truth in truths.items() if truth in LABELS]
    answered = [path for path in named if given[path] in LABELS]
    others = [path for path, truth in truths.items() if truth not in LABELS]
    return AnswerQuality(
        photos=len(truths),
        answered=_share(len(answered), len(named)),
        right=_share(sum(given[path] == truths[path] for path in answered), len(answered)),
        wrongly=_share(sum(given[path] in LABELS for path in others), len(others)),
    )


def find_truths(folder: Path, most: int) -> dict[Path, str]:
    """Find the photos in folders named after a label or ``neither``, and their true labels.

    At most ``most`` photos, evenly spread over all of them.
    """
    found = {
        path: name
        for path in sorted(folder.resolve().rglob("*"))
        if path.is_file() and (name := find_truth(path.relative_to(folder.resolve()))) is not None
    }
    paths = list(found)
    chosen = [paths[n * len(paths) // most] for n in range(most)] if len(paths) > most else paths
    return {path: found[path] for path in chosen}


def find_truth(path: Path, labels: Sequence[str] = (*LABELS, NEITHER)) -> str | None:
    """Return the innermost folder in a path that is named after a label; None if none is."""
    return next((part for part in path.parent.parts[::-1] if part in labels), None)


@contextmanager
def unpack_photos(source: Path) -> Iterator[Path]:
    """Provide photos in a folder: a folder as it is, a zip file unpacked, FER+'s test part drawn.

    Raises:
        CommandError: the file or folder can't be read.
    """
    labels = source / TEST_PART
    if source.is_dir() and not labels.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            if source.is_dir():
                with labels.open(encoding="utf-8", newline="") as file:
                    _write_faces(
                        csv.reader(file), lambda name: (labels.parent / name).read_bytes(), folder
                    )
            else:
                _unpack(source, folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise CommandError(
                f"can't read {source} ({error}); name a folder or a zip file of photos"
            ) from error
        yield folder


def _unpack(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as pack:
        inside = [name for name in pack.namelist() if name.endswith(TEST_PART)]
        if not inside:
            pack.extractall(folder)
            return
        part = inside[0].removesuffix("label.csv")
        with pack.open(inside[0]) as file:
            rows = csv.reader(TextIOWrapper(file, "utf-8", newline=""))
            _write_faces(rows, lambda name: pack.read(part + name), folder)


def _write_faces(rows: Iterator[list[str]], read: Callable[[str], bytes], folder: Path) -> None:
    """Make photos of the faces for which more than half of the people agree."""
    for name, _, *counts in rows:
        votes = dict(zip(VOTES, map(int, counts), strict=True))
        most = max(votes, key=lambda vote: votes[vote])
        if votes[most] * 2 <= sum(votes.values()) or most in NO_EXPRESSION:
            continue
        place = folder / LABEL_OF.get(most, NEITHER) / Path(name).with_suffix(".jpg").name
        place.parent.mkdir(exist_ok=True)
        with Image.open(BytesIO(read(name))) as face:
            large = face.convert("L").resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BICUBIC)
        ImageOps.expand(large, BORDER, GREY).save(place, quality=95)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
