"""What a photo's answer depends on, besides its bytes, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from batch.models.model import Model
from batch.options import Options
from batch.vision.yunet import hash_detector

# To be raised whenever decoding, the search for faces, cropping or the making of an answer
# changes what comes out: then every photo is labelled anew.
PREPROCESSING_VERSION = 5


def describe_basis(models: Sequence[Model], options: Options) -> dict[str, str]:
    """Tell people what ``compute_basis`` digests: by its name, how it is."""
    specs = (f"{m.spec.name} {m.spec.version} ({m.digest[:8]})" for m in models)
    return {
        "models": " + ".join(specs),
        "face detector": hash_detector()[:8],
        "way of preparing photos": str(PREPROCESSING_VERSION),
        "--per-face": "on" if options.per_face else "off",
        "--salvage": "on" if options.salvage else "off",
    }


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Tell what differs between what two runs' ``describe_basis`` gave."""
    changes = [
        f"{name} changed from {before[name]} to {value}"
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    return " and ".join(changes) or "the models or settings changed"


def compute_basis(models: Sequence[Model], options: Options) -> bytes:
    """Digest models, detector, settings and the way of preparing photos: 32 bytes.

    The provider, batch size and number of workers are no part of it: a run without a GPU must
    not label everything anew. Thresholds are none either: they are applied to the probabilities
    that the journal holds, see ``decide_again``.
    """
    parts = {
        "preprocessing": PREPROCESSING_VERSION,
        "models": [model.digest for model in models],
        "detector": hash_detector(),
        "every_face": options.per_face,
        "salvage": options.salvage,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
