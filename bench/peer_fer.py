"""How fast `fer` labels photos: run by the Python of the peers' own environment.

    python peer_fer.py LIST

reads the paths of the photos from a file, one a line, and prints one JSON object. Loading
TensorFlow and the networks is not counted; OpenCV and TensorFlow have one thread each.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

# TensorFlow reads these as it is imported.
os.environ |= {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}
warnings.simplefilter("ignore")

import cv2  # noqa: E402
from fer.fer import FER  # noqa: E402

WARM_UP = 4
PACKAGES = ("fer", "tensorflow-cpu", "opencv-contrib-python-headless")


def main() -> None:
    """Label the photos once, as fer's own documentation does it, and print the rate."""
    paths = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    cv2.setNumThreads(1)
    detector = FER()
    for path in paths[:WARM_UP]:
        detector.detect_emotions(cv2.imread(path))
    started = time.perf_counter()
    found = [len(detector.detect_emotions(cv2.imread(path))) for path in paths]
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "rate": len(paths) / seconds,
                "photos": len(paths),
                "with_face": sum(map(bool, found)),
                "versions": {package: version(package) for package in PACKAGES},
            }
        )
    )


if __name__ == "__main__":
    main()
