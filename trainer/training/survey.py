"""Surveys photos before a training: do they show faces, and do the faces tell the labels?"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from batch.records import Abstain, Failure, Region
from batch.vision.decode import decode_bytes
from batch.vision.read_file import read_file
from trainer.datasets.dataset import Framing, Groups, Pixels
from trainer.datasets.duplicates import (
    compute_perceptual_hash,
    group_near_duplicates,
    merge_groups,
)
from trainer.datasets.samples import MAX_FACE_CROP_SIDE, Cropper, LabelledFile, make_cropper
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


@dataclass(frozen=True)
class _SurveyedPhoto:
    """A photo that was looked at.

    Attributes:
        label: index of its class.
        photo: the whole photo, uint8 [side, side, 3].
        face: its largest face, uint8 [side, side, 1]; None without a face.
        is_face_crop: whether the picture is so small that it is taken for a crop of a face.
        group: group whose photos share a fold; empty for none.
    """

    label: int
    photo: Pixels
    face: Pixels | None
    is_face_crop: bool
    group: str


def survey_photos(classes: Sequence[str], files: Sequence[LabelledFile]) -> PhotoSurvey:
    """Look at some photos of each class, and find out whether labels are about the faces.

    A probe of the largest faces and one of the whole photos are cross-validated on the same photos.
    Near duplicates and photos of a group share a fold, as in ``cross_validate``.
    Which photos are looked at depends on the sizes of the files and, for equal sizes, on their
    names.

    Args:
        classes: the classes.
        files: the photos.
    """
    if Abstain.NO_PERSON in classes:
        return PhotoSurvey(0, 0, has_no_person=True)
    with ThreadPoolExecutor() as pool:
        crop_face, resize = make_cropper(FACE_FRAMING), make_cropper(PHOTO_FRAMING)
        seen = pool.map(lambda file: _look_at(file, crop_face, resize), _choose_files(files))
        found = [photo for photo in seen if photo is not None]
    targets = np.array([photo.label for photo in found], np.int64)
    has_face = np.array([photo.face is not None for photo in found], np.bool_)
    survey = PhotoSurvey(len(found), int(has_face.sum()))
    if not survey.shows_faces or all(photo.is_face_crop for photo in found):
        return survey
    blank = np.zeros((FACE_FRAMING.side, FACE_FRAMING.side, FACE_FRAMING.channels), np.uint8)
    faces = np.stack([blank if photo.face is None else photo.face for photo in found])
    photos = np.stack([photo.photo for photo in found])
    from_faces = Config(init=FACE_INIT, widths=read_init_widths(FACE_INIT) or Config.widths)
    from_photos = Config(network=SURVEY_NETWORK, init=IMAGENET)
    copies = group_near_duplicates(compute_perceptual_hash(photos))
    groups = merge_groups(copies, np.array([photo.group for photo in found], np.str_))
    fold_of = assign_folds(groups, targets, FOLDS, SEED)
    by_face = has_face & _cross_validate_probe(faces, targets, fold_of, from_faces, FACE_PROBE)
    by_photo = _cross_validate_probe(photos, targets, fold_of, from_photos, PHOTO_PROBE)
    return replace(
        survey,
        face_wins=int((by_face & ~by_photo).sum()),
        photo_wins=int((by_photo & ~by_face).sum()),
    )


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


def _size_order(file: LabelledFile) -> tuple[str, str]:
    try:
        size = file.path.stat().st_size
    except OSError:  # the loader says which files can't be read
        size = -1
    return hashlib.sha256(str(size).encode()).hexdigest(), file.name


def _look_at(file: LabelledFile, crop_face: Cropper, resize: Cropper) -> _SurveyedPhoto | None:
    """Read a photo and find its largest face; None if it can't be read."""
    data = read_file(file.path)
    photo = data if isinstance(data, Failure) else decode_bytes(file.path, data)
    if isinstance(photo, Failure):
        return None
    whole = resize(photo)
    assert whole is not None, "only a face can be missing"
    is_face_crop = max(photo.width, photo.height) <= MAX_FACE_CROP_SIDE
    return _SurveyedPhoto(file.label, whole, crop_face(photo), is_face_crop, file.group)


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
