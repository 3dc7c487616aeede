from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import batch
from batch import Options, Provider
from batch.inference.session import open_session
from batch.records import Box, Photo
from batch.vision.detector_file import STRIDES, read_detector
from batch.vision.detector_graph import DELTAS, SCORES, build_detector_graph
from batch.vision.faces import (
    CLOSE_SIDE,
    FIRST_GLANCE_SIDE,
    GLANCE_SIDE,
    MIN_GLANCE_FACE_SIDE,
    Boxes,
    Detector,
)

# Where the face is in the astronaut's picture, 512 pixels wide: left, top, right, bottom.
FACE = (170, 60, 280, 210)
# Crop of a portrait around it.
HEAD = (120, 20, 340, 240)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


def _photo(image: Image.Image) -> Photo:
    return Photo(Path("p.png"), image.convert("RGB"), *image.size)


def _crowd(astronaut: Image.Image, sizes: tuple[int, ...], side: int) -> Image.Image:
    """Paste copies of a picture in these sizes in rows on grey."""
    crowd = Image.new("RGB", (side, side), "grey")
    x = y = row = 0
    for size in sizes:
        if x + size > side:
            x, y, row = 0, y + row, 0
        crowd.paste(astronaut.resize((size, size)), (x, y))
        x, row = x + size, max(row, size)
    return crowd


def test_the_rebuilt_network_gives_the_outputs_of_its_file(astronaut: Image.Image) -> None:
    # The file itself takes only 640 x 640 pixels.
    pixels = np.asarray(astronaut.convert("RGB").resize((640, 640)))
    blue_first = pixels[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    names = [value.name for value in onnx.load_model_from_string(read_detector()).graph.output]
    outputs = open_session(read_detector(), Provider.CPU, blue_first).run(blue_first)
    raw = dict(zip(names, outputs, strict=True))

    ours = open_session(build_detector_graph(), Provider.CPU, pixels[None])
    assert [output.name for output in ours.inference.get_outputs()] == [SCORES, DELTAS]
    scores, deltas = ours.run(pixels[None])
    cls, obj, boxes = (
        np.concatenate([raw[f"{kind}_{stride}"] for stride in STRIDES], axis=1)
        for kind in ("cls", "obj", "bbox")
    )
    assert scores.max() > 0.8
    np.testing.assert_allclose(scores, np.sqrt(cls * obj)[:, :, 0], atol=1e-3)
    np.testing.assert_allclose(deltas, boxes, atol=1e-3)


def test_photos_in_a_batch_get_the_results_of_each_alone(astronaut: Image.Image) -> None:
    pixels = np.asarray(astronaut.convert("RGB").resize((192, 192)))
    both = np.stack([pixels, pixels[:, ::-1]])
    session = open_session(build_detector_graph(), Provider.CPU, both)
    for together, alone in zip(session.run(both), session.run(both[1:]), strict=True):
        np.testing.assert_allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_large_face_is_found_at_a_glance(
    detector: Detector, astronaut: Image.Image, scale: int
) -> None:
    large = astronaut.resize((512 * scale, 512 * scale))
    glance = detector.glance(_photo(large))
    assert glance.is_clear
    assert not glance.is_full_size
    (box,) = glance.boxes
    left, top, right, bottom = (edge * scale for edge in FACE)
    assert left < box.left + box.width / 2 < right
    assert top < box.top + box.height / 2 < bottom
    assert 60 * scale < box.width < 120 * scale


def test_a_face_that_fills_the_photo_is_found_at_the_first_glance(
    detector: Detector, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []

    def search(image: Image.Image, min_score: float) -> Boxes:
        sides.append(max(image.size))
        return Detector._run_network(detector, image, min_score)

    monkeypatch.setattr(detector, "_run_network", search)
    head = astronaut.crop(HEAD).resize((1024, 1024))
    assert detector.glance(_photo(head)).is_clear
    assert sides == [FIRST_GLANCE_SIDE]
    del sides[:]
    # The face is too small for the first glance, but not for the second.
    assert detector.glance(_photo(astronaut)).is_clear
    assert sides == [FIRST_GLANCE_SIDE, GLANCE_SIDE]


def test_the_graph_has_no_unused_nodes() -> None:
    graph = onnx.load_model_from_string(build_detector_graph()).graph
    used = {SCORES, DELTAS}.union(*(node.input for node in graph.node))
    assert all(used & set(node.output) for node in graph.node)
    assert {tensor.name for tensor in graph.initializer} <= used


def test_a_small_photo_needs_no_close_look(detector: Detector, astronaut: Image.Image) -> None:
    glance = detector.glance(_photo(astronaut.resize((GLANCE_SIDE, GLANCE_SIDE))))
    assert glance.is_full_size
    assert len(glance.boxes) == 1


def test_a_close_look_finds_what_a_glance_misses(
    detector: Detector, astronaut: Image.Image
) -> None:
    # The face is a sixth of its copy: 15 pixels at a close look, too few at a glance.
    photo = _photo(_crowd(astronaut, (90,) * 4, CLOSE_SIDE))
    glance = detector.glance(photo)
    assert not glance.is_clear
    assert len(detector.detect(photo)) == 4


def test_small_faces_make_a_glance_unclear(detector: Detector, astronaut: Image.Image) -> None:
    glance = detector.glance(_photo(_crowd(astronaut, (600, 256), 1024)))
    assert len(glance.boxes) == 2
    assert glance.boxes[1].width * GLANCE_SIDE / 1024 < MIN_GLANCE_FACE_SIDE
    assert not glance.is_clear


def test_a_face_that_both_looks_see_counts_once(detector: Detector, astronaut: Image.Image) -> None:
    photo = _photo(astronaut)
    glance = detector.glance(photo)
    (close,) = detector.look_closely(photo, glance)
    assert close != glance.boxes[0]


def test_the_faces_of_a_clear_glance_need_no_close_look(
    detector: Detector, astronaut: Image.Image
) -> None:
    photo = _photo(astronaut)
    glance = detector.glance(photo)
    assert glance.is_clear
    assert glance.suffices()
    assert not glance.suffices(per_face=True)
    assert detector.detect(photo) == glance.boxes


def test_the_largest_face_is_first_in_pixels_of_the_file(
    detector: Detector, astronaut: Image.Image
) -> None:
    crowd = _crowd(astronaut, (300, 450), 768)
    whole, shrunk = (
        detector.detect(Photo(Path("p"), image, 768, 768))
        for image in (crowd, crowd.resize((384, 384)))
    )
    for boxes in (whole, shrunk):
        assert [round(box.left + box.width / 2) // 300 for box in boxes] == [1, 0]
    assert shrunk[0].width == pytest.approx(whole[0].width, rel=0.15)


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (2000, 3), (31, 33), (257, 5)])
def test_photos_of_any_shape_are_searched(detector: Detector, size: tuple[int, int]) -> None:
    boxes: tuple[Box, ...] = detector.detect(_photo(Image.new("RGB", size, "white")))
    assert boxes == ()


def test_per_face_finds_every_face(tmp_path: Path, astronaut: Image.Image) -> None:
    crowd = _crowd(astronaut, (640, 80, 80, 80), 800)
    crowd.save(tmp_path / "crowd.png")
    models = Options(provider=Provider.CPU, model="happy-sad")
    (row,) = batch.label([tmp_path / "crowd.png"], models)
    (every,) = batch.label(
        [tmp_path / "crowd.png"], Options(provider=Provider.CPU, model="happy-sad", per_face=True)
    )
    assert len(row.faces) == 1
    assert len(every.faces) == 4
    assert row.answer
    assert every.answer
    assert row.answer.label == every.answer.label == "happy"
