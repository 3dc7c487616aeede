"""Fusion of a face model's and a whole-photo model's probabilities.

Multinomial logistic regression on the logarithms of both (Platt 1999; stacking, Wolpert 1992). For
label ``k`` and abstain output ``a``

    logit[k] = bias[k] + face * log face[k] + label * (log photo[k] - mean over labels)
    logit[a] = bias[a] + face * log face[a] + abstain[a] * log(photo[a] / sum over labels)

A term is 0 if there is no face, or if the model does not have the output. ``score`` times the
log-odds of the detector's score is subtracted from the logit of ``no_person``. The two terms of the
whole photo are clipped: the photos that the weights were fitted on do not support more certainty.

A face answers alone if the detector is certain of it and it either fills the photo, so that the
whole photo shows nothing else, or has a sure label.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt

from batch.records import ABSTAIN_OUTPUTS, Abstain, Probabilities

# Keeps the logarithm of a probability of 0 finite.
MIN_PROBABILITY = 1e-6
# Largest absolute value of any number in a fusion; fitted weights are far smaller.
MAX_FUSION_NUMBER = 100
MAX_FACE_MODEL_CHARS = 200  # of a face model's name
# Log-odds to which a detector's score is clipped.
MAX_SCORE_LOG_ODDS = 4.0


@dataclass(frozen=True)
class FusionWeights:
    """The weights of the formula.

    Attributes:
        bias: one for each label, then for each abstain output of the photo.
        face: weight of the face's log-probabilities; 0 in the rule for photos without a face.
        label: weight of the photo's log-probabilities of the labels, less their mean.
        abstain: weight of each abstain output of the whole-photo model, in its order.
        score: weight of the detector's score against ``no_person``.
        label_limit: largest absolute value of a label's photo term, before weighting.
        abstain_limits: smallest and largest value of each abstain output's photo term, before
            weighting.
    """

    bias: tuple[float, ...]
    face: float
    label: float
    abstain: Mapping[str, float]
    score: float
    label_limit: float
    abstain_limits: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Fusion:
    """Weights and thresholds that combine a whole-photo model with a face model.

    Attributes:
        face_model: name of the face model that the weights were fitted with.
        face_abstain: the face model's abstain outputs, in its order.
        both: weights for photos with a face.
        photo: weights for photos without a face.
        alone_score: 0 to 1; a face with a lower detector score never answers alone.
        alone_share: a face answers alone if its longer side is at least this share of the photo's.
        alone_from: 0 to 1; a face with a label at least as likely as this answers alone.
        unsure_below: 0 to 1; a label less likely than this is unsure.
        abstain_from: 0 to 1 for each abstain output, in the order of the answer.
        face_sha256: SHA-256 of that face model's file; empty if it is not recorded, and then any
            face model of that name is taken.
    """

    face_model: str
    face_abstain: tuple[str, ...]
    both: FusionWeights
    photo: FusionWeights
    alone_score: float
    alone_share: float
    alone_from: float
    unsure_below: float
    abstain_from: Mapping[str, float]
    face_sha256: str = ""

    def answers_alone(self, face: Probabilities, score: float, share: float) -> bool:
        """Return whether a photo's faces decide its answer without the whole-photo model.

        Args:
            face: float32 [K + A], the mean over the photo's faces.
            score: the detector's score of the main face.
            share: the main face's longer side as a share of the photo's.
        """
        if score < self.alone_score:
            return False
        labels = face[: len(face) - len(self.face_abstain)]
        return share >= self.alone_share or float(labels.max()) >= self.alone_from

    def spread_face(self, face: Probabilities) -> Probabilities:
        """Arrange a face's probabilities by the photo's outputs: float32 [K + A].

        An output that the face model does not have is 0.
        """
        labels = len(face) - len(self.face_abstain)
        own = dict(zip(self.face_abstain, face[labels:].tolist(), strict=True))
        abstain = [own.get(name, 0.0) for name in self.abstain_from]
        return np.concatenate([face[:labels], np.asarray(abstain, dtype=np.float32)])

    def fuse(self, face: Probabilities | None, score: float, photo: Probabilities) -> Probabilities:
        """Fuse both models' probabilities: float32 [K + A].

        Args:
            face: float32 [K + length of ``face_abstain``], None without a face.
            score: the detector's score of the main face; ignored without a face.
            photo: float32 [K + abstain outputs of the whole-photo model].
        """
        weights = self.photo if face is None else self.both
        labels = len(photo) - len(weights.abstain)
        at = {name: labels + number for number, name in enumerate(self.abstain_from)}
        logits = np.array(weights.bias, dtype=np.float64)

        logs = _log_probabilities(photo)
        centred = logs[:labels] - logs[:labels].mean()
        logits[:labels] += weights.label * np.clip(
            centred, -weights.label_limit, weights.label_limit
        )
        any_label = math.log(max(float(photo[:labels].sum(dtype=np.float64)), MIN_PROBABILITY))
        for (name, weight), log in zip(weights.abstain.items(), logs[labels:], strict=True):
            low, high = weights.abstain_limits[name]
            logits[at[name]] += weight * min(max(float(log) - any_label, low), high)

        if face is not None:
            weighted = weights.face * _log_probabilities(face)
            logits[:labels] += weighted[:labels]
            for name, log in zip(self.face_abstain, weighted[labels:], strict=True):
                logits[at[name]] += log
            if Abstain.NO_PERSON in at:
                logits[at[Abstain.NO_PERSON]] -= weights.score * score_log_odds(score)

        powers = np.exp(logits - logits.max())
        fused: Probabilities = (powers / powers.sum()).astype(np.float32)
        return fused


def log_odds(probability: float) -> float:
    """Convert a probability to log-odds, finite for 0 and 1 too."""
    inside = min(max(probability, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return math.log(inside / (1 - inside))


def score_log_odds(score: float) -> float:
    """Convert a detector's score to log-odds, clipped to 0 to ``MAX_SCORE_LOG_ODDS``."""
    return min(max(log_odds(score), 0.0), MAX_SCORE_LOG_ODDS)


def pack_fusion(fusion: Fusion) -> str:
    """Serialize a fusion for a model's metadata."""
    return json.dumps(asdict(fusion))


def unpack_fusion(text: str) -> Fusion:
    """Parse a fusion in a model's metadata.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: the text is not what ``pack_fusion`` writes.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or not isinstance(values.get("face_model"), str):
        raise TypeError("the fusion is not an object with the name of a face model")
    both, photo = (_parse_weights(values.pop(name)) for name in ("both", "photo"))
    fusion = Fusion(
        face_model=values.pop("face_model"),
        face_abstain=_parse_names(values.pop("face_abstain")),
        both=both,
        photo=photo,
        abstain_from=_parse_numbers(values.pop("abstain_from")),
        face_sha256=_parse_digest(values.pop("face_sha256", "")),
        **{name: _parse_number(value) for name, value in values.items()},
    )
    if len(both.bias) != len(photo.bias) or tuple(both.abstain) != tuple(photo.abstain):
        raise ValueError("the fusion's two rules have different outputs")
    outputs = set(fusion.abstain_from)
    if not (set(fusion.face_abstain) | set(both.abstain)) <= outputs <= set(ABSTAIN_OUTPUTS):
        raise ValueError(f"the fusion's abstain outputs are {', '.join(sorted(outputs))}")
    shares = (fusion.alone_score, fusion.alone_from, fusion.unsure_below)
    if not all(0 <= share <= 1 for share in (*shares, *fusion.abstain_from.values())):
        raise ValueError("a threshold of the fusion is not between 0 and 1")
    if fusion.alone_share < 0 or len(fusion.face_model) > MAX_FACE_MODEL_CHARS:
        raise ValueError("the fusion's alone_share is below 0, or its face_model too long")
    return fusion


def _parse_weights(values: object) -> FusionWeights:
    if not isinstance(values, dict):
        raise TypeError("a rule of the fusion is not an object")
    bias, limits = values["bias"], values["abstain_limits"]
    if not isinstance(bias, list) or not isinstance(limits, dict):
        raise TypeError("a rule of the fusion has no list of biases or no limits")
    if set(values) != {field.name for field in fields(FusionWeights)}:
        raise ValueError(f"a rule of the fusion has the entries {', '.join(map(str, values))[:99]}")
    weights = FusionWeights(
        bias=tuple(map(_parse_number, bias)),
        face=_parse_number(values["face"]),
        label=_parse_number(values["label"]),
        abstain=_parse_numbers(values["abstain"]),
        score=_parse_number(values["score"]),
        label_limit=_parse_number(values["label_limit"]),
        abstain_limits={str(name): _parse_limits(ends) for name, ends in limits.items()},
    )
    if weights.label_limit < 0 or set(weights.abstain_limits) != set(weights.abstain):
        raise ValueError("a rule of the fusion lacks limits")
    return weights


def _parse_digest(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-f]{64})?", value, re.ASCII):
        raise ValueError("the fusion's face_sha256 is not a SHA-256 in hexadecimal")
    return value


def _parse_names(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise TypeError("an entry of the fusion is not a list of names")
    if len(set(values)) != len(values):
        raise ValueError("the fusion names an output twice")
    return tuple(values)


def _parse_limits(ends: object) -> tuple[float, float]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise TypeError("a limit of the fusion is not a pair of numbers")
    low, high = map(_parse_number, ends)
    if low > high:
        raise ValueError(f"a limit of the fusion is {low} to {high}")
    return low, high


def _parse_numbers(values: object) -> dict[str, float]:
    if not isinstance(values, dict):
        raise TypeError("an entry of the fusion is not an object of numbers")
    return {str(name): _parse_number(value) for name, value in values.items()}


def _parse_number(value: object) -> float:
    """Check one of the fusion's numbers: an absolute value of at most ``MAX_FUSION_NUMBER``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) <= MAX_FUSION_NUMBER
    ):
        raise ValueError(f"the fusion has the number {str(value)[:99]}")
    return float(value)


def _log_probabilities(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    logs: npt.NDArray[np.float64] = np.log(
        np.maximum(probabilities.astype(np.float64), MIN_PROBABILITY)
    )
    return logs
