"""An explanation has the answer of a run, and its map predicts the effect of changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image, ImageFilter

import batch
from batch.errors import InputError, PhotoError
from batch.explaining.explainer import MAX_FACES, log_odds
from batch.explaining.explanation import Explanation, describe_map, subtitle_text, title_text
from batch.explaining.occlusion import SPOTS_PER_SIDE, Floats, occlude_spots, upsample_spots
from batch.models.fusion import FusionWeights
from batch.models.model import GoldenSamples
from batch.options import Options, Provider
from batch.records import Photo, Pixels, Region, Source, Status
from batch.vision.crop import resize_photo
from batch.vision.decode import decode
from tests.support.tiny_models import (
    SIDE,
    bright_fusion,
    bright_model,
    bright_outputs,
    bright_spec,
    downgrade_to_schema_1,
    save_model,
)

CPU = Options(provider=Provider.CPU)


@pytest.fixture
def portrait(tmp_path: Path, astronaut: Image.Image) -> Path:
    path = tmp_path / "astronaut.png"
    astronaut.save(path)
    return path


def _log_odds(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def _model(path: Path, spec: object, weights: Floats, bias: tuple[float, float]) -> str:
    """Save a whole-photo model that weighs 8 x 8 grey pixels, and adds ``bias``."""
    model = bright_model(spec)  # type: ignore[arg-type]
    del model.graph.node[2]  # the mean over the picture
    model.graph.node[2].input[0] = "planes"
    kernel = np.stack([weights, -weights]).reshape(2, 1, SIDE, SIDE).astype(np.float32)
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(kernel, "weights"),
            numpy_helper.from_array(np.asarray(bias, dtype=np.float32), "bias"),
        ]
    )
    onnx.checker.check_model(model)
    # The older schema has room for a model whose golden answers are all alike.
    return str(save_model(downgrade_to_schema_1(model), path))


def _answers(inputs: GoldenSamples, weights: Floats, bias: tuple[float, float]) -> GoldenSamples:
    happy = (inputs.inputs[..., 0] * weights).sum(axis=(1, 2)) + bias[0]
    return GoldenSamples(inputs.inputs, np.stack([happy, 1 - happy], axis=1).astype(np.float32))


@pytest.mark.parametrize("model", ["happy-sad+people", "happy-sad", "people", "expressions"])
def test_the_answer_is_the_one_that_a_run_reports(
    photos: Path, astronaut: Image.Image, model: str
) -> None:
    pair = Image.new("RGB", (900, 512), "white")
    pair.paste(astronaut, (0, 0))
    pair.paste(astronaut.resize((300, 300)), (560, 150))
    pair.save(photos / "pair.webp")
    astronaut.crop((150, 0, 300, 110)).save(photos / "part.png")
    options = replace(CPU, model=model)
    answered = [row for row in batch.label([photos], options) if row.answer is not None]
    assert len(answered) >= 3
    for row in answered:
        assert batch.explain(row.path, options).row == row


def test_a_happy_face_depends_on_its_smile(portrait: Path) -> None:
    explanation = batch.explain(portrait, CPU)
    (view,) = explanation.views
    assert (view.region, explanation.row.source) == (Region.FACE, Source.FACE)
    heat = explanation.heat()
    box = explanation.answer.box
    assert box is not None
    inside = np.zeros(heat.shape, dtype=bool)
    reach = max(box.width, box.height) / 2 + 1
    centre = box.left + box.width / 2, box.top + box.height / 2
    inside[
        int(centre[1] - reach) : int(centre[1] + reach) + 1,
        int(centre[0] - reach) : int(centre[0] + reach) + 1,
    ] = True
    assert not heat[~inside].any()
    face = upsample_spots(view.importance, 100, 100).clip(0)
    mouth, border = face[60:90, 25:75], face.copy()
    border[12:88, 12:88] = np.nan
    assert mouth.mean() > 5 * np.nanmean(border)
    row, column = np.unravel_index(int(face.argmax()), face.shape)
    assert 60 <= row <= 95
    assert 30 <= column <= 70


def test_the_map_predicts_the_effect_of_blurring_the_photo(
    portrait: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    explanation = batch.explain(portrait, CPU)
    (view,) = explanation.views

    def without(row: int, column: int) -> float:
        """Blur the photo itself around a spot, and label it as a run does."""
        x, y = view.left + view.width * column / 12, view.top + view.height * row / 12
        reach = view.width / 8
        spot = round(x - reach), round(y - reach), round(x + reach), round(y + reach)
        changed = astronaut.copy()
        changed.paste(changed.crop(spot).filter(ImageFilter.GaussianBlur(reach)), spot)
        changed.save(tmp_path / "changed.png")
        (answered,) = batch.label([tmp_path / "changed.png"], CPU)
        assert answered.answer is not None
        return log_odds("happy", answered.answer.probabilities)

    order = np.argsort(view.importance.ravel())
    strong = [divmod(int(spot), SPOTS_PER_SIDE) for spot in order[-3:]]
    weak = [divmod(int(spot), SPOTS_PER_SIDE) for spot in order[len(order) // 2 :][:3]]
    fall = [
        explanation.certainty - np.mean([without(*s) for s in spots]) for spots in (strong, weak)
    ]
    assert fall[0] > 1
    assert fall[0] > 3 * abs(fall[1])


def test_a_model_that_ignores_its_input_gives_a_flat_map(portrait: Path, tmp_path: Path) -> None:
    blind = np.zeros((SIDE, SIDE), dtype=np.float32)
    golden = _answers(bright_spec().golden, blind, (0.7, 0.3))
    spec = bright_spec(region=Region.IMAGE, golden=golden)
    model = _model(tmp_path / "blind.onnx", spec, blind, (0.7, 0.3))
    explanation = batch.explain(portrait, replace(CPU, model=model))
    assert explanation.answer.label == "happy"
    assert not explanation.heat().any()
    assert describe_map(explanation)[-1] == "No single spot changes the answer much."


def test_the_map_shows_the_corner_that_a_model_depends_on(portrait: Path, tmp_path: Path) -> None:
    corner = np.zeros((SIDE, SIDE), dtype=np.float32)
    corner[:2, -2:] = 0.9 / (4 * 255)
    golden = _answers(bright_spec().golden, corner, (0.0, 1.0))
    spec = bright_spec(region=Region.IMAGE, golden=golden)
    model = _model(tmp_path / "corner.onnx", spec, corner, (0.0, 1.0))
    photo = np.zeros((80, 80), dtype=np.uint8)
    photo[:20, -20:] = 255
    photo[50:70, 10:30] = 255  # as bright, but not looked at
    Image.fromarray(photo).save(tmp_path / "corner.png")
    explanation = batch.explain(tmp_path / "corner.png", replace(CPU, model=model))
    assert explanation.answer.label == "happy"
    heat = explanation.heat()
    assert heat[:20, -20:].mean() > 0.4
    assert np.abs(heat[40:, :40]).max() < 0.01


def test_a_pair_of_models_is_explained_through_its_fusion(portrait: Path, tmp_path: Path) -> None:
    rule = FusionWeights((0.1, 0.0), 0.5, 2.0, {}, 0.0, 8.0, {})
    fusion = bright_fusion(face_model="bright", both=rule, photo=rule)
    save_model(bright_model(), tmp_path / "face.onnx")
    image = bright_spec(name="light", region=Region.IMAGE, fusion=fusion)
    save_model(bright_model(image), tmp_path / "photo.onnx")
    options = replace(CPU, model=f"{tmp_path}/face.onnx+{tmp_path}/photo.onnx")
    explanation = batch.explain(portrait, options)
    assert explanation.row.source is Source.BOTH
    face, image_view = explanation.views
    assert (face.region, image_view.region) == (Region.FACE, Region.IMAGE)
    place = (image_view.left, image_view.top, image_view.width, image_view.height)
    assert place == (0, 0, 512, 512)

    view = _view(portrait)
    bright = np.concatenate([part.mean(axis=(1, 2, 3)) for part in occlude_spots(view)]) / 255
    sign = 1 if explanation.answer.label == "happy" else -1
    expected = [sign * 2.0 * (_log_odds(view.mean() / 255) - _log_odds(p)) for p in bright]
    assert np.abs(image_view.importance).max() > 0.01
    assert image_view.importance.ravel() == pytest.approx(expected, abs=1e-3)


def _view(path: Path) -> Pixels:
    """Return the input of a whole-photo model for a file."""
    photo = decode(path)
    assert isinstance(photo, Photo)
    return resize_photo(photo, SIDE, SIDE, 1)


def _spotted(folder: Path) -> Path:
    """Save a dark picture with a bright spot, which is darker once the spot is blurred."""
    pixels = np.full((80, 80), 60, dtype=np.uint8)
    pixels[10:30, 50:70] = 255
    Image.fromarray(pixels).save(folder / "spotted.png")
    return folder / "spotted.png"


def _abstaining(folder: Path, neither: float, no_person: float) -> Options:
    abstain = {"neither": neither, "no_person": no_person}
    spec = bright_spec(region=Region.IMAGE, abstain_from=abstain)
    return replace(CPU, model=str(save_model(bright_model(spec), folder / "abstaining.onnx")))


def _greys_without_spots(photo: Path) -> tuple[float, list[float]]:
    """Return the mean grey of the model's input, and of the input with each spot hidden."""
    view = _view(photo)
    parts = np.concatenate([part.mean(axis=(1, 2, 3)) for part in occlude_spots(view)])
    return float(view.mean()), parts.tolist()


@pytest.mark.parametrize(
    ("neither", "no_person", "status", "output", "named"),
    [
        (1.0, 0.3, Status.NO_PERSON, 3, "no person"),
        (0.1, 1.0, Status.NEITHER, 2, "neither happy nor sad"),
        (1.0, 1.0, Status.UNSURE, 0, "happy"),
    ],
)
def test_an_answer_without_a_label_has_an_explanation(
    tmp_path: Path, neither: float, no_person: float, status: Status, output: int, named: str
) -> None:
    photo, options = _spotted(tmp_path), _abstaining(tmp_path, neither, no_person)
    explanation = batch.explain(photo, options)
    (row,) = batch.label([photo], options)
    assert (explanation.row, row.status) == (row, status)
    grey, hidden_greys = _greys_without_spots(photo)
    of_all = bright_outputs([grey, *hidden_greys], abstain=2)[:, output].astype(float)
    odds = np.log(of_all / (1 - of_all))
    assert explanation.certainty == pytest.approx(odds[0], abs=1e-3)
    (view,) = explanation.views
    expected = (odds[0] - odds[1:]).reshape(SPOTS_PER_SIDE, SPOTS_PER_SIDE)
    assert np.abs(expected).max() > 0.015
    assert view.importance == pytest.approx(expected, abs=1e-3)
    assert title_text(explanation) == f"{named}  {of_all[0]:.4f}"
    kind = "no label" if row.answer and row.answer.label is None else "unsure"
    assert subtitle_text(explanation) == f"{kind}; the answer depends on the whole photo"
    assert explanation.picture().width > 200


def test_with_always_answer_the_map_compares_the_labels(tmp_path: Path) -> None:
    photo = _spotted(tmp_path)
    options = replace(_abstaining(tmp_path, 0.1, 0.1), always_answer=True)
    explanation = batch.explain(photo, options)
    (row,) = batch.label([photo], options)
    assert (explanation.row, row.status) == (row, Status.OK)
    # This model has three times as much for happy as for sad, however dark a picture is.
    assert explanation.certainty == pytest.approx(np.log(3), abs=1e-4)
    assert np.abs(explanation.heat()).max() < 1e-3
    assert title_text(explanation) == "happy  0.7500"


def test_a_face_that_is_neither_has_an_explanation(tmp_path: Path, astronaut: Image.Image) -> None:
    dark = astronaut.point(lambda value: value // 3)
    dark.save(tmp_path / "dark.png")
    save_model(bright_model(bright_spec(abstain_from={"neither": 0.5})), tmp_path / "face.onnx")
    options = replace(CPU, model=str(tmp_path / "face.onnx"))
    explanation = batch.explain(tmp_path / "dark.png", options)
    assert (explanation.row.status, explanation.row.source) == (Status.NEITHER, Source.FACE)
    assert subtitle_text(explanation) == "no label; the answer depends on the face only"
    assert title_text(explanation).startswith("neither happy nor sad  0.")


@pytest.mark.parametrize(
    ("labels", "named"),
    [(("happy", "sad"), "neither happy nor sad"), (("a", "b", "c"), "none of the labels")],
)
def test_neither_is_named_by_the_labels(
    tmp_path: Path, labels: tuple[str, ...], named: str
) -> None:
    photo, options = _spotted(tmp_path), _abstaining(tmp_path, 0.1, 1.0)
    explanation = replace(batch.explain(photo, options), labels=labels)
    assert title_text(explanation).startswith(f"{named}  0.")
    strong = replace(explanation.views[0], importance=explanation.views[0].importance * 0 + 1)
    sentences = describe_map(replace(explanation, views=(strong,)))
    assert sentences[1].startswith('Red: without the spot the odds of "neither" fall, at most by')


def test_every_face_has_its_weight_in_the_answer(tmp_path: Path, astronaut: Image.Image) -> None:
    pair = Image.new("RGB", (800, 512), "white")
    pair.paste(astronaut, (0, 0))
    pair.paste(astronaut.resize((256, 256)), (520, 100))
    pair.save(tmp_path / "pair.png")
    save_model(bright_model(), tmp_path / "bright.onnx")
    options = replace(CPU, model=str(tmp_path / "bright.onnx"))
    explanation = batch.explain(tmp_path / "pair.png", options)
    large, little = explanation.views
    assert large.width == pytest.approx(2 * little.width, rel=0.1)
    assert np.abs(large.importance).max() == pytest.approx(
        4 * np.abs(little.importance).max(), rel=0.5
    )


def test_only_the_largest_faces_of_a_crowd_are_explained(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    face = astronaut.crop((150, 30, 300, 180))
    crowd = Image.new("RGB", (150 * 5, 150 * 4), "white")
    for number in range(20):
        crowd.paste(face, (number % 5 * 150, number // 5 * 150))
    crowd.save(tmp_path / "crowd.png")
    explanation = batch.explain(tmp_path / "crowd.png", replace(CPU, model="happy-sad"))
    assert len(explanation.row.faces) > MAX_FACES
    assert len(explanation.views) == MAX_FACES


def test_log_odds_stay_precise_near_a_probability_of_one() -> None:
    assert log_odds("a", {"a": 0.9, "b": 0.08, "c": 0.02}) == pytest.approx(_log_odds(0.9))
    sure = {"a": float(np.float32(1 - 2e-9)), "b": 2e-9}
    assert sure["a"] == 1
    assert log_odds("a", sure) == pytest.approx(np.log(5e8))
    assert np.isfinite(log_odds("a", {"a": 0.0, "b": 1.0}))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gone.jpg", InputError, "gone.jpg can't be found"),
        (".", PhotoError, "not_a_file"),
        ("text.jpg", PhotoError, "text.jpg can't be labelled .not_an_image"),
        ("cut.jpg", PhotoError, "truncated"),
        ("coffee.jpg", PhotoError, "coffee.jpg is no_face: happy-sad .* has no answer"),
    ],
)
def test_photos_without_an_explanation(
    photos: Path, name: str, error: type[batch.BatchLabelError], words: str
) -> None:
    (photos / "text.jpg").write_text("no photo")
    (photos / "cut.jpg").write_bytes((photos / "astronaut.jpg").read_bytes()[:9000])
    with pytest.raises(error, match=words):
        batch.explain(photos / name, replace(CPU, model="happy-sad"))


def test_the_package_exports_the_explanation() -> None:
    assert batch.Explanation is Explanation


@pytest.mark.parametrize(
    ("rule", "place"),
    [("stretch", (0, 0, 80, 40)), ("crop", (20, 0, 40, 40)), ("letterbox", (0, -20, 80, 80))],
)
def test_a_view_is_the_part_of_the_photo_that_the_model_gets(
    rule: str, place: tuple[int, ...], tmp_path: Path
) -> None:
    Image.open(_spotted(tmp_path)).crop((0, 0, 80, 40)).save(tmp_path / "wide.png")
    spec = bright_spec(region=Region.IMAGE, resize=rule)
    model = str(save_model(bright_model(spec), tmp_path / "m.onnx"))
    explanation = batch.explain(tmp_path / "wide.png", replace(CPU, model=model))
    (view,) = explanation.views
    assert (view.left, view.top, view.width, view.height) == place
    heat = explanation.heat()
    assert heat.shape == (40, 80)
    assert np.abs(heat).max() > 0
    if rule == "crop":
        assert not heat[:, :20].any()
        assert not heat[:, 60:].any()
