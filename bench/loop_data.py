"""Photos for ``bench.loop``: their features, and splits into training, incoming and evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance

from batch.page.thumbnails import compute_colours
from batch.records import Failure, Region
from batch.vision.crop import resize_photo
from batch.vision.decode import decode
from batch.vision.faces import Detector
from trainer.datasets.dataset import Framing, Pixels
from trainer.datasets.duplicates import compute_perceptual_hash, group_near_duplicates
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.metrics import Targets
from trainer.evaluation.out_of_fold import assign_folds, name_sample
from trainer.exporting.linear_head import Floats, LinearHead
from trainer.networks import PhotoNet
from trainer.training.config import load_config
from trainer.training.pretrained import build_network, initialise_network
from trainer.training.probe import compute_channel_means, fit_classifier, standardise_features

FOLDS = 5
FURTHER_SHOTS = 3
SETTINGS = Path(__file__).resolve().parent.parent / "configs" / "people.toml"
FRAMING = Framing(Region.IMAGE, side=160, channels=3)


@dataclass(frozen=True)
class LoopSplit:
    """Indices of the photos of each part of a split.

    Attributes:
        train: the photos that the first model is trained on.
        incoming: the photos that it labels, some of which are reviewed.
        evaluation: the photos that it is evaluated on.
    """

    train: Targets
    incoming: Targets
    evaluation: Targets


class LabelledPhotos:
    """Labelled photos and their features in the whole-photo network, computed once for all fits.

    Attributes:
        votes: float32 [n, 2], 1 for the label of the photo.
        targets: int64 [n], the label of each photo.
        groups: int64 [n], equal for near duplicates.
        has_face: bool [n], whether the detector finds a face.
        colours: float32 [n, 192], mean colours of the fields of an 8 x 8 grid, 0 to 255.
        is_first: bool [n], False for the further shots of a series.

    Args:
        people: folder with a sub-folder of photos for each label.
        series_share: share of the photos that get ``FURTHER_SHOTS`` similar ones.
    """

    def __init__(self, people: Path, series_share: float = 0.0) -> None:
        part, config = load_folders(people, FRAMING).get_split("all"), load_config(SETTINGS)
        network = build_network(config, part.votes.shape[1], FRAMING.channels)
        initialise_network(network, config.init)
        assert isinstance(network, PhotoNet)
        self._network, self._decay = network.eval(), config.probe
        rng, count = np.random.default_rng(1), len(part.pixels)
        has_series = np.flatnonzero(rng.random(count) < series_share)
        # The photo of each shot.
        shots = np.concatenate([np.arange(count), np.repeat(has_series, FURTHER_SHOTS)])
        further = [_move_camera(part.pixels[photo], rng) for photo in shots[count:]]
        pixels = np.concatenate([part.pixels, np.stack(further)]) if further else part.pixels
        sides = (pixels, pixels[:, :, ::-1])
        self._means = [compute_channel_means(network, side) for side in sides]
        self.votes, self.targets = part.votes[shots], part.targets[shots]
        self.groups = group_near_duplicates(compute_perceptual_hash(part.pixels))[shots]
        self.has_face = _detect_faces(people, part.pixels)[shots]
        colours = b"".join(compute_colours(Image.fromarray(shot)) for shot in pixels)
        self.colours = np.frombuffer(colours, np.uint8).reshape(len(pixels), -1).astype(np.float32)
        self.is_first = np.arange(len(shots)) < count

    def fit_network(self, learn: Targets) -> tuple[PhotoNet, LinearHead]:
        """Fit a network to the photos at some indices, as ``trainer train`` does."""
        network = copy.deepcopy(self._network)
        votes = torch.from_numpy(self.votes[learn]).repeat(2, 1)
        fit_classifier(
            network, torch.cat([means[learn] for means in self._means]), votes, self._decay
        )
        weight, bias = (value.detach().numpy() for value in network.classifier.parameters())
        return network, LinearHead(weight, bias, input_name="", names=("", ""))

    def compute_features(
        self, network: PhotoNet, indices: Targets, mirrored: bool = False
    ) -> Floats:
        """Compute the input of a network's classifier for some photos: float32 [n, D]."""
        features: Floats = standardise_features(network, self._means[mirrored][indices]).numpy()
        return features


def split_alike(photos: LabelledPhotos, seeds: Sequence[int]) -> Iterator[LoopSplit]:
    """Split photos into parts of the same kind; each fold is the evaluation part once per seed."""
    for seed in seeds:
        folds = assign_folds(photos.groups, photos.targets, FOLDS, seed)
        for turn in range(FOLDS):
            test, *others = (np.flatnonzero(folds == (turn + k) % FOLDS) for k in range(FOLDS))
            yield LoopSplit(np.concatenate(others[:2]), np.concatenate(others[2:]), test)


def split_by_face(
    photos: LabelledPhotos, seeds: Sequence[int], faces_first: bool
) -> Iterator[LoopSplit]:
    """Train on the photos with a face and use the others after that, or the other way round."""
    train = np.flatnonzero(photos.has_face == faces_first)
    apart = ~np.isin(photos.groups, photos.groups[train]) & (photos.has_face != faces_first)
    others = np.flatnonzero(apart)
    for seed in seeds:
        folds = assign_folds(photos.groups[others], photos.targets[others], 2, seed)
        for half in range(2):
            yield LoopSplit(train, others[folds == half], others[folds != half])


def split_with_new_kind(photos: LabelledPhotos, seeds: Sequence[int]) -> Iterator[LoopSplit]:
    """Train on photos with a face; a half of those without is incoming, the rest evaluated.

    The photos with a face are dealt into a part to train on, an incoming and an evaluated one.
    """
    with_face, without = np.flatnonzero(photos.has_face), np.flatnonzero(~photos.has_face)
    without = without[~np.isin(photos.groups[without], photos.groups[with_face])]
    for seed in seeds:
        known = assign_folds(photos.groups[with_face], photos.targets[with_face], 3, seed)
        new = assign_folds(photos.groups[without], photos.targets[without], 2, seed)
        for turn in range(3):
            train, incoming, evaluation = (with_face[known == (turn + k) % 3] for k in range(3))
            yield LoopSplit(
                train,
                np.concatenate([incoming, without[new == turn % 2]]),
                np.concatenate([evaluation, without[new != turn % 2]]),
            )


def split_series(photos: LabelledPhotos, seeds: Sequence[int]) -> Iterator[LoopSplit]:
    """Split as ``split_alike`` does; only first shots of series are trained on and evaluated."""
    for split in split_alike(photos, seeds):
        train, evaluation = (
            part[photos.is_first[part]] for part in (split.train, split.evaluation)
        )
        yield LoopSplit(train, split.incoming, evaluation)


def _move_camera(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make another shot of a photo, uint8 [H, W, C]: each side cut, and the brightness changed."""
    image = Image.fromarray(pixels)
    left, top, right, bottom = rng.uniform(0, 0.06, 4)
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    moved = image.resize(image.size, Image.Resampling.BILINEAR, box)
    return np.asarray(ImageEnhance.Brightness(moved).enhance(rng.uniform(0.92, 1.08)))


def _detect_faces(people: Path, pixels: Pixels) -> npt.NDArray[np.bool_]:
    detector, with_face = Detector(), set()
    for path in people.rglob("*"):
        photo = decode(path)
        if not isinstance(photo, Failure) and detector.detect(photo):
            with_face.add(
                name_sample(resize_photo(photo, FRAMING.side, FRAMING.side, FRAMING.channels))
            )
    return np.array([name_sample(sample) in with_face for sample in pixels])
