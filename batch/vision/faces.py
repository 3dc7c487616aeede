"""Face detection with YuNet, from a fast glance to a search of the photo's detail.

A glance uses a small copy of the photo and suffices for portraits. A close look finds smaller
faces, and the search of the detail those that only the file's resolution shows. A change to the
boxes needs a new ``PREPROCESSING_VERSION`` (``batch/vision/basis.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from batch.inference.batcher import Array, Shape
from batch.inference.session import Session, open_session
from batch.options import Device, Provider
from batch.records import Box, Photo
from batch.vision.detector_file import SIDE_MULTIPLE, STRIDES

# Largest longer side, in pixels, at a first and a second glance and at a close look; photos are
# never enlarged. The first glance finds faces that fill the frame, the close look small ones.
FIRST_GLANCE_SIDE = 128
GLANCE_SIDE = 256
CLOSE_SIDE = 640
SIDES = (FIRST_GLANCE_SIDE, GLANCE_SIDE, CLOSE_SIDE)
# If the largest face of a web photo scores less, its label is hardly better than chance: right for
# 61 % of 33 photos with 0.5 to 0.7, and for 93 % of 366 with 0.8 or more.
MIN_SCORE = 0.6
# A glance is clear if each face's longer side has this many pixels in it, because smaller ones may
# have neighbours that it can't see, and if the largest face scores this much.
MIN_GLANCE_FACE_SIDE = 32
MIN_GLANCE_SCORE = 0.7
# A photo's detail is searched in tiles of at most CLOSE_SIDE pixels, which overlap by this many: at
# least half of a face on an edge is in one tile.
TILE_OVERLAP = 96
# A box that scores MIN_TILE_SCORE in a tile is examined again, scaled to ZOOM_FACE_SIDE pixels in a
# picture of ZOOM_SIDE, and is a face if it then scores MIN_ZOOM_SCORE. This finds 310 of 400 faces
# of 20 to 55 pixels, and 4 false ones in 1,700 pictures without people, none of which is labelled
# ``ok``. Tiles alone, with a score of 0.6, find fewer faces and ten times as many false ones.
MIN_TILE_SCORE = 0.3
ZOOM_SIDE = 128
ZOOM_FACE_SIDE = 48
MIN_ZOOM_SCORE = 0.85
MAX_ZOOMED = 1024  # boxes of a photo that are examined again, best score first
# A face with fewer pixels at a close look is searched in the detail, and cropped from it.
MIN_CLOSE_FACE_SIDE = 24
# Photos in a batch on a device, where each is padded to a square of one of SIDES.
DETECTOR_BATCH_SIZE = 16
# Photo shapes whose grid of cells is cached, at most 100 kB each.
MAX_CACHED_GRIDS = 64
# Boxes with a larger intersection over union are the same face.
MAX_IOU = 0.3

# float32 [n, 5] of left, top, width, height in pixels of Photo.image, and score.
Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Glance:
    """The result of a glance.

    Attributes:
        boxes: the faces, largest first.
        is_full_size: a close look would see no more pixels.
        is_clear: a close look is unlikely to find more faces.
        found: the same faces, in pixels of ``Photo.image``.
    """

    boxes: tuple[Box, ...]
    is_full_size: bool
    is_clear: bool
    found: Boxes

    def suffices(self, per_face: bool = False) -> bool:
        """Return whether these faces are classified before a close look is decided on.

        Args:
            per_face: whether every face counts, also small ones beside a large one.
        """
        return self.is_full_size or (self.is_clear and not per_face)


class Detector:
    """The face detector on a device; safe to share between threads.

    Args:
        device: where it runs; a provider alone stands for its first device.
        min_score: the lowest score of a face, at a glance and at a close look.
        graph: the network as an ONNX file's bytes; None to build it.
    """

    def __init__(
        self,
        device: Device | Provider = Provider.CPU,
        min_score: float = MIN_SCORE,
        graph: bytes | None = None,
    ) -> None:
        if graph is None:
            # Imported late: it loads the package onnx, which a worker never needs.
            from batch.vision.detector_graph import build_detector_graph

            graph = build_detector_graph()
        frames = (np.zeros((1, side, side, 3), np.uint8) for side in SIDES)
        self._session: Session = open_session(graph, device, *frames, batch=DETECTOR_BATCH_SIZE)
        self._min_score = min_score

    def detect(self, photo: Photo) -> tuple[Box, ...]:
        """Find the faces of a photo as a run does, as far as no model is needed for that.

        These are the faces of a glance that suffices, otherwise of a close look and, if all faces
        are small, of a search of the photo's detail. A run differs only if a model's answer is
        close to a threshold: then it takes a close look although the glance was clear.

        Returns:
            Boxes in pixels of the upright file, largest first.
        """
        glance = self.glance(photo)
        if glance.suffices():
            return glance.boxes
        boxes = self.look_closely(photo, glance)
        if are_all_small(photo, boxes) and isinstance(photo.detail, Photo):
            return self.search_detail(photo.detail, boxes)
        return boxes

    def glance(self, photo: Photo) -> Glance:
        """Find a photo's large faces; repeat with more pixels if the first glance is not clear."""
        glance = self._glance(photo, FIRST_GLANCE_SIDE)
        if glance.is_clear or glance.is_full_size:
            return glance
        return self._glance(photo, GLANCE_SIDE)

    def look_closely(self, photo: Photo, glance: Glance) -> tuple[Box, ...]:
        """Find faces in more pixels, and add those that only the glance found.

        If both found a face, the close look's box is kept.
        """
        found = self._find_distinct(photo.image, _shrink(photo.image, CLOSE_SIDE))
        return _to_file_boxes(
            photo, np.concatenate([found, _drop_overlapping(glance.found, found)])
        )

    def search_detail(self, detail: Photo, seen: Sequence[Box]) -> tuple[Box, ...]:
        """Find faces in a photo's detail and add them to those that a close look has ``seen``.

        If both found a face, the detail's box is kept if the face is small.
        """
        image = detail.image
        tiles = [
            (*x, *y)
            for y in _split_into_tiles(image.height)
            for x in _split_into_tiles(image.width)
        ]
        candidates = np.concatenate([self._search_tile(image, *tile) for tile in tiles])
        candidates = candidates[_suppress_overlaps(candidates)][:MAX_ZOOMED]
        zoomed = [self._zoom(image, candidate) for candidate in candidates]
        found = np.concatenate([candidates[:0], *zoomed])
        found = found[_suppress_overlaps(found)]
        large = _to_image_boxes(detail, [box for box in seen if not is_small(detail, box)])
        found = _drop_overlapping(found, large)
        kept = [
            box
            for box in seen
            if not is_small(detail, box)
            or len(_drop_overlapping(_to_image_boxes(detail, [box]), found))
        ]
        added = (replace(box, in_detail=True) for box in _to_file_boxes(detail, found))
        return tuple(sorted((*kept, *added), key=_size_order))

    def _glance(self, photo: Photo, side: int) -> Glance:
        # A whole factor takes a seventh of the time of any other.
        factor = -(-max(photo.image.size) // side)
        small = photo.image if factor == 1 else photo.image.reduce(factor)
        found = self._find_distinct(photo.image, small)
        return Glance(
            _to_file_boxes(photo, found), factor == 1, _are_clear(found, 1 / factor), found
        )

    def _search_tile(
        self, image: Image.Image, left: int, right: int, top: int, bottom: int
    ) -> Boxes:
        found = self._run_network(image.crop((left, top, right, bottom)), MIN_TILE_SCORE)
        found[:, :2] += (left, top)
        return found

    def _zoom(self, image: Image.Image, candidate: Boxes) -> Boxes:
        """Examine a candidate again: float32 [1, 5], or [0, 5] if it is not a face."""
        left, top, width, height, _ = candidate.tolist()
        side = max(1, round(max(width, height) * ZOOM_SIDE / ZOOM_FACE_SIDE))
        x, y = round(left + (width - side) / 2), round(top + (height - side) / 2)
        part = image.crop((x, y, x + side, y + side))  # black beyond the image
        small = part.resize((ZOOM_SIDE, ZOOM_SIDE), Image.Resampling.BILINEAR)
        found = self._run_network(small, MIN_ZOOM_SCORE)
        found[:, :4] *= side / ZOOM_SIDE
        found[:, :2] += (x, y)
        found = found[_compute_iou(candidate, found) > MAX_IOU]
        return found[np.argsort(-found[:, 4], kind="stable")[:1]]

    def _find_distinct(self, image: Image.Image, small: Image.Image) -> Boxes:
        """Find the distinct faces in ``small``, a reduced ``image``, in pixels of ``image``."""
        found = self._run_network(small, self._min_score)
        found = found[_suppress_overlaps(found)]
        found[:, :4] *= [image.width / small.width, image.height / small.height] * 2
        return found

    def _run_network(self, image: Image.Image, min_score: float) -> Boxes:
        """Run the network on an image and return the boxes that score enough, in its pixels."""
        framed = self._pad_image(image)
        scores, deltas = self._session.run(framed)
        return _decode_boxes(scores[0], deltas[0], framed.shape[1:], min_score)

    def _pad_image(self, image: Image.Image) -> Array:
        """Pad an image with black on the right and below: uint8 [1, H, W, 3]."""
        shape = self._session.choose_shape(_round_up((image.height, image.width, 3)))
        framed = np.zeros((1, *shape), dtype=np.uint8)
        framed[0, : image.height, : image.width] = np.asarray(image)
        return framed


def _split_into_tiles(length: int) -> list[tuple[int, int]]:
    """Divide a side into overlapping spans of equal length, at most ``CLOSE_SIDE``."""
    count = max(1, -(-(length - TILE_OVERLAP) // (CLOSE_SIDE - TILE_OVERLAP)))
    span = -(-(length + (count - 1) * TILE_OVERLAP) // count)
    starts = [(length - span) * number // max(1, count - 1) for number in range(count)]
    return [(start, start + span) for start in starts]


def _shrink(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)


def _round_up(shape: Shape) -> Shape:
    """Round height and width up to multiples of the coarsest stride."""
    return (
        -(-shape[0] // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        -(-shape[1] // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        shape[2],
    )


def _decode_boxes(scores: Array, deltas: Array, shape: Shape, min_score: float) -> Boxes:
    """Decode the cells with a face: centre = corner + d * stride, size = exp(d) * stride."""
    cells = np.flatnonzero(scores >= min_score)
    corners, strides = (each[cells] for each in _make_grid(shape))
    centres = corners + deltas[cells, :2] * strides
    sizes = np.exp(deltas[cells, 2:]) * strides
    return np.concatenate([centres - sizes / 2, sizes, scores[cells, None]], axis=1)


@functools.lru_cache(maxsize=MAX_CACHED_GRIDS)
def _make_grid(shape: Shape) -> tuple[Boxes, Boxes]:
    """Compute each cell's left and top (float32 [cells, 2]) and stride ([cells, 1]) in pixels."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = shape[0] // stride, shape[1] // stride
        left, top = np.meshgrid(np.arange(columns), np.arange(rows))
        corners.append(np.stack([left.ravel(), top.ravel()], axis=1) * stride)
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _suppress_overlaps(boxes: Boxes) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes to keep, best score first."""
    waiting = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[_compute_iou(boxes[best], boxes[waiting]) <= MAX_IOU]
    return kept


def _drop_overlapping(boxes: Boxes, others: Boxes) -> Boxes:
    """Drop the boxes that are the same face as one of ``others``."""
    return boxes[[bool((_compute_iou(box, others) <= MAX_IOU).all()) for box in boxes]]


def _compute_iou(box: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Compute the intersection over union of one box with each of the others."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:4], others[:, :2] + others[:, 2:4])
    sides = np.maximum(high - low, 0)
    shared = sides[:, 0] * sides[:, 1]
    areas = others[:, 2] * others[:, 3] + box[2] * box[3]
    overlap: npt.NDArray[np.float32] = shared / (areas - shared)
    return overlap


def _are_clear(found: Boxes, scale: float) -> bool:
    if not len(found):
        return False
    sides = found[:, 2:4].max(axis=1) * scale
    largest = int(np.argmax(found[:, 2] * found[:, 3]))
    return bool(sides.min() >= MIN_GLANCE_FACE_SIDE and found[largest, 4] >= MIN_GLANCE_SCORE)


def _to_file_boxes(photo: Photo, found: Boxes) -> tuple[Box, ...]:
    """Convert boxes to pixels of the upright file, largest first."""
    width, height = photo.image.size
    scale = np.asarray([photo.width / width, photo.height / height] * 2 + [1.0])
    boxes = [Box(*row) for row in (found * scale).tolist()]
    return tuple(sorted(boxes, key=_size_order))


def are_all_small(photo: Photo, boxes: Sequence[Box]) -> bool:
    """Return whether all faces of a photo, if any, are small; see ``is_small``."""
    return all(is_small(photo, box) for box in boxes)


def is_small(photo: Photo, box: Box) -> bool:
    """Return whether a face has too few pixels at a close look."""
    scale = CLOSE_SIDE / max(photo.width, photo.height)
    return max(box.width, box.height) * scale < MIN_CLOSE_FACE_SIDE


def _to_image_boxes(photo: Photo, boxes: Sequence[Box]) -> Boxes:
    """Convert boxes to pixels of ``photo.image``."""
    width, height = photo.image.size
    scale = np.asarray([width / photo.width, height / photo.height] * 2 + [1.0], np.float32)
    rows = [(box.left, box.top, box.width, box.height, box.score) for box in boxes]
    return np.asarray(rows, np.float32).reshape(-1, 5) * scale


def _size_order(box: Box) -> tuple[float, float, float]:
    """Sort key: largest box first."""
    return -box.area, box.left, box.top
