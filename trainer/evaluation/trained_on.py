"""The samples that a model was trained on, so that they can be told from held-out ones.

A checkpoint and a model file have a digest of the pixels of each sample, also of those that the
initial weights and the teacher were trained on. They recognise the same picture, cropped the same
way; a near duplicate or another crop is not recognised.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batch.errors import InputError
from batch.models.model import ModelSpec
from trainer.datasets.dataset import Dataset, Pixels, Split, select_samples

# Bytes of a sample's digest. Among 3,500 samples and 30,000 others, one in 10,000 evaluations has a
# sample whose digest is that of another.
DIGEST_BYTES = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedOn:
    """Samples that a model was trained on.

    Attributes:
        name: the model, for messages.
        digests: a digest of each sample.
        is_complete: whether these are all; False if a model of an earlier release or of another
            program was trained on others.
    """

    name: str
    digests: frozenset[bytes]
    is_complete: bool


def hash_samples(pixels: Pixels) -> frozenset[bytes]:
    """Hash samples, uint8 [n, H, W, C]."""
    return frozenset(map(_hash_sample, pixels))


def merge_trained_on(own: Iterable[Pixels], earlier: Iterable[TrainedOn] = ()) -> str:
    """Serialize the samples of a training and of the models that it starts from.

    Args:
        own: the pixels of the training, uint8 [n, H, W, C] each.
        earlier: what the initial weights, the teacher or the adjusted model were trained on.
    """
    known = list(earlier)
    digests = frozenset[bytes]().union(*map(hash_samples, own), *(of.digests for of in known))
    packed = base64.b64encode(b"".join(sorted(digests))).decode()
    return json.dumps({"complete": all(of.is_complete for of in known), "digests": packed})


def unpack_trained_on(text: str, name: str) -> TrainedOn:
    """Parse the result of ``merge_trained_on``; without a text nothing is known.

    Raises:
        InputError: the text is damaged.
    """
    if not text:
        return TrainedOn(name, frozenset(), is_complete=False)
    try:
        values = json.loads(text)
        packed, is_complete = base64.b64decode(values["digests"], validate=True), values["complete"]
        if len(packed) % DIGEST_BYTES or not isinstance(is_complete, bool):
            raise ValueError("not a whole number of digests")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{name} has a damaged entry trained_on", "export it again") from error
    starts = range(0, len(packed), DIGEST_BYTES)
    digests = frozenset(packed[at : at + DIGEST_BYTES] for at in starts)
    return TrainedOn(name, digests, is_complete)


def find_trained_on(spec: ModelSpec, name: str, data: Dataset | None) -> TrainedOn:
    """Find what a model was trained on: its own record or, by the fingerprint, a part of ``data``.

    Raises:
        InputError: its record is damaged.
    """
    if not spec.trained_on and data is not None:
        uses_all = spec.metrics.get("split") != "test"
        return match_fingerprint(data, spec.data_fingerprint, name, uses_all)
    return unpack_trained_on(spec.trained_on, name)


def match_fingerprint(data: Dataset, fingerprint: str, name: str, uses_all: bool) -> TrainedOn:
    """Find what a model without a record was trained on, if ``data`` are the data of its training.

    Args:
        data: the data.
        fingerprint: that of the model's data.
        name: the model, for messages.
        uses_all: whether it was trained on all splits.
    """
    if not data.matches_fingerprint(fingerprint):
        return TrainedOn(name, frozenset(), is_complete=False)
    parts = (data.train, data.validation, data.test) if uses_all else (data.train,)
    digests = frozenset[bytes]().union(*(hash_samples(part.pixels) for part in parts))
    return TrainedOn(name, digests, is_complete=True)


def find_seen(pixels: Pixels, known: Iterable[TrainedOn]) -> npt.NDArray[np.bool_]:
    """Tell which samples a model was trained on: bool [n]."""
    digests = frozenset[bytes]().union(*(of.digests for of in known))
    return np.fromiter((_hash_sample(one) in digests for one in pixels), np.bool_, len(pixels))


def keep_unseen(part: Split, known: Sequence[TrainedOn]) -> Split:
    """Keep the samples that no model was trained on; the log says how many, and what is not known.

    Raises:
        InputError: there are none.
    """
    seen = find_seen(part.pixels, known)
    names = " and ".join(dict.fromkeys(of.name for of in known))
    if len(part) and seen.all():
        raise InputError(
            f"{names}: trained on all {len(part):,} samples, so none is held out",
            "give photos that no model was trained on",
        )
    if seen.any():
        logger.warning(
            "WARNING: %s of %s samples are excluded, because they are not held out: they "
            "were used to train %s",
            f"{int(seen.sum()):,}",
            f"{len(part):,}",
            names,
        )
    partial = list(dict.fromkeys(of.name for of in known if not of.is_complete))
    if partial:
        logger.warning(
            "%s: not all samples are recorded on which this or the weights that it starts from "
            "were trained, so whether these are held out is not fully known",
            " and ".join(partial),
        )
    return select_samples(part, ~seen)


def _hash_sample(pixels: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()[:DIGEST_BYTES]
