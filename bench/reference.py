"""Reference implementation of labelling: slow, simple, and independent of the command's code.

What the command does for speed (DCT scaling of JPEGs, face detection on a smaller picture, integer
arithmetic) must not change its answers. The reference decodes at full size, computes with floats,
and finds faces with OpenCV. It follows docs/models.md and docs/usage.md for the metadata of a
model file, the crop of a face, and the rules that combine several answers.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from batch.models.shipped import find_models
from batch.vision.detector_file import MODEL_FILE, MODEL_PACKAGE

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
import onnxruntime as ort

SIDES = (640,)
MIN_SCORE, MAX_OVERLAP = 0.6, 0.3
# Lower limit of probabilities, which keeps their logarithms finite.
LEAST = 1e-6
MOST_SCORE_ODDS = 4.0
NEITHER, NO_PERSON = "neither", "no_person"

Pixels = npt.NDArray[np.uint8]
ClassProbabilities = dict[str, float]


@dataclass(frozen=True)
class PhotoVerdict:
    """The answer to a photo, of the command or of the reference.

    Attributes:
        status: the status of the row.
        label: the label; empty if there is none.
        confidence: the probability of the label or, without one, of the status.
        faces: the number of faces found.
    """

    status: str
    label: str
    confidence: float
    faces: int

    @property
    def outcome(self) -> str:
        """The label or, without one, the status."""
        return self.label or self.status

    @property
    def is_ok(self) -> bool:
        """Whether the label is sure."""
        return self.status == "ok"


class Face(NamedTuple):
    """The box of a face, in pixels of the upright photo, and its score (0 to 1)."""

    left: float
    top: float
    width: float
    height: float
    score: float

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height


class FileModel:
    """A model file: its metadata, and its network with integer weights converted to floats."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        facts = self._session.get_modelmeta().custom_metadata_map
        self.labels: list[str] = json.loads(facts["labels"])
        self.abstain: list[str] = json.loads(facts.get("abstain", "[]"))
        self.abstain_from: ClassProbabilities = json.loads(facts.get("abstain_from", "{}"))
        self.unsure_below = float(facts["unsure_below"])
        if facts["resize"] != "stretch":
            raise ValueError(f"{path} has the resize rule {facts['resize']}, not stretch")
        self.margin = float(facts["margin"])
        self.sees_faces = facts["region"] == "face"
        self.fusion: dict[str, Any] | None = json.loads(facts.get("fusion", "null"))
        (given,) = self._session.get_inputs()
        self._name, (_, self.height, self.width, self.channels) = given.name, given.shape

    def ask(
        self, image: Image.Image, part: tuple[float, float, float, float]
    ) -> ClassProbabilities:
        """Return the probabilities for a part of an image: left, top, right, bottom."""
        if self.channels == 1:
            image = image.convert("L")
        size = (self.width, self.height)
        small = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=part))
        view = small.reshape(1, self.height, self.width, self.channels)
        (answers,) = self._session.run(None, {self._name: view})
        return dict(zip([*self.labels, *self.abstain], map(float, answers[0]), strict=True))


class ReferenceLabeller:
    """Labels photos with float arithmetic, OpenCV's face detector, and decoding at full size.

    Args:
        model: the model, as for the command's ``--model``.
        sides: sizes at which faces are detected, in pixels of the photo's longer side; faces found
            at several sizes are merged.
    """

    def __init__(self, model: str, sides: Sequence[int] = SIDES) -> None:
        models = [FileModel(path) for path in find_models(model)]
        self._face = next((each for each in models if each.sees_faces), None)
        self._whole = next((each for each in models if not each.sees_faces), None)
        self.labels = tuple(models[0].labels)
        # One detector per size: when the size changes between photos, OpenCV finds false boxes.
        self._finders = {
            side: cv2.FaceDetectorYN.create(
                str(find_detector_file()), "", (side, side), MIN_SCORE, MAX_OVERLAP
            )
            for side in sides
        }

    def judge(self, path: Path) -> PhotoVerdict:
        """Label a photo; the status is ``failed`` if it can't be decoded."""
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except Exception:  # Pillow's readers raise nearly every built-in exception
            return PhotoVerdict("failed", "", 0.0, 0)
        found = self.find_faces(upright) if self._face else []
        faces = [_classify_face(self._face, upright, face) for face in found] if self._face else []
        whole = self._whole.ask(upright, (0, 0, *upright.size)) if self._whole else None
        share = max(found[0][2:4]) / max(upright.size) if found else 0.0
        return self.decide(found, faces, whole, share)

    def decide(
        self,
        found: Sequence[Face],
        faces: Sequence[ClassProbabilities],
        whole: ClassProbabilities | None,
        share: float,
    ) -> PhotoVerdict:
        """Combine the probabilities of the faces and of the whole photo into one answer.

        Args:
            found: the faces, the largest first.
            faces: the face model's probabilities for each face.
            whole: the whole-photo model's probabilities; None without such a model.
            share: the longer side of the largest face over that of the photo.
        """
        face = _average_faces(found, faces) if found else None
        score = found[0].score if found else 0.0
        rules: Mapping[str, Any]
        if self._face and self._whole and self._whole.fusion:
            assert whole is not None
            rules = self._whole.fusion
            chances = _fuse_models(rules, self.labels, face, score, share, whole)
        elif self._whole:
            assert whole is not None
            rules, chances = vars(self._whole), whole
        elif face is None:
            return PhotoVerdict("no_face", "", 0.0, 0)
        else:
            rules, chances = vars(self._face), face
        status, label = _apply_thresholds(rules, self.labels, chances)
        return PhotoVerdict(status, label, round(chances[label or status], 4), len(found))

    def find_faces(self, upright: Image.Image) -> list[Face]:
        """Find faces at each size and suppress overlaps; the largest face comes first."""
        found = [face for side in self._finders for face in self._find_at(upright, side)]
        rectangles = [face[:4] for face in found]
        scores = [face.score for face in found]
        kept = cv2.dnn.NMSBoxes(rectangles, scores, MIN_SCORE, MAX_OVERLAP) if found else ()
        return sorted((found[n] for n in kept), key=lambda f: (-f.area, f.left, f.top))

    def _find_at(self, upright: Image.Image, side: int) -> list[Face]:
        """Find faces on a black square of ``side`` pixels; a photo is never enlarged."""
        scale = min(1.0, side / max(upright.size))
        size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        square = Image.new("RGB", (side, side))
        square.paste(upright.resize(size, Image.Resampling.BILINEAR))
        bgr = np.ascontiguousarray(np.asarray(square)[:, :, ::-1])
        _, found = self._finders[side].detect(bgr)
        across, down = upright.width / size[0], upright.height / size[1]
        return [
            Face(x * across, y * down, width * across, height * down, score)
            for x, y, width, height, *_, score in (() if found is None else found.tolist())
        ]


def _classify_face(model: FileModel, upright: Image.Image, face: Face) -> ClassProbabilities:
    """Crop a face and classify it: a square plus the margin, with edge pixels repeated."""
    x0, x1 = np.clip([face.left, face.left + face.width], 0, upright.width)
    y0, y1 = np.clip([face.top, face.top + face.height], 0, upright.height)
    side = float(max(x1 - x0, y1 - y0)) * (1 + 2 * model.margin)
    left, top = float(x0 + x1 - side) / 2, float(y0 + y1 - side) / 2
    beyond = int(max(0, -left, -top, left + side - upright.width, top + side - upright.height)) + 1
    pixels = np.pad(np.asarray(upright), ((beyond, beyond), (beyond, beyond), (0, 0)), "edge")
    left, top = left + beyond, top + beyond
    return model.ask(Image.fromarray(pixels), (left, top, left + side, top + side))


def _average_faces(
    found: Sequence[Face], faces: Sequence[ClassProbabilities]
) -> ClassProbabilities:
    """Average the faces, each weighted by its area times its score."""
    total = sum(face.area * face.score for face in found)
    return {
        name: sum(f.area * f.score * own[name] for f, own in zip(found, faces, strict=True)) / total
        for name in faces[0]
    }


def _fuse_models(
    fusion: Mapping[str, Any],
    labels: Sequence[str],
    face: ClassProbabilities | None,
    score: float,
    share: float,
    whole: ClassProbabilities,
) -> ClassProbabilities:
    """Combine the probabilities of both models with the formula of docs/models.md."""
    outputs = [*labels, *fusion["abstain_from"]]
    if face is not None and score >= fusion["alone_score"]:
        is_sure = max(face[label] for label in labels) >= fusion["alone_from"]
        if share >= fusion["alone_share"] or is_sure:
            return {name: face.get(name, 0.0) for name in outputs}
    rule = fusion["photo"] if face is None else fusion["both"]
    logits = dict(zip(outputs, rule["bias"], strict=True))
    middle = sum(_log(whole[label]) for label in labels) / len(labels)
    for label in labels:
        limit = rule["label_limit"]
        logits[label] += rule["label"] * _clip(_log(whole[label]) - middle, -limit, limit)
    any_label = _log(sum(whole[label] for label in labels))
    for name, weight in rule["abstain"].items():
        low, high = rule["abstain_limits"][name]
        logits[name] += weight * _clip(_log(whole[name]) - any_label, low, high)
    if face is not None:
        for name, chance in face.items():
            logits[name] += rule["face"] * _log(chance)
        if NO_PERSON in logits:
            inside = _clip(score, LEAST, 1 - LEAST)
            odds = _clip(math.log(inside / (1 - inside)), 0.0, MOST_SCORE_ODDS)
            logits[NO_PERSON] -= rule["score"] * odds
    powers = {name: math.exp(logit - max(logits.values())) for name, logit in logits.items()}
    return {name: power / sum(powers.values()) for name, power in powers.items()}


def _apply_thresholds(
    rules: Mapping[str, Any], labels: Sequence[str], chances: ClassProbabilities
) -> tuple[str, str]:
    """Return the status and the label, which is empty if the model abstains."""
    least, no_person = rules["abstain_from"], chances.get(NO_PERSON, 0.0)
    if NO_PERSON in least and no_person >= least[NO_PERSON]:
        return NO_PERSON, ""
    if NEITHER in least and chances[NEITHER] >= least[NEITHER] * (1 - no_person):
        return NEITHER, ""
    best = max(labels, key=lambda label: chances[label])
    return ("ok" if chances[best] >= rules["unsure_below"] else "unsure"), best


def _log(chance: float) -> float:
    return math.log(max(chance, LEAST))


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def find_detector_file() -> Path:
    """Return the path of YuNet's model file in its package."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / MODEL_FILE
