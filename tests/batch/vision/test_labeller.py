from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.errors import ProviderError
from batch.models.ensemble import load_ensemble
from batch.models.model import GoldenSamples
from batch.options import Device, Options, Provider
from batch.records import Box, Photo, Pixels, Probabilities, Reason, Region, Source, Status
from batch.timings import CLASSIFY, CROP, FACES
from batch.vision.crop import crop
from batch.vision.faces import Glance
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from tests.support.tiny_models import (
    GREYS,
    bright_model,
    bright_outputs,
    bright_spec,
    downgrade_to_schema_1,
    save_model,
)

CPU = Device(Provider.CPU)


def _labeller(model: str = "happy-sad+people", always_answer: bool = False) -> Labeller:
    options = Options(model=model, always_answer=always_answer)
    return Labeller(make_plan(load_ensemble(options), batch_size=32), CPU)


@pytest.fixture
def labeller(tmp_path: Path) -> Labeller:
    return _labeller(str(save_model(bright_model(), tmp_path / "bright.onnx")))


@pytest.fixture
def photo(astronaut: Image.Image) -> Photo:
    return Photo(Path("p"), astronaut.convert("RGB"), *astronaut.size)


def test_a_sure_face_needs_no_close_look_and_no_photo_model(photo: Photo) -> None:
    labeller = _labeller()
    closer: list[Photo] = []
    assert labeller._detector is not None
    labeller._detector.look_closely = lambda photo, glance: closer.append(photo)  # type: ignore[assignment,method-assign,return-value]
    row = labeller.label(photo)
    assert row.source is Source.FACE
    assert closer == []
    assert set(labeller.timings.take()) == {FACES, CROP, CLASSIFY}
    assert labeller.timings.take() == {}
    assert "pixels" not in vars(photo), "an array of the whole photo was made"


@pytest.mark.parametrize(
    ("answer", "close_looks", "source"),
    [
        ((0.94, 0.02, 0.03, 0.01), 0, Source.BOTH),  # the joined answer is sure
        ((0.4, 0.3, 0.2, 0.1), 1, Source.BOTH),
    ],
)
def test_a_close_look_is_taken_if_the_fused_answer_is_near_a_threshold(
    photo: Photo, answer: tuple[float, ...], close_looks: int, source: Source
) -> None:
    labeller = _labeller()
    detector = labeller._detector
    assert detector is not None
    looks: list[Glance] = []
    asked: list[Region] = []
    look_closely = detector.look_closely

    def look(photo: Photo, glance: Glance) -> tuple[Box, ...]:
        looks.append(glance)
        return look_closely(photo, glance)

    def ask(region: Region, crops: Pixels) -> Probabilities:
        asked.append(region)
        said = (0.6, 0.1, 0.3) if region is Region.FACE else answer
        return np.asarray([said] * len(crops), dtype=np.float32)

    detector.look_closely = look  # type: ignore[method-assign]
    labeller.classify = ask  # type: ignore[method-assign]
    assert labeller.label(photo).source is source
    assert len(looks) == close_looks
    assert asked.count(Region.IMAGE) == 1, "its answer does not depend on the boxes"
    assert asked.count(Region.FACE) == 1 + close_looks


def test_without_a_face_the_photo_model_decides(photo: Photo) -> None:
    labeller = _labeller()
    blank = Photo(photo.path, Image.new("RGB", (512, 512), (200,) * 3), 512, 512)
    row = labeller.label(blank)
    assert row.source is Source.IMAGE
    assert row.answer is not None


@pytest.mark.parametrize(
    ("grey", "always", "expected"),
    [
        (255, False, (Status.OK, "happy", 0.75)),
        (128, False, (Status.NO_PERSON, None, 0.75 * 127 / 255)),
        (90, False, (Status.NO_PERSON, None, 0.75 * 165 / 255)),
        (90, True, (Status.OK, "happy", 0.75)),
        (0, True, (Status.UNSURE, "happy", 0.5)),
    ],
)
def test_abstain_outputs_of_the_graph_become_a_status(
    tmp_path: Path, photo: Photo, grey: int, always: bool, expected: tuple[Status, str, float]
) -> None:
    spec = bright_spec(region=Region.IMAGE, abstain_from={"neither": 0.5, "no_person": 0.3})
    model = save_model(bright_model(spec), tmp_path / "whole.onnx")
    row = _labeller(str(model), always_answer=always).label(
        Photo(photo.path, Image.new("RGB", (512, 512), (grey,) * 3), 512, 512)
    )
    assert row.answer is not None
    status, label, confidence = expected
    assert (row.status, row.answer.status, row.answer.label) == (status, status, label)
    assert row.answer.confidence == pytest.approx(confidence, abs=1e-5)
    assert list(row.answer.probabilities.values()) == pytest.approx(
        bright_outputs([grey], abstain=2)[0].tolist(), abs=1e-5
    )


def test_a_model_of_schema_1_still_labels(tmp_path: Path, photo: Photo) -> None:
    old = _labeller(str(save_model(downgrade_to_schema_1(bright_model()), tmp_path / "old.onnx")))
    row = old.label(photo)
    assert row == _labeller(str(save_model(bright_model(), tmp_path / "new.onnx"))).label(photo)
    assert (row.status, row.source) == (Status.UNSURE, Source.FACE)
    assert row.answer is not None
    assert row.answer.label == "happy"
    assert list(row.answer.probabilities) == ["happy", "sad"]


def test_a_nan_answer_is_a_failure(labeller: Labeller, photo: Photo) -> None:
    classifier = labeller._classifiers[Region.FACE]
    real = classifier.classify
    classifier.classify = lambda crops: real(crops) * float("nan")  # type: ignore[method-assign]
    row = labeller.label(photo)
    assert row.failure is not None
    assert row.failure.reason is Reason.INTERNAL


def test_an_internal_error_fails_one_row(
    labeller: Labeller, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def glance(photo: Photo) -> Glance:
        raise IndexError("a defect")

    with monkeypatch.context() as broken:
        broken.setattr(labeller._detector, "glance", glance)
        row = labeller.label(photo)
    assert row.failure is not None
    assert row.failure.detail == "IndexError: a defect"
    assert labeller.label(photo).answer is not None


def test_a_device_that_fails_ends_the_run(
    labeller: Labeller, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify(crops: object) -> None:
        raise ProviderError("cuda has failed", "use the CPU")

    monkeypatch.setattr(labeller._classifiers[Region.FACE], "classify", classify)
    with pytest.raises(ProviderError):
        labeller.label(photo)


def test_a_model_of_whole_photos_needs_no_detector(tmp_path: Path, photo: Photo) -> None:
    model = save_model(bright_model(bright_spec(region=Region.IMAGE)), tmp_path / "whole.onnx")
    plan = make_plan(load_ensemble(Options(model=str(model))), batch_size=1)
    assert Labeller(plan, CPU).label(photo).source is Source.IMAGE


@pytest.mark.parametrize(("rule", "happy"), [("stretch", 0.5), ("crop", 1.0), ("letterbox", 0.25)])
def test_a_photo_is_resized_by_the_rule_of_its_model(
    rule: str, happy: float, tmp_path: Path
) -> None:
    spec = bright_spec(region=Region.IMAGE, resize=rule)
    labeller = _labeller(str(save_model(bright_model(spec), tmp_path / "m.onnx")))
    wide = Image.new("RGB", (400, 200))
    wide.paste("white", (100, 0, 300, 200))
    answer = labeller.label(Photo(Path("p"), wide, *wide.size)).answer
    assert answer is not None
    assert answer.probabilities["happy"] == pytest.approx(happy, abs=0.01)


def test_a_face_is_resized_by_the_rule_of_its_model(photo: Photo, tmp_path: Path) -> None:
    boxes = (Box(180.0, 70.0, 90.0, 106.0, 0.9),)
    for rule in ("stretch", "crop", "letterbox"):
        model = bright_model(bright_spec(resize=rule, golden=_wide_golden()))
        for dim, size in zip(
            model.graph.input[0].type.tensor_type.shape.dim[1:3], (8, 16), strict=True
        ):
            dim.dim_value = size
        labeller = _labeller(str(save_model(model, tmp_path / f"{rule}.onnx")))
        (pixels,) = labeller.crop_faces(photo, boxes)
        np.testing.assert_array_equal(pixels, crop(photo, boxes[0], 0.0, 8, 16, 1, rule))
        assert (pixels[:, :4] == 0).all() == (rule == "letterbox")


def _wide_golden() -> GoldenSamples:
    inputs = np.stack([np.full((8, 16, 1), grey, np.uint8) for grey in GREYS])
    return GoldenSamples(inputs, bright_outputs(GREYS))
