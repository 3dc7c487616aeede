"""Samples of labelled photo files: read, cropped, deduplicated and split into a data set."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batch.errors import InputError
from batch.path_text import path_text
from batch.reading.held_out import TRAIN_SHARE, place_digest
from batch.records import Failure, Photo, Region
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import Detector
from batch.vision.read_file import read_file_with_state
from trainer.datasets.crop_cache import Crop, CropCache
from trainer.datasets.dataset import Dataset, Framing, Pixels, Split
from trainer.datasets.duplicates import NEAR_REASON, OTHER_LABEL, drop_near_duplicates
from trainer.datasets.pixel_store import allocate_pixels

# A picture with both sides of at most this many pixels is treated as a face crop.
MAX_FACE_CROP_SIDE = 64
TRAIN, VALIDATION, TEST = SPLIT_NAMES = ("train", "validation", "test")
# Share of all photos, after TRAIN_SHARE; the rest is the test split.
VALIDATION_SHARE = 0.1
# A class of this many photos gets at least one validation and one test photo.
MIN_SPREAD = 5
OWN_PHOTOS_CREDIT = "Photos of the author of the model; their licence is not recorded."

# How the reasons of skipped copies begin.
CONFLICT_REASON, COPY_REASON = "the same photo is in", "the same photo as"
_NEAR_PATTERN = re.compile(
    rf"{NEAR_REASON} .* of the (\w+) split(, {OTHER_LABEL} .*)?", flags=re.DOTALL
)

logger = logging.getLogger(__name__)

Cropper = Callable[[Photo], Pixels | None]
# Name of a file, and the reason why it can't be used.
Skipped = tuple[str, str]


@dataclass(frozen=True)
class LabelledFile:
    """A photo file to read.

    Attributes:
        path: path of the file.
        name: name in messages.
        label: index of its class.
        split: train, validation or test; if empty, the group or else the file's bytes decide.
        choices: the splits among which they decide.
        weight: weight in the training loss.
        kind: kind of picture, for tables.
        group: group whose samples share a split and a fold; empty for none.
    """

    path: Path
    name: str
    label: int
    split: str = ""
    choices: tuple[str, ...] = SPLIT_NAMES
    weight: float = 1.0
    kind: str = ""
    group: str = ""


@dataclass(frozen=True)
class Sample:
    """A photo that was read and cropped.

    Attributes:
        name: name in messages.
        label: index of its class.
        split: train, validation or test.
        digest: SHA-256 of the file's bytes.
        pixels: uint8 [side, side, channels].
        weight: weight in the training loss.
        kind: kind of picture, for tables.
        group: group whose samples share a split and a fold; empty for none.
        choices: the splits that it may be moved to, see ``spread_classes``.
    """

    name: str
    label: int
    split: str
    digest: str
    pixels: Pixels
    weight: float = 1.0
    kind: str = ""
    group: str = ""
    choices: tuple[str, ...] = ()


def build_dataset(
    name: str,
    labels: tuple[str, ...],
    files: Sequence[LabelledFile],
    framing: Framing,
    skipped: Iterable[Skipped] = (),
    cache: Path | None = None,
) -> Dataset:
    """Read photos and build a data set of them.

    A face sample is the photo's largest face, detected and cropped as by the runner. Files are
    skipped that can't be read, show no face, are copies of another or are in two classes, as are
    near duplicates of held-out photos.

    Args:
        name: name of the data set.
        labels: its classes.
        files: the photos.
        framing: how photos are turned into samples.
        skipped: files that the caller has skipped already.
        cache: folder of the cache of crops; None for none.

    Raises:
        InputError: a class has no usable photo.
    """
    samples, unusable, cached = read_samples(files, framing, cache)
    if cached:
        logger.info(
            "%s photos taken from the cache of crops, %s decoded",
            f"{cached:,}",
            f"{len(files) - cached:,}",
        )
    samples, repeated = deduplicate(samples, labels)
    for n, label in enumerate(labels):
        if not any(sample.label == n for sample in samples):
            raise InputError(f"{label} in {name} has no usable photo", "add photos or remove it")
    samples = spread_classes(samples)
    # Sorted by digest, so that renaming a file does not change the training.
    samples.sort(key=lambda sample: sample.digest)
    split = {split: [s for s in samples if s.split == split] for split in SPLIT_NAMES}
    data = Dataset(
        name=name,
        labels=labels,
        framing=framing,
        train=build_split(split["train"], len(labels), framing),
        validation=build_split(split["validation"], len(labels), framing),
        test=build_split(split["test"], len(labels), framing),
        skipped=(*skipped, *unusable, *repeated),
        credit=OWN_PHOTOS_CREDIT,
    )
    return drop_near_duplicates(data)


def assign_split(digest: str, choices: Sequence[str] = SPLIT_NAMES) -> str:
    """Assign a split by a SHA-256 (hex), of a file's bytes or of a group's name.

    A split that is not among the choices is replaced by the training split.
    """
    at = place_digest(digest)
    split = TRAIN
    if at >= TRAIN_SHARE:
        split = VALIDATION if at < TRAIN_SHARE + VALIDATION_SHARE else TEST
    return split if split in choices else TRAIN


def spread_classes(samples: Sequence[Sample]) -> list[Sample]:
    """Move samples so that every class of at least ``MIN_SPREAD`` has validation and test samples.

    If a class has no test sample, the one with the highest digest becomes one; then the same for
    validation, from training. The digests also assign the splits, in the order train, validation,
    test. So if a photo is added, none moves from training to a held-out split, nor from test to
    training. A photo that is held out by its digest never moves to training: it may be in the
    random sample of a report, which measures models. Samples with a given split or a group count,
    but do not move.
    """
    splits = [sample.split for sample in samples]
    for label in sorted({sample.label for sample in samples}):
        members = [n for n, sample in enumerate(samples) if sample.label == label]
        if len(members) < MIN_SPREAD:
            continue
        for wanted in (TEST, VALIDATION):
            counts = Counter(splits[n] for n in members)
            movable = [
                n
                for n in members
                if wanted in samples[n].choices
                # Validation is filled again in the next step.
                and (counts[splits[n]] > 1 or (wanted, splits[n]) == (TEST, VALIDATION))
            ]
            if counts[wanted] or not movable:
                continue
            movable.sort(key=lambda n: (SPLIT_NAMES.index(splits[n]), samples[n].digest))
            from_train = [n for n in movable if splits[n] == TRAIN]
            if wanted == VALIDATION and from_train:
                movable = from_train
            splits[movable[-1]] = wanted
    return [
        sample if sample.split == split else replace(sample, split=split)
        for sample, split in zip(samples, splits, strict=True)
    ]


def format_file_cell(name: str) -> str:
    """Format the name of a sample's file as reports do; empty for a sample without a file."""
    return path_text(Path(name)) if name else ""


def generalise_reason(reason: str) -> str:
    """Remove the names of other files from the reason of a skipped file, to count reasons."""
    if reason.startswith(COPY_REASON):
        return f"{COPY_REASON} another"
    near = _NEAR_PATTERN.fullmatch(reason)
    if near:
        other = ", which has another label" if near[2] else ""
        return f"{NEAR_REASON} one of the {near[1]} split{other}"
    return reason


def hash_group(group: str) -> str:
    """Compute the SHA-256 (hex) of a group's name, which decides the split of its samples."""
    return hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest()


def read_samples(
    files: Sequence[LabelledFile], framing: Framing, cache: Path | None = None
) -> tuple[list[Sample], list[Skipped], int]:
    """Read and crop photos, in parallel; those that the cache knows are not decoded.

    Args:
        files: the photos.
        framing: how photos are turned into samples.
        cache: folder of the cache of crops; None for none.

    Returns:
        The samples, the files that can't be used with the reason, and how many photos were taken
        from the cache.
    """
    crop_photo = make_cropper(framing)
    rows = allocate_pixels((len(files), framing.side, framing.side, framing.channels))
    crops: list[Crop | str] = [""] * len(files)

    def load(n: int) -> tuple[bytes | None, Crop | str]:
        path = files[n].path
        read = read_file_with_state(path)
        if isinstance(read, Failure):
            return None, read.detail
        data, state = read
        photo = decode_bytes(path, data)
        if isinstance(photo, Failure):
            return None, photo.detail
        pixels = crop_photo(photo)
        if pixels is not None:
            rows[n] = pixels
        crop = Crop(hashlib.sha256(data).hexdigest(), None if pixels is None else rows[n])
        return known.make_key(path, state), crop

    with CropCache(cache, framing) as known, ThreadPoolExecutor() as pool:
        missing = []
        for n, key in enumerate(pool.map(known.make_key, [file.path for file in files])):
            crop = known.fetch(key)
            if crop is None:
                missing.append(n)
            elif crop.pixels is None:
                crops[n] = crop
            else:
                rows[n] = crop.pixels
                crops[n] = Crop(crop.digest, rows[n])
        for n, (key, result) in zip(missing, pool.map(load, missing), strict=True):
            crops[n] = result
            if key and isinstance(result, Crop):
                known.store(key, result)
    samples, skipped = [], []
    for file, result in zip(files, crops, strict=True):
        if isinstance(result, str):
            skipped.append((file.name, result))
        elif result.pixels is None:
            skipped.append((file.name, "no face found"))
        else:
            samples.append(_make_sample(file, result.digest, result.pixels))
    return samples, skipped, len(files) - len(missing)


def _make_sample(file: LabelledFile, digest: str, pixels: Pixels) -> Sample:
    decisive = hash_group(file.group) if file.group else digest
    return Sample(
        name=file.name,
        label=file.label,
        split=file.split or assign_split(decisive, file.choices),
        digest=digest,
        pixels=pixels,
        weight=file.weight,
        kind=file.kind,
        group=file.group,
        choices=() if file.split or file.group else file.choices,
    )


def make_cropper(framing: Framing) -> Cropper:
    """Make the function that turns a photo into the pixels of a sample; None without a face."""
    side, channels = framing.side, framing.channels
    if framing.region is Region.IMAGE:
        return lambda photo: resize_photo(photo, side, side, channels, framing.resize)
    detector = Detector()

    def crop_face(photo: Photo) -> Pixels | None:
        if max(photo.width, photo.height) <= MAX_FACE_CROP_SIDE:
            return resize_photo(photo, side, side, channels, framing.resize)
        boxes = detector.detect(photo)
        if not boxes:
            return None
        return crop(photo, boxes[0], framing.margin, side, side, channels, framing.resize)

    return crop_face


def deduplicate(
    samples: Iterable[Sample], labels: tuple[str, ...]
) -> tuple[list[Sample], list[Skipped]]:
    """Keep one copy of each photo, preferably a held-out one, and none if it is in two classes."""
    same: dict[str, list[Sample]] = {}
    for sample in samples:
        same.setdefault(sample.digest, []).append(sample)
    kept: list[Sample] = []
    skipped: list[Skipped] = []
    for group in same.values():
        classes = sorted({labels[sample.label] for sample in group})
        if len(classes) > 1:
            reason = f"{CONFLICT_REASON} {' and '.join(classes)}"
            skipped.extend((sample.name, reason) for sample in group)
        else:
            first = max(group, key=lambda sample: SPLIT_NAMES.index(sample.split))
            kept.append(first)
            reason = f"{COPY_REASON} {first.name}"
            skipped.extend((s.name, reason) for s in group if s is not first)
    return kept, skipped


def build_split(samples: Sequence[Sample], classes: int, framing: Framing) -> Split:
    """Build a split of samples; all votes for a sample are for its label."""
    shape = (len(samples), framing.side, framing.side, framing.channels)
    pixels = allocate_pixels(shape)
    for n, sample in enumerate(samples):
        pixels[n] = sample.pixels
    return Split(
        pixels=pixels,
        votes=np.eye(classes, dtype=np.float32)[[s.label for s in samples]],
        certain=np.ones(len(samples), dtype=np.bool_),
        weights=np.array([s.weight for s in samples], dtype=np.float32),
        kinds=np.array([s.kind for s in samples], dtype=np.str_),
        groups=np.array([s.group for s in samples], dtype=np.str_),
        names=np.array([s.name for s in samples], dtype=np.object_),
    )
