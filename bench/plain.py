"""Minimal labelling script, the baseline of the benchmark: YuNet, a crop, one model, a CSV file.

    python plain.py PHOTOS.txt YUNET.onnx MODEL.onnx OUT.csv

It has no journal, no second detection pass, no whole-photo model, no limits and no worker
processes. It uses one core, and the first photo that can't be decoded ends it.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is imported
import onnxruntime

LONGER_SIDE = 640
LEAST_SCORE = 0.6


def main(listing: str, detector: str, model: str, output: str) -> None:
    """Label the photos that a file lists, one path per line."""
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    _, height, width, _ = given.shape
    facts = session.get_modelmeta().custom_metadata_map
    names = [*json.loads(facts["labels"]), *json.loads(facts["abstain"])]
    finder = cv2.FaceDetectorYN.create(detector, "", (0, 0), LEAST_SCORE)
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "confidence"])
        for path in Path(listing).read_text(encoding="utf-8").splitlines():
            image = cv2.imread(path)
            if image is None:
                sys.exit(f"can't read {path}")
            scale = min(1.0, LONGER_SIDE / max(image.shape[:2]))
            small = cv2.resize(image, None, fx=scale, fy=scale) if scale < 1 else image
            finder.setInputSize((small.shape[1], small.shape[0]))
            _, faces = finder.detect(small)
            if faces is None:
                writer.writerow([path, "", ""])
                continue
            x, y, w, h = max((face[:4] / scale for face in faces), key=lambda box: box[2] * box[3])
            side = max(w, h)
            left, top = max(0, int(x + w / 2 - side / 2)), max(0, int(y + h / 2 - side / 2))
            face = image[top : int(top + side), left : int(left + side)]
            grey = cv2.cvtColor(cv2.resize(face, (width, height)), cv2.COLOR_BGR2GRAY)
            (answer,) = session.run(None, {given.name: grey[np.newaxis, :, :, np.newaxis]})
            best = int(answer[0].argmax())
            writer.writerow([path, names[best], f"{answer[0][best]:.4f}"])


if __name__ == "__main__":
    main(*sys.argv[1:])
