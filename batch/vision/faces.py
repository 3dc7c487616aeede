"""Finds the faces in a photo with YuNet through ONNX Runtime, at first with a glance."""

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

# Pixels of the longer side at a first and a second glance and at a close look, at most; never
# enlarged. The close look finds small faces, the first glance those that fill the frame.
FIRST_GLANCE_SIDE = 128
GLANCE_SIDE = 256
CLOSE_SIDE = 640
SIDES = (FIRST_GLANCE_SIDE, GLANCE_SIDE, CLOSE_SIDE)
# Of web photos whose largest face scored less, the label was right little more often than by
# chance (61 % of 33 photos from 0.5 to 0.7, 93 % of 366 from 0.8).
MIN_SCORE = 0.6
# A glance will do if each face's longer side has so many pixels in it, as smaller ones may have
# others beside them that it can't see, and if the largest one scores so much.
MIN_GLANCE_FACE_SIDE = 32
MIN_GLANCE_SCORE = 0.7
# A photo's detail is looked through in tiles of at most CLOSE_SIDE pixels, which overlap by so many
# that a face on an edge is seen by half at least.
TILE_OVERLAP = 96
# What scores TILE_SCORE in a tile is looked at again, enlarged or shrunk to ZOOM_FACE pixels in a
# picture of ZOOM_SIDE, and is a face if it then scores ZOOM_SCORE. Of 400 faces of 20 to 55 pixels
# this finds 310, and 4 others in 1,700 pictures that show nobody, none of which gets a sure label;
# tiles alone, with a score of 0.6, find fewer faces and ten times as many others.
MIN_TILE_SCORE = 0.3
ZOOM_SIDE = 128
ZOOM_FACE_SIDE = 48
MIN_ZOOM_SCORE = 0.85
MAX_ZOOMED = 1024  # of a photo, those that score most
# A face of fewer pixels at a close look is looked for in the detail, and cut out of it.
MIN_CLOSE_FACE_SIDE = 24
# Photos in a batch on a device, where each is framed as a square of one of the two sides.
DETECTOR_BATCH_SIZE = 16
# Shapes of photos whose cells are remembered, of 100 kB at most each.
MAX_CACHED_GRIDS = 64
# Boxes that overlap by more than this (intersection over union) are one face.
MAX_IOU = 0.3

# float32 [n, 5] of left, top, width, height in pixels of Photo.image, and score.
Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Glance:
    """What a glance found, the largest face first.

    ``is_full_size`` if a close look would see no more pixels, ``is_clear`` if it would hardly see more
    faces. ``found`` is the same as ``boxes`` in pixels of ``Photo.image``, for the close look.
    """

    boxes: tuple[Box, ...]
    is_full_size: bool
    is_clear: bool
    found: Boxes


class Detector:
    """YuNet on one place; safe to share between threads.

    ``graph`` is what ``build_detector_graph`` gives, None to have it read.
    """

    def __init__(
        self,
        place: Device | Provider = Provider.CPU,
        min_score: float = MIN_SCORE,
        graph: bytes | None = None,
    ) -> None:
        if graph is None:
            # Here, as a process that labels is given the graph and has no use for package onnx.
            from batch.vision.detector_graph import build_detector_graph

            graph = build_detector_graph()
        frames = (np.zeros((1, side, side, 3), np.uint8) for side in SIDES)
        self._session: Session = open_session(graph, place, *frames, batch=DETECTOR_BATCH_SIZE)
        self._min_score = min_score

    def detect(self, photo: Photo) -> tuple[Box, ...]:
        """Find the faces of a photo by a glance, a close look and one into its detail.

        The largest comes first. The detail is left alone if there are faces of some size.

        The boxes are in pixels of the upright file.
        """
        glance = self.glance(photo)
        if glance.is_full_size:
            return glance.boxes
        boxes = self.look_closely(photo, glance)
        if are_all_small(photo, boxes) and isinstance(photo.detail, Photo):
            return self.search_detail(photo.detail, boxes)
        return boxes

    def glance(self, photo: Photo) -> Glance:
        """Find a photo's large faces; a second time with more pixels if the first is not clear."""
        glance = self._glance(photo, FIRST_GLANCE_SIDE)
        if glance.is_clear or glance.is_full_size:
            return glance
        return self._glance(photo, GLANCE_SIDE)

    def look_closely(self, photo: Photo, glance: Glance) -> tuple[Box, ...]:
        """Find all faces, those among them that were seen at a glance alone.

        Of a face that both have seen the close look's box is taken.
        """
        found = self._find_distinct(photo.image, _shrink(photo.image, CLOSE_SIDE))
        return _to_file_boxes(
            photo, np.concatenate([found, _drop_overlapping(glance.found, found)])
        )

    def search_detail(self, detail: Photo, seen: Sequence[Box]) -> tuple[Box, ...]:
        """Find faces in a photo's detail and add them to those that a close look has ``seen``.

        Of a face that both have seen the detail's box is taken if the face is small.
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
        # By a whole factor, which takes a seventh of the time that any other takes.
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
        """Look again at what may be a face: float32 [1, 5], or [0, 5] if it is none."""
        left, top, width, height, _ = candidate.tolist()
        side = max(1, round(max(width, height) * ZOOM_SIDE / ZOOM_FACE_SIDE))
        x, y = round(left + (width - side) / 2), round(top + (height - side) / 2)
        part = image.crop((x, y, x + side, y + side))  # beyond the image it is black
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
        """Run the network on an image and give all boxes that score enough, in its pixels."""
        framed = self._pad_image(image)
        scores, deltas = self._session.run(framed)
        return _decode_boxes(scores[0], deltas[0], framed.shape[1:], min_score)

    def _pad_image(self, image: Image.Image) -> Array:
        """Make of an image what the network takes: black to the right and below."""
        shape = self._session.choose_shape(_round_up((image.height, image.width, 3)))
        framed = np.zeros((1, *shape), dtype=np.uint8)
        framed[0, : image.height, : image.width] = np.asarray(image)
        return framed


def _split_into_tiles(length: int) -> list[tuple[int, int]]:
    """Divide a side into overlapping spans of one length, ``CLOSE_SIDE`` at most."""
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
    """The next multiples of the coarsest stride."""
    return (
        -(-shape[0] // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        -(-shape[1] // SIDE_MULTIPLE) * SIDE_MULTIPLE,
        shape[2],
    )


def _decode_boxes(scores: Array, deltas: Array, shape: Shape, min_score: float) -> Boxes:
    """Decode the cells that saw a face: centre = corner + d * stride, size = exp(d) * stride."""
    cells = np.flatnonzero(scores >= min_score)
    corners, strides = (each[cells] for each in _make_grid(shape))
    centres = corners + deltas[cells, :2] * strides
    sizes = np.exp(deltas[cells, 2:]) * strides
    return np.concatenate([centres - sizes / 2, sizes, scores[cells, None]], axis=1)


@functools.lru_cache(maxsize=MAX_CACHED_GRIDS)
def _make_grid(shape: Shape) -> tuple[Boxes, Boxes]:
    """Each cell's corner (float32 [cells, 2], left and top) and stride ([cells, 1]) in pixels."""
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
    """Those of ``boxes`` that are none of ``others``."""
    return boxes[[bool((_compute_iou(box, others) <= MAX_IOU).all()) for box in boxes]]


def _compute_iou(box: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of one box with each of the others."""
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
    """Bring boxes to pixels of the upright file, the largest first."""
    width, height = photo.image.size
    scale = np.asarray([photo.width / width, photo.height / height] * 2 + [1.0])
    boxes = [Box(*row) for row in (found * scale).tolist()]
    return tuple(sorted(boxes, key=_size_order))


def are_all_small(photo: Photo, boxes: Sequence[Box]) -> bool:
    """Whether a close look shows all faces of a photo with few pixels, if any."""
    return all(is_small(photo, box) for box in boxes)


def is_small(photo: Photo, box: Box) -> bool:
    """Whether a close look shows a face with too few pixels."""
    scale = CLOSE_SIDE / max(photo.width, photo.height)
    return max(box.width, box.height) * scale < MIN_CLOSE_FACE_SIDE


def _to_image_boxes(photo: Photo, boxes: Sequence[Box]) -> Boxes:
    """Bring boxes to the pixels of a photo."""
    width, height = photo.image.size
    scale = np.asarray([width / photo.width, height / photo.height] * 2 + [1.0], np.float32)
    rows = [(box.left, box.top, box.width, box.height, box.score) for box in boxes]
    return np.asarray(rows, np.float32).reshape(-1, 5) * scale


def _size_order(box: Box) -> tuple[float, float, float]:
    """Order boxes by size, the largest first."""
    return -box.area, box.left, box.top
