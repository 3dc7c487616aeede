"""Photos dealt out to what a first model learns from, what it labels, and what it is judged by."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

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

PARTS = 5
SETTINGS = Path("configs/people.toml")
FRAMING = Framing(Region.IMAGE, side=160, channels=3)


@dataclass(frozen=True)
class LoopSplit:
    """Indices of photos: of the data, of the night, and of those to judge by."""

    data: Targets
    night: Targets
    judged: Targets


class LabelledPhotos:
    """Labelled photos as a whole-photo network's features see them, the same in every fit."""

    def __init__(self, people: Path) -> None:
        part, config = load_folders(people, FRAMING).get_split("all"), load_config(SETTINGS)
        network = build_network(config, part.votes.shape[1], FRAMING.channels)
        initialise_network(network, config.init)
        assert isinstance(network, PhotoNet)
        self._network, self._decay = network.eval(), config.probe
        sides = (part.pixels, part.pixels[:, :, ::-1])
        self._means = [compute_channel_means(network, pixels) for pixels in sides]
        self.votes, self.targets = part.votes, part.targets
        self.groups = group_near_duplicates(compute_perceptual_hash(part.pixels))
        self.has_face = _have_faces(people, part.pixels)

    def fit_network(self, learn: Targets) -> tuple[PhotoNet, LinearHead]:
        """Fit a network to some photos as ``trainer train`` does with these settings."""
        network = copy.deepcopy(self._network)
        votes = torch.from_numpy(self.votes[learn]).repeat(2, 1)
        fit_classifier(
            network, torch.cat([means[learn] for means in self._means]), votes, self._decay
        )
        weight, bias = (value.detach().numpy() for value in network.classifier.parameters())
        return network, LinearHead(weight, bias, seen="", names=("", ""))

    def input_name(self, network: PhotoNet, where: Targets, mirrored: bool = False) -> Floats:
        """Give what a network's classifier sees of photos: float32 [n, D]."""
        seen: Floats = standardise_features(network, self._means[mirrored][where]).numpy()
        return seen


def split_alike(photos: LabelledPhotos, seeds: Sequence[int]) -> Iterator[LoopSplit]:
    """Deal photos out to parts, and let each be judged by in its turn."""
    for seed in seeds:
        dealt = assign_folds(photos.groups, photos.targets, PARTS, seed)
        for turn in range(PARTS):
            test, *others = (np.flatnonzero(dealt == (turn + k) % PARTS) for k in range(PARTS))
            yield LoopSplit(np.concatenate(others[:2]), np.concatenate(others[2:]), test)


def split_by_face(
    photos: LabelledPhotos, seeds: Sequence[int], faces_first: bool
) -> Iterator[LoopSplit]:
    """Let the data be photos with a face and the nights those without, or the other way round."""
    data = np.flatnonzero(photos.has_face == faces_first)
    apart = ~np.isin(photos.groups, photos.groups[data]) & (photos.has_face != faces_first)
    others = np.flatnonzero(apart)
    for seed in seeds:
        dealt = assign_folds(photos.groups[others], photos.targets[others], 2, seed)
        for half in range(2):
            yield LoopSplit(data, others[dealt == half], others[dealt != half])


def _have_faces(people: Path, pixels: Pixels) -> npt.NDArray[np.bool_]:
    detector, have = Detector(), set()
    for path in people.rglob("*"):
        photo = decode(path)
        if not isinstance(photo, Failure) and detector.detect(photo):
            have.add(name_sample(resize_photo(photo, FRAMING.side, FRAMING.side, FRAMING.channels)))
    return np.array([name_sample(sample) in have for sample in pixels])
