"""Data sets as the trainer sees them: pixels, votes and a fingerprint, split in three."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Votes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """One split of a data set.

    ``pixels``: uint8 [n, side, side, channels]. ``votes``: float32 [n, classes], each
    row sums to 1. ``certain``: bool [n], False where people did not agree on a class;
    such samples may teach but are left out of accuracy.
    """

    pixels: Pixels
    votes: Votes
    certain: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Index of the class with most votes, int64 [n]."""
        winners: npt.NDArray[np.int64] = self.votes.argmax(axis=1)
        return winners


@dataclass(frozen=True)
class Dataset:
    """A labelled data set whose three parts share no sample.

    ``region`` says what a sample shows (``face`` or ``image``), ``left_out`` names the
    files that could not be used, each with the reason, and ``fingerprint`` is a digest
    of all pixels and votes.
    """

    name: str
    labels: tuple[str, ...]
    region: str
    train: Part
    validation: Part
    test: Part
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the labels and over every part's pixels and votes."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for part in (self.train, self.validation, self.test):
            digest.update(str(len(part)).encode())
            digest.update(part.pixels.tobytes())
            digest.update(part.votes.tobytes())
        return digest.hexdigest()

    def label_shares(self) -> dict[str, float]:
        """Share of each label among the training samples people agreed on."""
        targets = self.train.targets[self.train.certain]
        counts = np.bincount(targets, minlength=len(self.labels))
        return {
            label: round(float(count) / max(1, len(targets)), 4)
            for label, count in zip(self.labels, counts, strict=True)
        }


def narrow(part: Part, columns: tuple[int, ...]) -> Part:
    """Keep the samples whose winning class is among ``columns``, and only those classes."""
    keep = np.isin(part.targets, columns)
    votes = part.votes[keep][:, list(columns)]
    return Part(
        pixels=part.pixels[keep],
        votes=votes / votes.sum(axis=1, keepdims=True),
        certain=part.certain[keep],
    )
