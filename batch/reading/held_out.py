"""Which photos are held out: by the SHA-256 of their bytes, so that the choice never changes."""

from __future__ import annotations

# Share of all photos that are for training; the others are held out.
TRAIN_SHARE = 0.8
_DIGITS = 16  # of a digest that decide; a double has fewer


def place_digest(sha256: str) -> float:
    """Return the place of a SHA-256, in hexadecimal, among all: 0 to 1, uniformly distributed."""
    return int(sha256[:_DIGITS], 16) / 2.0 ** (4 * _DIGITS)


def is_held_out(sha256: str) -> bool:
    """Return whether the photo with this SHA-256, in hexadecimal, is never trained on."""
    return place_digest(sha256) >= TRAIN_SHARE
