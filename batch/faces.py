"""Finds the faces in a photo with YuNet through ONNX Runtime, at first with a glance."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from batch.inference.bound import Array, Shape
from batch.inference.session import Session, open_session
from batch.options import Place, Provider
from batch.records import Box, Photo, Pixels
from batch.yunet import MULTIPLE, STRIDES

# Pixels of the longer side at a glance, at most, and at a close look; never enlarged. The close
# look finds small faces, the glance those that fill the frame.
GLANCE_SIDE = 256
CLOSE_SIDE = 640
# Of web photos whose largest face scored less, the label was right little more often than by
# chance (61 % of 33 photos from 0.5 to 0.7, 93 % of 366 from 0.8).
MIN_SCORE = 0.6
# A glance will do if each face's longer side has so many pixels in it, as smaller ones may have
# others beside them that it can't see, and if the largest one scores so much.
GLANCE_FACE = 32
GLANCE_SCORE = 0.7
# A photo's detail is looked through in tiles of at most CLOSE_SIDE pixels, which overlap by so many
# that a face on an edge is seen by half at least.
TILE_OVERLAP = 96
# What scores TILE_SCORE in a tile is looked at again, enlarged or shrunk to ZOOM_FACE pixels in a
# picture of ZOOM_SIDE, and is a face if it then scores ZOOM_SCORE. Of 400 faces of 20 to 55 pixels
# this finds 310, and 4 others in 1,700 pictures that show nobody, none of which gets a sure label;
# tiles alone, with a score of 0.6, find fewer faces and ten times as many others.
TILE_SCORE = 0.3
ZOOM_SIDE = 128
ZOOM_FACE = 48
ZOOM_SCORE = 0.85
MOST_ZOOMED = 1024  # of a photo, those that score most
# A face of fewer pixels at a close look is looked for in the detail, and cut out of it.
CLOSE_FACE = 24
# Photos in a batch on a device, where each is framed as a square of one of the two sides.
BATCH = 16
# Shapes of photos whose cells are remembered, of 100 kB at most each.
GRIDS = 64
# Boxes that overlap by more than this (intersection over union) are one face.
MAX_OVERLAP = 0.3

# float32 [n, 5] of left, top, width, height in pixels of Photo.pixels, and score.
Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Glance:
    """What a glance found, the largest face first.

    ``is_all`` if a close look would see no more pixels, ``is_clear`` if it would hardly see more
    faces. ``found`` is the same as ``boxes`` in pixels of ``Photo.pixels``, for the close look.
    """

    boxes: tuple[Box, ...]
    is_all: bool
    is_clear: bool
    found: Boxes


class Detector:
    """YuNet on one place; safe to share between threads.

    ``graph`` is what ``detector_graph`` gives, None to have it read.
    """

    def __init__(
        self,
        place: Place | Provider = Provider.CPU,
        min_score: float = MIN_SCORE,
        graph: bytes | None = None,
    ) -> None:
        if graph is None:
            # Here, as a process that labels is given the graph and has no use for package onnx.
            from batch.yunet_graph import detector_graph

            graph = detector_graph()
        frames = (np.zeros((1, side, side, 3), np.uint8) for side in (GLANCE_SIDE, CLOSE_SIDE))
        self._session: Session = open_session(graph, place, *frames, batch=BATCH)
        self._min_score = min_score

    def detect(self, photo: Photo) -> tuple[Box, ...]:
        """Find the faces of a photo by a glance, a close look and one into its detail.

        The largest comes first. The detail is left alone if there are faces of some size.

        The boxes are in pixels of the upright file.
        """
        glance = self.glance(photo)
        if glance.is_all:
            return glance.boxes
        boxes = self.look_closely(photo, glance)
        if are_small(photo, boxes) and isinstance(photo.detail, Photo):
            return self.look_into(photo.detail, boxes)
        return boxes

    def glance(self, photo: Photo) -> Glance:
        """Find a photo's large faces in less than half of the time of a close look."""
        small = _reduced(photo.pixels)
        found = self._found(photo.pixels, small)
        found = found[_distinct(found)]
        is_clear = _are_clear(found, len(small) / len(photo.pixels))
        return Glance(_boxes(photo, found), small is photo.pixels, is_clear, found)

    def look_closely(self, photo: Photo, glance: Glance) -> tuple[Box, ...]:
        """Find all faces, those among them that were seen at a glance alone.

        Of a face that both have seen the close look's box is taken.
        """
        small = _shrunk(photo.pixels, CLOSE_SIDE)
        found = self._found(photo.pixels, small)
        found = found[_distinct(found)]
        return _boxes(photo, np.concatenate([found, _unseen(glance.found, found)]))

    def look_into(self, detail: Photo, seen: Sequence[Box]) -> tuple[Box, ...]:
        """Find faces in a photo's detail and add them to those that a close look has ``seen``.

        Of a face that both have seen the detail's box is taken if the face is small.
        """
        pixels = detail.pixels
        tiles = [
            (rows, columns) for rows in _spans(len(pixels)) for columns in _spans(len(pixels[0]))
        ]
        candidates = np.concatenate([self._search_tile(pixels, *tile) for tile in tiles])
        candidates = candidates[_distinct(candidates)][:MOST_ZOOMED]
        zoomed = [self._zoom(pixels, candidate) for candidate in candidates]
        found = np.concatenate([candidates[:0], *zoomed])
        found = found[_distinct(found)]
        large = _boxes_in(detail, [box for box in seen if not is_small(detail, box)])
        found = _unseen(found, large)
        kept = [
            box
            for box in seen
            if not is_small(detail, box) or len(_unseen(_boxes_in(detail, [box]), found))
        ]
        added = (replace(box, in_detail=True) for box in _boxes(detail, found))
        return tuple(sorted((*kept, *added), key=_by_size))

    def _search_tile(self, pixels: Pixels, rows: slice, columns: slice) -> Boxes:
        found = self._search(pixels[rows, columns], TILE_SCORE)
        found[:, :2] += (columns.start, rows.start)
        return found

    def _zoom(self, pixels: Pixels, candidate: Boxes) -> Boxes:
        """Look again at what may be a face: float32 [1, 5], or [0, 5] if it is none."""
        left, top, width, height, _ = candidate.tolist()
        side = max(1, round(max(width, height) * ZOOM_SIDE / ZOOM_FACE))
        x, y = round(left + (width - side) / 2), round(top + (height - side) / 2)
        inside = pixels[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
        if not inside.size:  # a box is a guess, which may lie outside
            return np.empty((0, 5), np.float32)
        # Beyond the photo it goes on in black.
        beyond = min(x, 0), min(y, 0)
        part = Image.fromarray(np.ascontiguousarray(inside)).crop(
            (*beyond, beyond[0] + side, beyond[1] + side)
        )
        small = part.resize((ZOOM_SIDE, ZOOM_SIDE), Image.Resampling.BILINEAR)
        found = self._search(np.asarray(small), ZOOM_SCORE)
        found[:, :4] *= side / ZOOM_SIDE
        found[:, :2] += (x, y)
        found = found[_overlap(candidate, found) > MAX_OVERLAP]
        return found[np.argsort(-found[:, 4], kind="stable")[:1]]

    def _found(self, pixels: Pixels, small: Pixels) -> Boxes:
        """Look at ``small`` and give boxes in pixels of ``pixels``."""
        found = self._search(small, self._min_score)
        found[:, [0, 2]] *= pixels.shape[1] / small.shape[1]
        found[:, [1, 3]] *= pixels.shape[0] / small.shape[0]
        return found

    def _search(self, small: Pixels, min_score: float) -> Boxes:
        """Run the network on pixels and give all boxes that score enough, in these pixels."""
        framed = _framed(small, self._session.shape_for(_rounded_up(small.shape)))
        scores, deltas = self._session.run(framed[None])
        return _decoded(scores[0], deltas[0], framed.shape, min_score)


def _spans(length: int) -> list[slice]:
    """Divide a side into overlapping spans of one length, ``CLOSE_SIDE`` at most."""
    count = max(1, -(-(length - TILE_OVERLAP) // (CLOSE_SIDE - TILE_OVERLAP)))
    span = -(-(length + (count - 1) * TILE_OVERLAP) // count)
    starts = [(length - span) * number // max(1, count - 1) for number in range(count)]
    return [slice(start, start + span) for start in starts]


def _reduced(pixels: Pixels) -> Pixels:
    """Shrink by a whole factor, which takes a seventh of the time that any other takes."""
    factor = -(-max(pixels.shape[:2]) // GLANCE_SIDE)
    return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))


def _shrunk(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _rounded_up(shape: Shape) -> Shape:
    """The next multiples of the coarsest stride."""
    return -(-shape[0] // MULTIPLE) * MULTIPLE, -(-shape[1] // MULTIPLE) * MULTIPLE, shape[2]


def _framed(pixels: Pixels, shape: Shape) -> Pixels:
    """Go on in black to the right and below."""
    framed = np.zeros(shape, dtype=np.uint8)
    framed[: pixels.shape[0], : pixels.shape[1]] = pixels
    return framed


def _decoded(scores: Array, deltas: Array, shape: Shape, min_score: float) -> Boxes:
    """Decode the cells that saw a face: centre = corner + d * stride, size = exp(d) * stride."""
    cells = np.flatnonzero(scores >= min_score)
    corners, strides = (each[cells] for each in _grid(shape))
    centres = corners + deltas[cells, :2] * strides
    sizes = np.exp(deltas[cells, 2:]) * strides
    return np.concatenate([centres - sizes / 2, sizes, scores[cells, None]], axis=1)


@functools.lru_cache(maxsize=GRIDS)
def _grid(shape: Shape) -> tuple[Boxes, Boxes]:
    """Each cell's corner (float32 [cells, 2], left and top) and stride ([cells, 1]) in pixels."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = shape[0] // stride, shape[1] // stride
        left, top = np.meshgrid(np.arange(columns), np.arange(rows))
        corners.append(np.stack([left.ravel(), top.ravel()], axis=1) * stride)
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _distinct(boxes: Boxes) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes to keep, best score first."""
    waiting = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[_overlap(boxes[best], boxes[waiting]) <= MAX_OVERLAP]
    return kept


def _unseen(boxes: Boxes, others: Boxes) -> Boxes:
    """Those of ``boxes`` that are none of ``others``."""
    return boxes[[bool((_overlap(box, others) <= MAX_OVERLAP).all()) for box in boxes]]


def _overlap(box: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of one box with each of the others."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[:2] + box[2:4], others[:, :2] + others[:, 2:4])
    shared = (high - low).clip(0).prod(axis=1)
    areas = others[:, 2] * others[:, 3] + box[2] * box[3]
    overlap: npt.NDArray[np.float32] = shared / (areas - shared)
    return overlap


def _are_clear(found: Boxes, scale: float) -> bool:
    if not len(found):
        return False
    sides = found[:, 2:4].max(axis=1) * scale
    largest = int(np.argmax(found[:, 2] * found[:, 3]))
    return bool(sides.min() >= GLANCE_FACE and found[largest, 4] >= GLANCE_SCORE)


def _boxes(photo: Photo, found: Boxes) -> tuple[Box, ...]:
    """Bring boxes to pixels of the upright file, the largest first."""
    height, width = photo.pixels.shape[:2]
    scale = np.asarray([photo.width / width, photo.height / height] * 2 + [1.0])
    boxes = [Box(*row) for row in (found * scale).tolist()]
    return tuple(sorted(boxes, key=_by_size))


def are_small(photo: Photo, boxes: Sequence[Box]) -> bool:
    """Whether a close look shows all faces of a photo with few pixels, if any."""
    return all(is_small(photo, box) for box in boxes)


def is_small(photo: Photo, box: Box) -> bool:
    """Whether a close look shows a face with too few pixels."""
    scale = CLOSE_SIDE / max(photo.width, photo.height)
    return max(box.width, box.height) * scale < CLOSE_FACE


def _boxes_in(photo: Photo, boxes: Sequence[Box]) -> Boxes:
    """Bring boxes to the pixels of a photo."""
    height, width = photo.pixels.shape[:2]
    scale = np.asarray([width / photo.width, height / photo.height] * 2 + [1.0], np.float32)
    rows = [(box.left, box.top, box.width, box.height, box.score) for box in boxes]
    return np.asarray(rows, np.float32).reshape(-1, 5) * scale


def _by_size(box: Box) -> tuple[float, float, float]:
    """Order boxes by size, the largest first."""
    return -box.area, box.left, box.top
