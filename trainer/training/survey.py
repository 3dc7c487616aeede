"""Surveys photos before a training: do they show faces, and do the faces tell the labels?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from batch.records import Abstain, Failure, Region
from batch.vision.decode import read_size
from batch.vision.read_file import read_file
from trainer.datasets.dataset import Framing, Groups, Pixels
from trainer.datasets.duplicates import (
    compute_perceptual_hash,
    group_near_duplicates,
    merge_groups,
)
from trainer.datasets.samples import (
    MAX_FACE_CROP_SIDE,
    TEST,
    LabelledFile,
    Sample,
    deduplicate,
    read_samples,
    spread_classes,
)
from trainer.evaluation.out_of_fold import assign_folds
from trainer.training.config import Config
from trainer.training.defaults import (
    FACE_FRAMING,
    FACE_INIT,
    FACE_PROBE,
    PHOTO_PROBE,
    PHOTO_SIDE,
    PhotoSurvey,
)
from trainer.training.pretrained import (
    IMAGENET,
    build_network,
    initialise_network,
    read_init_widths,
)
from trainer.training.probe import compute_channel_means, fit_classifier, standardise_features

# Photos that are looked at, the same number of each class if there are enough.
MAX_PHOTOS = 200
FOLDS = 5
SEED = 1
PHOTO_FRAMING = Framing(Region.IMAGE, side=PHOTO_SIDE, channels=3)
# The smaller of the two EfficientNets tells the regions apart as well as the larger one.
SURVEY_NETWORK: Final = "efficientnet-lite0"

Mask = npt.NDArray[np.bool_]


def survey_photos(
    classes: Sequence[str], files: Sequence[LabelledFile], cache: Path | None = None
) -> PhotoSurvey:
    """Look at some photos of each class, and find out whether labels are about the faces.

    A probe of the largest faces and one of the whole photos are cross-validated on the same photos.
    Near duplicates and photos of a group share a fold, as in ``cross_validate``, and count as one.
    Test photos are not looked at: metrics must not be of photos that a choice was made on.
    Which of the others are looked at depends on the sizes of the files and, for equal sizes, on
    their names.

    Args:
        classes: the classes.
        files: the photos.
        cache: folder of the cache of crops; None for none.
    """
    if Abstain.NO_PERSON in classes:
        return PhotoSurvey(0, 0, has_no_person=True)
    chosen = _choose_files([file for file in files if file.split != TEST])
    found, *_ = read_samples(chosen, PHOTO_FRAMING, cache)
    faces_found, *_ = read_samples(chosen, FACE_FRAMING, cache)
    tested = _find_tested(found, classes) | _find_tested(faces_found, classes)
    found = [photo for photo in found if photo.digest not in tested]
    # Their order decides the folds; that of the files depends on all of them.
    found.sort(key=lambda photo: photo.digest)
    face_of = {face.name: face.pixels for face in faces_found}
    targets = np.array([photo.label for photo in found], np.int64)
    has_face = np.array([photo.name in face_of for photo in found], np.bool_)
    survey = PhotoSurvey(len(found), int(has_face.sum()))
    path_of = {file.name: file.path for file in chosen}
    if not survey.shows_faces or all(_is_face_crop(path_of[photo.name]) for photo in found):
        return survey
    blank = np.zeros((FACE_FRAMING.side, FACE_FRAMING.side, FACE_FRAMING.channels), np.uint8)
    faces = np.stack([face_of.get(photo.name, blank) for photo in found])
    photos = np.stack([photo.pixels for photo in found])
    from_faces = Config(init=FACE_INIT, widths=read_init_widths(FACE_INIT) or Config.widths)
    from_photos = Config(network=SURVEY_NETWORK, init=IMAGENET)
    copies = group_near_duplicates(compute_perceptual_hash(photos))
    groups = merge_groups(copies, np.array([photo.group for photo in found], np.str_))
    fold_of = assign_folds(groups, targets, FOLDS, SEED)
    by_face = has_face & _cross_validate_probe(faces, targets, fold_of, from_faces, FACE_PROBE)
    by_photo = _cross_validate_probe(photos, targets, fold_of, from_photos, PHOTO_PROBE)
    # Photos of a group depend on each other, so a group counts once, for the probe that is right
    # more often in it.
    gain = np.bincount(groups, by_face.astype(np.int64) - by_photo)
    return replace(survey, face_wins=int((gain > 0).sum()), photo_wins=int((gain < 0).sum()))


def _choose_files(files: Sequence[LabelledFile]) -> list[LabelledFile]:
    """Choose the same number of files of each class, all of a class that has fewer.

    If there are more classes than ``MAX_PHOTOS``, one file of each of the first classes is chosen.
    """
    by_class: dict[int, list[LabelledFile]] = {}
    for file in files:
        by_class.setdefault(file.label, []).append(file)
    share = -(-MAX_PHOTOS // max(1, len(by_class)))
    ranked = [
        (rank, label, file)
        for label in sorted(by_class)[:MAX_PHOTOS]
        for rank, file in enumerate(sorted(by_class[label], key=_size_order)[:share])
    ]
    ranked.sort(key=lambda entry: entry[:2])
    return [file for _, _, file in ranked[:MAX_PHOTOS]]


def _find_tested(samples: Sequence[Sample], classes: Sequence[str]) -> set[str]:
    """Find the digests of the samples that a training on such samples holds out for the test."""
    kept, _ = deduplicate(samples, tuple(classes))
    return {sample.digest for sample in spread_classes(kept) if sample.split == TEST}


def _size_order(file: LabelledFile) -> tuple[str, str]:
    try:
        size = file.path.stat().st_size
    except OSError:  # the loader says which files can't be read
        size = -1
    return hashlib.sha256(str(size).encode()).hexdigest(), file.name


def _is_face_crop(path: Path) -> bool:
    """Return whether a picture is so small that it is taken for a crop of a face."""
    data = read_file(path)
    size = data if isinstance(data, Failure) else read_size(path, data)
    return not isinstance(size, Failure) and max(size) <= MAX_FACE_CROP_SIDE


def _cross_validate_probe(
    pixels: Pixels, targets: npt.NDArray[np.int64], fold_of: Groups, config: Config, decay: float
) -> Mask:
    """Tell which samples a probe labels right that was fitted to the other folds: bool [n]."""
    classes = int(targets.max()) + 1
    network = build_network(config, classes, pixels.shape[3])
    initialise_network(network, config.init)
    means = compute_channel_means(network.eval(), pixels)
    votes = torch.eye(classes)[torch.from_numpy(targets)]
    right = np.zeros(len(targets), np.bool_)
    for fold in range(int(fold_of.max()) + 1):
        others, held_out = (torch.from_numpy(m) for m in (fold_of != fold, fold_of == fold))
        if not others.any():
            continue
        fit_classifier(network, means[others], votes[others], decay)
        with torch.inference_mode():
            answers = network.classifier(standardise_features(network, means[held_out]))
        right[fold_of == fold] = answers.argmax(1).numpy() == targets[fold_of == fold]
    return right
