"""How a face model's and a whole-photo model's answers become one.

Logistic regression on both (Platt 1999), of the first label against the second:

    log-odds = bias + face * face_log_odds + photo * photo_log_odds

where a photo without a face has ``face_log_odds`` 0. Log-odds are cut off at ``limit``:
beyond it lies more certainty than the photos behind these numbers can prove. Beside a face the
photo's are cut off at ``photo_limit``, for what surrounds a face, and the light on it, must not
outweigh it; and a face whose own log-odds reach ``alone`` answers alone. With ``photo`` 0
nothing is mixed: the face answers where there is one, and the whole photo where there is none.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import numpy as np

from batch.records import Probabilities

# Keeps the log-odds of a probability of 0 or 1 finite.
LEAST = 1e-6
# And this the exponential of log-odds, whatever weights a model carries.
LARGEST = 700.0


@dataclass(frozen=True)
class Fusion:
    """The numbers of the formula, fitted for the face model called ``face_model``.

    An answer less likely than ``unsure_below`` (0 to 1) is unsure. ``photo_limit`` None is
    ``limit``; with ``alone`` None no face answers alone.
    """

    face_model: str
    bias: float
    face: float
    photo: float
    limit: float
    unsure_below: float
    photo_limit: float | None = None
    alone: float | None = None

    @property
    def face_first(self) -> bool:
        """Whether the whole photo is asked only where there is no face."""
        return self.photo == 0

    def answers_alone(self, face: Probabilities) -> bool:
        """Whether a face's probabilities, float32 [2], need no look at the whole photo."""
        if self.face_first:
            return True
        return self.alone is not None and abs(log_odds(float(face[0]))) >= self.alone

    def fuse(self, face: Probabilities | None, photo: Probabilities) -> Probabilities:
        """Join the two labels' probabilities, float32 [2]; ``face`` is None without a face."""
        if face is not None and self.answers_alone(face):
            return face
        if self.face_first:
            return photo
        photo_limit = self.limit if face is None else self.photo_limit or self.limit
        odds = self.bias + self.photo * _held(photo, photo_limit)
        if face is not None:
            odds += self.face * _held(face, self.limit)
        first = 1 / (1 + math.exp(min(-odds, LARGEST)))
        return np.asarray([first, 1 - first], dtype=np.float32)


def _held(probabilities: Probabilities, limit: float) -> float:
    return min(max(log_odds(float(probabilities[0])), -limit), limit)


def log_odds(probability: float) -> float:
    """Turn a probability into log-odds, finite for 0 and 1 too."""
    inside = min(max(probability, LEAST), 1 - LEAST)
    return math.log(inside / (1 - inside))


def pack_fusion(fusion: Fusion) -> str:
    """Write a fusion as the text of a model's metadata."""
    return json.dumps(asdict(fusion))


def unpack_fusion(text: str) -> Fusion:
    """Read a fusion from the text of a model's metadata.

    Raises:
        ValueError, TypeError, OverflowError: the text is not what ``pack_fusion`` writes.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("the fusion is no table")
    fusion = Fusion(**values)
    numbers = tuple(value for name, value in values.items() if name != "face_model")
    needed = [n for n in numbers if n is not None]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in needed):
        raise ValueError(f"fusion with {numbers}")
    limits = [n for n in (fusion.limit, fusion.photo_limit, fusion.alone) if n is not None]
    if not (all(0 < n <= 100 for n in limits) and 0 <= fusion.unsure_below <= 1):
        raise ValueError(f"fusion with limits {limits}, unsure_below {fusion.unsure_below}")
    return fusion
