"""Data sets as the trainer sees them: pixels, votes and a fingerprint, split in three."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from batch.errors import InputError
from batch.records import ABSTAIN_OUTPUTS, Region

Pixels = npt.NDArray[np.uint8]
Votes = npt.NDArray[np.float32]
SampleWeights = npt.NDArray[np.float32]
Texts = npt.NDArray[np.str_]
Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        pixels: uint8 [n, side, side, channels].
        votes: float32 [n, classes]; each row sums to 1.
        certain: bool [n]; False if people did not agree on a class. Such samples are used for
            training, not for accuracy.
        weights: float32 [n]; how much a sample counts in the training loss, 1 by default.
        kinds: text [n]; what kind of picture it is, for tables. Empty by default.
        groups: text [n]; samples of one group, such as photos of one person, share a split and a
            fold. An empty text, the default, is no group.
    """

    pixels: Pixels
    votes: Votes
    certain: npt.NDArray[np.bool_]
    weights: SampleWeights = field(default_factory=lambda: np.empty(0, np.float32))
    kinds: Texts = field(default_factory=lambda: np.empty(0, np.str_))
    groups: Texts = field(default_factory=lambda: np.empty(0, np.str_))

    def __post_init__(self) -> None:
        count = len(self.pixels)
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(count, np.float32))
        for name in ("kinds", "groups"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(count, "", np.str_))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Index of the class with most votes, int64 [n]."""
        winners: npt.NDArray[np.int64] = self.votes.argmax(axis=1)
        return winners

    @property
    def normalised_weights(self) -> SampleWeights:
        """The weights, scaled so that their mean is 1: float32 [n]."""
        scaled: SampleWeights = (self.weights / self.weights.mean()).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Framing:
    """How a photo becomes a sample: a face cut out of it, or the whole of it.

    ``margin`` widens a face by that share of its side on each side; ``side`` is the
    sample's height and width in pixels; ``channels`` 1 is grey, 3 is RGB.
    """

    region: Region = Region.FACE
    margin: float = 0.0
    side: int = 48
    channels: int = 1


@dataclass(frozen=True)
class Dataset:
    """A labelled data set whose three parts share no sample.

    ``labels`` names the classes: first the labels, then those of ``abstain``, which are classes to
    learn like any other but no labels, ``neither`` before ``no_person``.
    ``skipped`` names what could not be used, each with the reason; ``credit`` is a
    sentence on who made the data and under which licence; ``warning``, where it is not
    empty, says why a model of these data is not to be relied on. ``pseudo_labelled`` are samples to
    learn from whatever part is learnt from, see ``pseudo_labelled``, and so are ``reviewed``; ``held``
    are reviewed samples that are never learnt from, see ``reviewed``. ``original_fingerprint`` is the
    fingerprint from before near duplicates were left out, where there were any.
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
        """The classes that are no labels, in the order of a model's abstain outputs."""
        return select_abstain_classes(self.labels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the labels and the pixels and votes of all that may be learnt from.

        Weights and groups count if there are any.
        """
        digest = hashlib.sha256("\0".join(self.labels).encode())
        parts = (self.train, self.validation, self.test, self.pseudo_labelled, self.reviewed)
        present = [part for part in parts if part is not None]
        for part in present:
            digest.update(str(len(part)).encode())
            digest.update(part.pixels.tobytes())
            digest.update(part.votes.tobytes())
        if any((part.weights != 1).any() for part in present):
            for part in present:
                digest.update(part.weights.astype(np.float32).tobytes())
        if any((part.groups != "").any() for part in present):
            for part in present:
                digest.update("\0".join(part.groups.tolist()).encode())
        return digest.hexdigest()

    def matches_fingerprint(self, fingerprint: str) -> bool:
        """Tell whether a training with that fingerprint saw these data.

        Trainings of release 0.1.0 saw them with their near duplicates.
        """
        return fingerprint in (self.fingerprint, self.original_fingerprint or self.fingerprint)

    def get_split(self, split: str) -> Split:
        """One part by its name, or ``all`` of them as one.

        Raises:
            InputError: that part is empty.
        """
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        chosen = concatenate(tuple(parts.values())) if split == "all" else parts[split]
        if not len(chosen):
            raise InputError(
                f"the {split} part of {self.name} is empty",
                "add photos: about a tenth of them goes to validation and a tenth to test",
            )
        return chosen


def select_abstain_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Those of a data set's classes that are no labels: ``neither`` and ``no_person``."""
    return tuple(name for name in ABSTAIN_OUTPUTS if name in labels)


def sort_classes(classes: Iterable[str]) -> tuple[str, ...]:
    """Sort the names of classes: labels by the alphabet, then ``neither`` and ``no_person``."""
    different = set(classes)
    abstain = select_abstain_classes(tuple(different))
    return (*sorted(different - set(abstain)), *abstain)


def concatenate(parts: tuple[Split, ...]) -> Split:
    """Put parts of one data set one after the other."""
    return Split(
        pixels=np.concatenate([part.pixels for part in parts]),
        votes=np.concatenate([part.votes for part in parts]),
        certain=np.concatenate([part.certain for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        kinds=np.concatenate([part.kinds for part in parts]),
        groups=np.concatenate([part.groups for part in parts]),
    )


def select_samples(part: Split, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Split:
    """Keep the chosen samples: bool [n], or their indices."""
    return Split(
        pixels=part.pixels[chosen],
        votes=part.votes[chosen],
        certain=part.certain[chosen],
        weights=part.weights[chosen],
        kinds=part.kinds[chosen],
        groups=part.groups[chosen],
    )


def keep_classes(part: Split, columns: tuple[int, ...]) -> Split:
    """Keep the samples whose winning class is among ``columns``, and only those classes."""
    kept = select_samples(part, np.isin(part.targets, columns))
    votes = kept.votes[:, list(columns)]
    return replace(kept, votes=votes / votes.sum(axis=1, keepdims=True))


def merge_classes(part: Split, groups: Groups, count: int) -> Split:
    """Join classes, and keep the samples whose winning class has a group.

    ``groups``: int64 [classes], the index of each class's group among ``count``, or -1 for none.
    The votes of a group are the sum of its classes' votes.
    """
    kept = select_samples(part, groups[part.targets] >= 0)
    votes = kept.votes @ membership_matrix(groups, count).T
    return replace(kept, votes=votes / votes.sum(axis=1, keepdims=True))


def membership_matrix(groups: Groups, count: int) -> Votes:
    """Which classes (columns) are in which group (rows): float32 [count, classes] of 0 and 1."""
    members: Votes = (np.arange(count)[:, None] == groups).astype(np.float32)
    return members


def compute_class_shares(part: Split) -> npt.NDArray[np.float64]:
    """Share of each class in the votes, by the samples' weights: float64 [classes]."""
    shares: npt.NDArray[np.float64] = (
        part.votes * part.normalised_weights[:, None].astype(np.float64)
    ).mean(axis=0)
    return shares


def compute_label_shares(part: Split, labels: tuple[str, ...]) -> dict[str, float]:
    """Share of each label among the samples people agreed on that show one, to 4 digits.

    ``labels`` are the first classes of ``get_split``; the others, which are no labels, don't count.
    """
    counts = np.bincount(part.targets[part.certain], minlength=len(labels))[: len(labels)]
    total = max(1, int(counts.sum()))
    return {
        label: round(float(count) / total, 4) for label, count in zip(labels, counts, strict=True)
    }


# The short names that models use for these classes.
LABEL_SYNONYMS = {"happy": "happiness", "sad": "sadness", "angry": "anger", "surprised": "surprise"}


def canonical_label(label: str) -> str:
    """Give the one name that a label and its synonyms share."""
    return LABEL_SYNONYMS.get(label, label)


def keep_agreed(part: Split) -> Split:
    """Keep the samples whose class people agreed on."""
    return select_samples(part, part.certain)
