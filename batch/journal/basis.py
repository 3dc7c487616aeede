"""What a photo's answer depends on, besides its bytes, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from batch.contract.model import Model
from batch.options import Options
from batch.yunet import detector_digest

# To be raised whenever decoding, the search for faces, cropping or the making of an answer
# changes what comes out: then every photo is labelled anew.
PREPROCESSING = 4


def basis_of(models: Sequence[Model], options: Options) -> bytes:
    """Digest models, detector, settings and the way of preparing photos: 32 bytes.

    The provider, batch size and number of workers are no part of it: a night without a GPU
    must not label everything anew.
    """
    parts = {
        "preprocessing": PREPROCESSING,
        "models": [model.digest for model in models],
        "detector": detector_digest(),
        "min_confidence": options.min_confidence,
        "always_answer": options.always_answer,
        "every_face": options.every_face,
        "salvage": options.salvage,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
