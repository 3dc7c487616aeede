"""A folder for each class, full of photos: the data layout anyone can make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch.crop import crop, whole
from batch.decode import decode_bytes, read
from batch.errors import InputError
from batch.faces import Detector
from batch.records import Failure, Photo, Region
from trainer.data import Dataset, Framing, Part, Pixels

# A picture no larger than this on both sides (pixels) is a face crop already.
FACE_CROP_SIDE = 64
# Shares of all photos; the rest is for testing.
TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1
CREDIT = "Photos from the folders of whoever trained the model, who also knows their licence."

Finder = Callable[[Photo], Pixels | None]
LeftOut = tuple[str, str]


@dataclass(frozen=True)
class Sample:
    """A photo that can be learnt from; ``digest`` is the SHA-256 of its file's bytes."""

    path: str
    label: int
    digest: str
    pixels: Pixels


def load_folders(root: Path, framing: Framing) -> Dataset:
    """Read a folder whose sub-folders are the classes, each searched to any depth.

    A face sample is the photo's largest face, found and cut as the runner does it. The
    digest of a file's bytes alone decides its part (80 % train, 10 % validation, 10 %
    test), so more photos move none that were there. A file that can't be read, shows no
    face, repeats another, or lies in two classes is in ``left_out``.

    Raises:
        InputError: no such folder, fewer than two classes, or a class with no photo.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give a folder with a sub-folder a class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    labels = tuple(folder.name for folder in folders)
    if len(labels) < 2:
        raise InputError(
            f"{root} has {len(labels)} sub-folders, and each is a class",
            "make two or more, for example happy and sad",
        )
    files = [(path, n) for n, folder in enumerate(folders) for path in _files(folder)]
    samples, left_out = _read_all(root, files, framing)
    samples, repeated = _once(samples, labels)
    for n, folder in enumerate(folders):
        if not any(sample.label == n for sample in samples):
            raise InputError(f"{folder} has no usable photo", "add photos or remove the folder")
    return Dataset(
        name=root.resolve().name,
        labels=labels,
        framing=framing,
        train=_part(samples, "train", len(labels), framing),
        validation=_part(samples, "validation", len(labels), framing),
        test=_part(samples, "test", len(labels), framing),
        left_out=(*left_out, *repeated),
        credit=CREDIT,
    )


def split_of(digest: str) -> str:
    """Name the part that a file belongs to by the SHA-256 (hex) of its bytes."""
    at = int(digest[:16], 16) / 16**16
    if at < TRAIN_SHARE:
        return "train"
    return "validation" if at < TRAIN_SHARE + VALIDATION_SHARE else "test"


def _files(folder: Path) -> list[Path]:
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in inside
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _read_all(
    root: Path, files: Sequence[tuple[Path, int]], framing: Framing
) -> tuple[list[Sample], list[LeftOut]]:
    find = _finder(framing)

    def load(file: tuple[Path, int]) -> Sample | LeftOut:
        path, label = file
        name = path.relative_to(root).as_posix()
        data = read(path)
        photo = data if isinstance(data, Failure) else decode_bytes(path, data)
        if isinstance(data, Failure) or isinstance(photo, Failure):
            return name, photo.detail if isinstance(photo, Failure) else ""
        pixels = find(photo)
        if pixels is None:
            return name, "no face found"
        return Sample(name, label, hashlib.sha256(data).hexdigest(), pixels)

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(load, files))
    samples = [result for result in results if isinstance(result, Sample)]
    return samples, [result for result in results if not isinstance(result, Sample)]


def _finder(framing: Framing) -> Finder:
    side, channels = framing.side, framing.channels
    if framing.region is Region.IMAGE:
        return lambda photo: whole(photo, side, side, channels)
    detector = Detector()

    def find(photo: Photo) -> Pixels | None:
        if max(photo.width, photo.height) <= FACE_CROP_SIDE:
            return whole(photo, side, side, channels)
        boxes = detector.detect(photo)
        return crop(photo, boxes[0], framing.margin, side, side, channels) if boxes else None

    return find


def _once(samples: Iterable[Sample], labels: tuple[str, ...]) -> tuple[list[Sample], list[LeftOut]]:
    """Keep one of each photo, and none of those that lie in two classes."""
    same: dict[str, list[Sample]] = {}
    for sample in samples:
        same.setdefault(sample.digest, []).append(sample)
    kept: list[Sample] = []
    left_out: list[LeftOut] = []
    for group in same.values():
        classes = sorted({labels[sample.label] for sample in group})
        if len(classes) > 1:
            reason = f"the same photo is in {' and '.join(classes)}"
            left_out.extend((sample.path, reason) for sample in group)
        else:
            kept.append(group[0])
            left_out.extend((s.path, f"the same photo as {group[0].path}") for s in group[1:])
    return kept, left_out


def _part(samples: Sequence[Sample], split: str, classes: int, framing: Framing) -> Part:
    # By digest, so that a renamed file changes nothing of what is learnt.
    chosen = sorted((s for s in samples if split_of(s.digest) == split), key=lambda s: s.digest)
    shape = (len(chosen), framing.side, framing.side, framing.channels)
    pixels = np.stack([s.pixels for s in chosen]) if chosen else np.empty(shape, np.uint8)
    return Part(
        pixels=pixels,
        votes=np.eye(classes, dtype=np.float32)[[s.label for s in chosen]],
        certain=np.ones(len(chosen), dtype=np.bool_),
    )
