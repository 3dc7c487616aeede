"""Models on devices give the outputs of a single session; the CPU simulates devices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from batch.errors import ProviderError
from batch.inference.batcher import Array
from batch.inference.device_model import DeviceModel
from batch.inference.session import Session, open_session
from batch.models.contract import load_model
from batch.models.shipped import find_models
from batch.options import Device, Provider
from batch.records import Photo
from batch.vision.detector_graph import build_detector_graph
from batch.vision.faces import SIDES, Detector
from tests.support.tiny_models import SIDE, bright_model

CPU = Device(Provider.CPU)
ON_TWO = Device(Provider.CPU, devices=(0, 1))
TINY = bright_model().SerializeToString()
FRAMES = (96, 160)


def _faces(astronaut: Image.Image, number: int) -> Array:
    """Crops of a real face, each a little further to the right, as the face model sees them."""
    crops = [
        astronaut.crop((150 + n, 20, 310 + n, 180)).convert("L").resize((48, 48))
        for n in range(number)
    ]
    return np.stack([np.asarray(crop) for crop in crops])[..., None]


def _photos(astronaut: Image.Image, side: int, number: int) -> Array:
    """Photos [n, side, side, 3] as the detector sees them."""
    small = [
        np.asarray(astronaut.crop((n, n, 400, 400)).resize((side, side))) for n in range(number)
    ]
    return np.stack(small)


def _by_many(session: Session, inputs: list[Array]) -> list[list[Array]]:
    with ThreadPoolExecutor(24) as pool:
        return list(pool.map(session.run, inputs))


@pytest.fixture(scope="module")
def face_graph() -> bytes:
    (path,) = find_models("happy-sad")
    return load_model(path).graph


def test_the_face_model_answers_many_threads_as_it_does_alone(
    face_graph: bytes, astronaut: Image.Image
) -> None:
    faces = _faces(astronaut, 60)
    # From no face in a photo to more faces than a batch holds.
    inputs = [faces[n : n + n % 5] for n in range(40)] + [faces]
    alone = open_session(face_graph, CPU, faces[:1])
    shared = open_session(face_graph, ON_TWO, faces[:1], batch=8)
    assert shared.shapes == ((48, 48, 1),)
    for given, (answer,) in zip(inputs, _by_many(shared, inputs), strict=True):
        expected = alone.run(given)[0] if len(given) else np.empty((0, 3), np.float32)
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


def test_the_detector_answers_many_threads_as_it_does_alone(
    astronaut: Image.Image,
) -> None:
    warm_ups = [np.zeros((1, side, side, 3), np.uint8) for side in FRAMES]
    alone = open_session(build_detector_graph(), CPU, *warm_ups)
    shared = open_session(build_detector_graph(), ON_TWO, *warm_ups, batch=4)
    photos = {side: _photos(astronaut, side, 12) for side in FRAMES}
    inputs = [photos[side][n : n + 1] for n in range(12) for side in FRAMES]
    for given, answers in zip(inputs, _by_many(shared, inputs), strict=True):
        for answer, expected in zip(answers, alone.run(given), strict=True):
            np.testing.assert_allclose(answer, expected, rtol=1e-6, atol=1e-6)


def test_the_session_says_how_to_pad() -> None:
    warm_ups = [np.zeros((1, side, side, 3), np.uint8) for side in FRAMES]
    shared = open_session(build_detector_graph(), ON_TWO, *warm_ups, batch=2)
    assert shared.choose_shape((64, 96, 3)) == (96, 96, 3)
    assert shared.choose_shape((96, 128, 3)) == (160, 160, 3)
    assert shared.choose_shape((160, 192, 3)) == (160, 192, 3), "too large for any"
    alone = open_session(build_detector_graph(), CPU, *warm_ups)
    assert alone.choose_shape((64, 96, 3)) == (64, 96, 3)


def test_a_detector_on_devices_finds_what_it_finds_on_the_cpu(astronaut: Image.Image) -> None:
    photo = Photo(Path("p"), astronaut.convert("RGB").crop((0, 0, 512, 300)), 512, 300)
    alone, framed = Detector(CPU), Detector(ON_TWO)
    shapes = tuple((side, side, 3) for side in SIDES)
    assert framed._session.shapes == shapes
    for one, other in zip(alone.detect(photo), framed.detect(photo), strict=True):
        assert astuple(one) == pytest.approx(astuple(other), abs=0.5)
    assert framed._session.shapes == shapes, "nothing else was opened"


def test_the_model_is_run_on_full_batches_of_the_same_shape() -> None:
    model = DeviceModel(TINY, ON_TWO, device_id=0, batch=5)
    seen: list[tuple[int, ...]] = []
    for n in (1, 5, 2, 0):
        (answer,) = model.run([np.full((n, SIDE, SIDE, 1), 51, np.uint8)])
        np.testing.assert_allclose(answer, np.full((n, 2), [0.2, 0.8]), atol=1e-6)
        (bound,) = model._bound.values()
        seen.append(tuple(bound._input.shape()))
        assert bound._inference.get_inputs()[0].shape == [5, SIDE, SIDE, 1], "nothing is left open"
    assert set(seen) == {(5, SIDE, SIDE, 1)}
    assert model.shapes == ((SIDE, SIDE, 1),)


def test_no_input_of_an_earlier_batch_is_left() -> None:
    """The sum over a batch includes inputs left after its last one."""
    model = DeviceModel(_batch_sum(), ON_TWO, device_id=0, batch=4)
    ones = np.ones((3, 2), np.float32)
    assert model.run([ones])[0][0, 0] == 3
    assert model.run([ones[:1]])[0][0, 0] == 1
    assert model.run([ones[:2], ones[:2]])[0][0, 0] == 4
    assert model.run([ones[:1], ones[:1]])[0][0, 0] == 2


def test_an_answer_outlives_the_next_batch() -> None:
    model = DeviceModel(TINY, ON_TWO, device_id=0, batch=2)
    (first,) = model.run([np.full((1, SIDE, SIDE, 1), 255, np.uint8)])
    model.run([np.zeros((1, SIDE, SIDE, 1), np.uint8)])
    np.testing.assert_allclose(first, [[1, 0]], atol=1e-6)


def test_a_batch_that_fails_is_the_device_s_fault_and_ends_in_one_line() -> None:
    picture = np.full((1, SIDE, SIDE, 1), 255, np.uint8)
    shared = open_session(TINY, ON_TWO, picture, batch=4)
    with pytest.raises(ProviderError, match=r"^cpu failed on a batch \(.+\); run .+ again"):
        shared.run(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    np.testing.assert_allclose(shared.run(picture)[0], [[1, 0]], atol=1e-6)


def test_a_model_that_does_not_run_on_a_device_is_found_at_the_start() -> None:
    with pytest.raises(ProviderError, match="does not run on cpu"):
        open_session(TINY, ON_TWO, np.zeros((1, SIDE, SIDE, 3), np.uint8))


def test_a_model_must_have_one_output_row_per_input() -> None:
    with pytest.raises(ProviderError, match="one row per input"):
        open_session(_one_for_all(), ON_TWO, np.zeros((1, 2), np.float32), batch=4)


def _graph(*nodes: onnx.NodeProto) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def _one_for_all() -> bytes:
    return _graph(helper.make_node("ReduceSum", ["x", "axes"], ["y"]))


def _batch_sum() -> bytes:
    """Every row of the output is the sum over all rows of the input."""
    return _graph(
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"]),
        helper.make_node("Sub", ["x", "x"], ["nothing"]),
        helper.make_node("Add", ["nothing", "sum"], ["y"]),
    )
