"""Data sets: pixels and votes in three splits, with a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from batch.errors import InputError
from batch.models.model import ResizeRule
from batch.records import ABSTAIN_OUTPUTS, Region
from trainer.datasets.pixel_store import Pixels as Pixels
from trainer.datasets.pixel_store import join_pixels, select_pixels

Votes = npt.NDArray[np.float32]
SampleWeights = npt.NDArray[np.float32]
Texts = npt.NDArray[np.str_]
Names = npt.NDArray[np.object_]
Groups = npt.NDArray[np.int64]

REGION_NAMES = {Region.FACE: "faces", Region.IMAGE: "whole photos"}
# Short names that models use for classes of FER+.
LABEL_SYNONYMS = {"happy": "happiness", "sad": "sadness", "angry": "anger", "surprised": "surprise"}


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        pixels: uint8 [n, side, side, channels].
        votes: float32 [n, classes]; each row sums to 1.
        certain: bool [n]; False if people did not agree on a class. Such samples count in the
            loss, not in the accuracy.
        weights: float32 [n]; weight of each sample in the training loss, 1 by default.
        kinds: text [n]; kind of each picture, for tables; empty by default.
        groups: text [n]; group of each sample, empty by default for no group. Samples of a group,
            such as photos of one person, share a split and a fold.
        names: text [n]; the file of each sample, relative to the data; empty by default if there
            is none.
    """

    pixels: Pixels
    votes: Votes
    certain: npt.NDArray[np.bool_]
    weights: SampleWeights = field(default_factory=lambda: np.empty(0, np.float32))
    kinds: Texts = field(default_factory=lambda: np.empty(0, np.str_))
    groups: Texts = field(default_factory=lambda: np.empty(0, np.str_))
    # As objects: names can be long, and an array of texts takes the longest one's space for each.
    names: Names = field(default_factory=lambda: np.empty(0, np.object_))

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(count, np.float32))
        for name in ("kinds", "groups"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(count, "", np.str_))
        if not len(self.names):
            object.__setattr__(self, "names", np.full(count, "", np.object_))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Index of the class with the most votes, int64 [n]."""
        winners: npt.NDArray[np.int64] = self.votes.argmax(axis=1)
        return winners

    @property
    def normalised_weights(self) -> SampleWeights:
        """Weights scaled to a mean of 1, float32 [n]."""
        scaled: SampleWeights = (self.weights / self.weights.mean()).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Framing:
    """How a photo is turned into a sample.

    Attributes:
        region: the largest face, or the whole photo.
        margin: the margin on each side of a face, as a share of the face's side.
        side: height and width of a sample, in pixels.
        channels: 1 for grey, 3 for RGB.
        resize: how a face's square or a photo is resized to a sample, see ``ResizeRule``.
    """

    region: Region = Region.FACE
    margin: float = 0.0
    side: int = 48
    channels: int = 1
    resize: str = ResizeRule.STRETCH.value

    def describe(self) -> str:
        """Describe the samples: ``faces, 48 x 48 pixels, grey``."""
        parts = (
            REGION_NAMES[self.region],
            f"{self.side} x {self.side} pixels",
            "grey" if self.channels == 1 else "RGB",
            f"margin {self.margin:g}" if self.margin else "",
        )
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Dataset:
    """A labelled data set whose three splits share no sample.

    Attributes:
        name: name of the data set.
        labels: the classes: first the labels, then the abstain classes.
        framing: how photos are turned into samples.
        train: samples to train on.
        validation: held-out samples to choose temperature and thresholds on.
        test: held-out samples to evaluate on.
        skipped: files that can't be used, each with the reason.
        credit: a sentence on the authors and the licence of the data.
        warning: why a model trained on these data must not be used; empty if it may.
        original_fingerprint: the fingerprint before near duplicates were skipped; empty if there
            were none.
        pseudo_labelled: training-only samples that a model has labelled.
        reviewed: training-only samples that people have reviewed.
        held: reviewed samples that are held out.
    """

    name: str
    labels: tuple[str, ...]
    framing: Framing
    train: Split
    validation: Split
    test: Split
    skipped: tuple[tuple[str, str], ...] = ()
    credit: str = ""
    warning: str = ""
    original_fingerprint: str = ""
    pseudo_labelled: Split | None = None
    reviewed: Split | None = None
    held: Split | None = None

    @property
    def abstain(self) -> tuple[str, ...]:
        """Abstain classes, in the order of a model's abstain outputs."""
        return select_abstain_classes(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the labels, and over the pixels and votes of all splits.

        Training-only samples, weights and groups are included if there are any.
        """
        digest = hashlib.sha256("\0".join(self.labels).encode())
        parts = (self.train, self.validation, self.test, self.pseudo_labelled, self.reviewed)
        present = [part for part in parts if part is not None]
        for part in present:
            digest.update(str(len(part)).encode())
            digest.update(part.pixels.reshape(-1).data)
            digest.update(part.votes.tobytes())
        if any((part.weights != 1).any() for part in present):
            for part in present:
                digest.update(part.weights.astype(np.float32).tobytes())
        if any((part.groups != "").any() for part in present):
            for part in present:
                digest.update("\0".join(part.groups.tolist()).encode())
        return digest.hexdigest()

    def matches_fingerprint(self, fingerprint: str) -> bool:
        """Tell whether a training run with this fingerprint used these data.

        Runs of release 0.1.0 also used the near duplicates, which are in their fingerprint.
        """
        return fingerprint in (self.fingerprint, self.original_fingerprint or self.fingerprint)

    def get_split(self, split: str) -> Split:
        """Return a split by its name, or the three splits as one for ``all``.

        Raises:
            InputError: the split is empty.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        chosen = concatenate(tuple(parts.values())) if split == "all" else parts[split]
        if not len(chosen):
            raise InputError(
                f"the {split} split of {self.name} is empty",
                "add photos: about a tenth of them goes to validation and a tenth to test",
            )
        return chosen


def select_abstain_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Select the abstain classes of a data set: ``neither`` and ``no_person``."""
    return tuple(name for name in ABSTAIN_OUTPUTS if name in labels)


def sort_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Sort classes: labels in alphabetical order, then ``neither`` and ``no_person``."""
    different = set(classes)
    abstain = select_abstain_classes(tuple(different))
    return (*sorted(different - set(abstain)), *abstain)


def concatenate(parts: tuple[Split, ...]) -> Split:
    """Concatenate splits of one data set."""
    return Split(
        pixels=join_pixels([part.pixels for part in parts]),
        votes=np.concatenate([part.votes for part in parts]),
        certain=np.concatenate([part.certain for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        kinds=np.concatenate([part.kinds for part in parts]),
        groups=np.concatenate([part.groups for part in parts]),
        names=np.concatenate([part.names for part in parts]),
    )


def select_samples(part: Split, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Split:
    """Select samples by a mask, bool [n], or by their indices."""
    return Split(
        pixels=select_pixels(part.pixels, chosen),
        votes=part.votes[chosen],
        certain=part.certain[chosen],
        weights=part.weights[chosen],
        kinds=part.kinds[chosen],
        groups=part.groups[chosen],
        names=part.names[chosen],
    )


def keep_agreed(part: Split) -> Split:
    """Keep the samples with an agreed class, those that are ``certain``."""
    return select_samples(part, part.certain)


def keep_classes(part: Split, columns: tuple[int, ...]) -> Split:
    """Keep the samples whose winning class is among ``columns``, and only those classes."""
    kept = select_samples(part, np.isin(part.targets, columns))
    votes = kept.votes[:, list(columns)]
    return replace(kept, votes=votes / votes.sum(axis=1, keepdims=True))


def merge_classes(part: Split, groups: Groups, count: int) -> Split:
    """Merge classes into groups, and keep the samples whose winning class has a group.

    The votes of a group are the sum of its classes' votes.

    Args:
        part: the samples.
        groups: index of each class's group, -1 for none: int64 [classes].
        count: number of groups.
    """
    kept = select_samples(part, groups[part.targets] >= 0)
    votes = kept.votes @ build_membership_matrix(groups, count).T
    return replace(kept, votes=votes / votes.sum(axis=1, keepdims=True))


def build_membership_matrix(groups: Groups, count: int) -> Votes:
    """Build the matrix that is 1 if a class (column) is in a group (row), else 0: float32."""
    members: Votes = (np.arange(count)[:, None] == groups).astype(np.float32)
    return members


def compute_class_shares(part: Split) -> npt.NDArray[np.float64]:
    """Compute the share of each class in the weighted votes: float64 [classes]."""
    shares: npt.NDArray[np.float64] = (
        part.votes * part.normalised_weights[:, None].astype(np.float64)
    ).mean(axis=0)
    return shares


def compute_label_shares(part: Split, labels: tuple[str, ...]) -> dict[str, float]:
    """Compute the share of each label among the certain samples of a label, to 4 digits.

    Args:
        part: the samples, whose first classes are the labels.
        labels: the labels, without the abstain classes.
    """
    counts = np.bincount(part.targets[part.certain], minlength=len(labels))[: len(labels)]
    total = max(1, int(counts.sum()))
    return {
        label: round(float(count) / total, 4) for label, count in zip(labels, counts, strict=True)
    }


def canonical_label(label: str) -> str:
    """Return the name that a label and its synonyms share."""
    return LABEL_SYNONYMS.get(label, label)
