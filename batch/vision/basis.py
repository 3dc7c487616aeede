"""The basis of a photo's row: everything that the row depends on besides the file's bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from batch.models.model import Model
from batch.options import Options
from batch.vision.detector_file import hash_detector

# Version of everything that turns a file into its row, besides the models: decoding
# (``decode``, ``pixels``), EXIF tags (``capture``), face detection (``faces``), cropping (``crop``)
# and the decision (``decide``). Raise it with every change to their results: journals then label
# every photo again, and never mix old results with new ones.
# tests/batch/vision/test_preprocessing_version.py fails if they change without it.
PREPROCESSING_VERSION = 6


def compute_basis(models: Sequence[Model], options: Options) -> bytes:
    """Digest models, face detector, settings and the version of preprocessing: 32 bytes.

    Provider, batch size and number of workers are no part of it: a run without a GPU must not label
    everything again. Neither are thresholds, which are applied to the probabilities in the journal:
    see ``decide.apply_thresholds``.
    """
    parts = {
        "preprocessing": PREPROCESSING_VERSION,
        "models": [model.digest for model in models],
        "detector": hash_detector(),
        "every_face": options.per_face,
        "salvage": options.salvage,
        "with_location": options.with_location,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def describe_basis(models: Sequence[Model], options: Options) -> dict[str, str]:
    """Describe the parts of the basis for messages: the value of each by its name."""
    specs = (f"{m.spec.name} {m.spec.version} ({m.digest[:8]})" for m in models)
    return {
        "models": " + ".join(specs),
        "face detector": hash_detector()[:8],
        "way of preparing photos": str(PREPROCESSING_VERSION),
        "--per-face": "on" if options.per_face else "off",
        "--salvage": "on" if options.salvage else "off",
        "--with-location": "on" if options.with_location else "off",
    }


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Describe the differences between the ``describe_basis`` of two runs."""
    changes = [
        f"{name} changed from {before[name]} to {value}"
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    return " and ".join(changes) or "the models or settings changed"
