"""Labels by another way: nothing is scaled while decoding, no integers, and OpenCV finds the faces.

What the command does for speed (a JPEG's DCT scaling, a small picture for the search, integer
weights) must not change its answers. This is the way without any of it: slow, simple, and as
little of the command's own code as can be. The contract is the same: the models, the rule that
cuts a face out, the rule that makes one answer of all.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps

from batch.contract.ensemble import load_ensemble
from batch.contract.model import Model
from batch.decide import failed_row, labelled_row
from batch.faces import MAX_OVERLAP, MIN_SCORE
from batch.options import Options
from batch.records import Box, Evidence, Failure, Photo, Pixels, Probabilities, Reason, Row, Stage
from batch.yunet import MODEL_FILE, MODEL_PACKAGE

if TYPE_CHECKING:
    import onnxruntime as ort

SIDES = (640,)


class Reference:
    """Detector and models as their makers publish them: float weights, OpenCV's own decoding.

    ``sides`` are those at which faces are looked for, in pixels of the photo's longer side; what
    is found at several is put together.
    """

    def __init__(self, model: str, sides: Sequence[int] = SIDES) -> None:
        # With its thresholds and its fusion.
        self._rules = load_ensemble(Options(model=model))
        self._sessions = {m.digest: _floats(m) for m in self._rules.models}
        # One of each size: changed from photo to photo, OpenCV's finds boxes that are not there.
        self._finders = {
            side: cv2.FaceDetectorYN.create(
                str(_detector_file()), "", (side, side), MIN_SCORE, MAX_OVERLAP
            )
            for side in sides
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the model's order."""
        return self._rules.labels

    def row(self, path: Path) -> Row:
        """Label a photo, or say that it can't be decoded."""
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as error:  # Pillow's readers raise nearly every built-in exception
            detail = f"{type(error).__name__}: {error}"
            return failed_row(Failure(path, Stage.DECODE, Reason.CORRUPT, detail))
        face, whole = self._rules.face, self._rules.image
        boxes = self._faces(upright) if face else ()
        crops = [_square(upright, box, face) for box in boxes] if face else []
        evidence = Evidence(
            boxes=boxes,
            faces=self._asked(face, crops),
            image=self._asked(whole, [_stretched(upright, whole)] if whole else []),
        )
        photo = Photo(path, upright, *upright.size)
        return labelled_row(photo, evidence, self._rules)

    def _asked(self, model: Model | None, views: Sequence[Pixels]) -> Probabilities:
        if model is None or not views:
            outputs = len(model.spec.outputs) if model else 0
            return np.empty((0, outputs), dtype=np.float32)
        session = self._sessions[model.digest]
        answers: Probabilities
        (answers,) = session.run(None, {session.get_inputs()[0].name: np.stack(views)})
        return answers

    def _faces(self, upright: Image.Image) -> tuple[Box, ...]:
        """Find faces at each side and keep the best of those that overlap; the largest first."""
        found = [box for side in self._finders for box in self._faces_at(upright, side)]
        rectangles = [(box.left, box.top, box.width, box.height) for box in found]
        scores = [box.score for box in found]
        kept = cv2.dnn.NMSBoxes(rectangles, scores, MIN_SCORE, MAX_OVERLAP) if found else ()
        return tuple(sorted((found[n] for n in kept), key=lambda b: (-b.area, b.left, b.top)))

    def _faces_at(self, upright: Image.Image, side: int) -> list[Box]:
        """Find faces on a black square of ``side`` pixels; a photo is never enlarged."""
        scale = min(1.0, side / max(upright.size))
        size = (max(1, round(upright.width * scale)), max(1, round(upright.height * scale)))
        square = Image.new("RGB", (side, side))
        square.paste(upright.resize(size, Image.Resampling.BILINEAR))
        bgr = np.ascontiguousarray(np.asarray(square)[:, :, ::-1])
        _, found = self._finders[side].detect(bgr)
        across, down = upright.width / size[0], upright.height / size[1]
        return [
            Box(x * across, y * down, width * across, height * down, float(score))
            for x, y, width, height, *_, score in (() if found is None else found.tolist())
        ]


def _square(upright: Image.Image, box: Box, model: Model) -> Pixels:
    """Cut a face out by the contract: a square, wider by the margin, edges repeated."""
    x0, x1 = np.clip([box.left, box.left + box.width], 0, upright.width)
    y0, y1 = np.clip([box.top, box.top + box.height], 0, upright.height)
    side = float(max(x1 - x0, y1 - y0)) * (1 + 2 * model.spec.margin)
    left, top = float(x0 + x1 - side) / 2, float(y0 + y1 - side) / 2
    beyond = int(max(0, -left, -top, left + side - upright.width, top + side - upright.height)) + 1
    pixels = np.pad(np.asarray(upright), ((beyond, beyond), (beyond, beyond), (0, 0)), "edge")
    left, top = left + beyond, top + beyond
    return _brought(Image.fromarray(pixels), (left, top, left + side, top + side), model)


def _stretched(upright: Image.Image, model: Model) -> Pixels:
    return _brought(upright, (0, 0, *upright.size), model)


def _brought(image: Image.Image, part: tuple[float, float, float, float], model: Model) -> Pixels:
    if model.channels == 1:
        image = image.convert("L")
    size = (model.width, model.height)
    small = image.resize(size, Image.Resampling.BILINEAR, box=part)
    return np.asarray(small).reshape(model.height, model.width, model.channels)


def _floats(model: Model) -> ort.InferenceSession:
    """Open a model with its integer weights turned into floats."""
    from batch.inference.runtime import ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.graph, options, providers=["CPUExecutionProvider"])


def _detector_file() -> Path:
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / MODEL_FILE
