"""Labels photos with another package, in the Python environment of the peers.

    python peer_programs.py fer|facex LIST

Reads the paths of the photos from the file LIST, one per line, and prints one JSON object: photos
per second, the answer to each photo, and versions. The time to load TensorFlow and the networks
does not count. OpenCV and TensorFlow have one thread each.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

# TensorFlow reads these variables when it is imported.
os.environ |= {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}
warnings.simplefilter("ignore")

import cv2  # noqa: E402

WARM_UP = 4
PACKAGES = ("tensorflow-cpu", "opencv-contrib-python-headless")
LABELS = {"happy": "happy", "sad": "sad", "sadness": "sad"}
# Returns the label of a photo; empty without a face, or if it is neither happy nor sad.
Program = Callable[[str], str]


def open_fer() -> Program:
    """Open fer as its documentation shows."""
    from fer.fer import FER

    detector = FER()
    return lambda path: _largest(
        {
            tuple(face["box"]): face["emotions"]
            for face in detector.detect_emotions(cv2.imread(path))
        }
    )


def open_facex() -> Program:
    """Open facex as its documentation shows, with one classifier for the one core."""
    import facex

    pool = facex.PoolManager(pool_size=1)
    return lambda path: _largest(
        {tuple(face["bbox"]): face["emot"] for face in pool.predict(cv2.imread(path))}
    )


def _largest(faces: Mapping[tuple[Any, ...], Mapping[str, float]]) -> str:
    """Return the most likely label of the largest face."""
    if not faces:
        return ""
    chances = faces[max(faces, key=lambda box: box[2] * box[3])]
    return LABELS.get(max(chances, key=lambda name: chances[name]), "")


PROGRAMS = {"fer": open_fer, "facex": open_facex}


def main(name: str, listing: str) -> None:
    """Label the photos once and print the result."""
    paths = Path(listing).read_text(encoding="utf-8").splitlines()
    cv2.setNumThreads(1)
    label = PROGRAMS[name]()
    for path in paths[:WARM_UP]:
        label(path)
    started = time.perf_counter()
    answers = [label(path) for path in paths]
    seconds = time.perf_counter() - started
    versions = {package: version(package) for package in (name, *PACKAGES)}
    found = {"rate": len(paths) / seconds, "answers": answers, "versions": versions}
    print(json.dumps(found), flush=True)
    # facex keeps a thread that never ends.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
