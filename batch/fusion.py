"""How a face model's and a whole-photo model's answers become one.

Logistic regression on both (Platt 1999), of the first label against the second:

    log-odds = bias + face * face_log_odds + photo * photo_log_odds

where a photo without a face has ``face_log_odds`` 0. Log-odds are cut off at ``limit``:
beyond it lies more certainty than the photos behind these numbers can prove. With ``photo``
0 nothing is mixed: the face answers where there is one, and the whole photo where there is
none.
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

    An answer less likely than ``unsure_below`` (0 to 1) is unsure.
    """

    face_model: str
    bias: float
    face: float
    photo: float
    limit: float
    unsure_below: float

    @property
    def face_first(self) -> bool:
        """Whether the whole photo is asked only where there is no face."""
        return self.photo == 0

    def fuse(self, face: Probabilities | None, photo: Probabilities) -> Probabilities:
        """Join the two labels' probabilities, float32 [2]; ``face`` is None without a face."""
        if self.face_first:
            return photo if face is None else face
        odds = self.bias + self.photo * self._held(photo)
        if face is not None:
            odds += self.face * self._held(face)
        first = 1 / (1 + math.exp(min(-odds, LARGEST)))
        return np.asarray([first, 1 - first], dtype=np.float32)

    def _held(self, probabilities: Probabilities) -> float:
        return min(max(log_odds(float(probabilities[0])), -self.limit), self.limit)


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
    numbers = (fusion.bias, fusion.face, fusion.photo, fusion.limit, fusion.unsure_below)
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError(f"fusion with {numbers}")
    if not (0 < fusion.limit <= 100 and 0 <= fusion.unsure_below <= 1):
        raise ValueError(f"fusion with limit {fusion.limit}, unsure_below {fusion.unsure_below}")
    return fusion
