from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from batch.errors import InputError, ModelError
from batch.models.contract import load_model
from batch.models.model import Model
from tests.support.review_data import Row, is_held, write_review, write_snapshots
from tests.support.tiny_models import bright_model, save_model
from tests.support.trainer_data import WIDE_CONFIG, drawn_dataset
from trainer.cli.main import cli
from trainer.datasets.dataset import Split
from trainer.datasets.drawn_faces import Mood, draw_face
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import read_reviewed
from trainer.datasets.samples import build_split
from trainer.evaluation.exported_models import derive_framing, open_model, predict_onnx
from trainer.evaluation.gate import check_compatible
from trainer.exporting.adjust import (
    DECAY,
    AdjustedModel,
    adjust_model,
    read_unreviewed,
    write_adjusted_card,
)
from trainer.exporting.card_metadata import add_metadata, make_metadata, split_card
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.linear_head import LinearHead, compute_features, find_head, replace_head
from trainer.exporting.onnx_graph import store_as_float16
from trainer.exporting.publish_model import publish_model, read_card
from trainer.training.checkpoint import load_trained_network
from trainer.training.loop import train

SIDE = 24
NOTE = "A note on the sample."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small network that tells drawn happy faces from sad ones."""
    folder = tmp_path_factory.mktemp("tiny")
    data = drawn_dataset()
    train(data, WIDE_CONFIG, folder / "run")
    options = ExportOptions(
        name="tiny", created="2026-01-02", labels={"happy": "happiness", "sad": "sadness"}
    )
    exported = export_model(load_trained_network(folder / "run"), data, options)
    path = folder / "tiny.onnx"
    publish_model(exported.graph, f"# tiny\n\n`{exported.digest}`\n\n## Data\n\nDrawn.\n", path)
    return load_model(path)


def faces(mood: Mood, count: int, first_seed: int) -> Split:
    pixels = np.stack([draw_face(mood, SIDE, 1, first_seed + n) for n in range(count)])
    votes = np.eye(2, dtype=np.float32)[[int(mood is Mood.SAD)] * count]
    return Split(pixels, votes, np.ones(count, np.bool_))


def unseen_faces(count: int, first_seed: int) -> Split:
    """Draw upside-down faces, which the model has never seen, with the label sad."""
    part = faces(Mood.HAPPY, count, first_seed)
    votes = np.eye(2, dtype=np.float32)[[1] * count]
    return Split(np.ascontiguousarray(part.pixels[:, ::-1]), votes, part.certain)


def adjusted(model: Model, decay: float = DECAY, others: int = 100) -> AdjustedModel:
    """Adjust a model to the label sad for upside-down faces."""
    own = np.concatenate([faces(mood, others // 2, 300).pixels for mood in Mood])
    return adjust_model(
        model, unseen_faces(20, 100), unseen_faces(10, 200), own[:others],
        version="2", created="2026-05-06", decay=decay,
    )  # fmt: skip


def right(graph: bytes, part: Split) -> float:
    return float((predict_onnx(graph, part.pixels).argmax(axis=1) == part.targets).mean())


def test_the_model_learns_the_reviewed_labels(tiny: Model) -> None:
    test = unseen_faces(40, 400)
    found = adjusted(tiny, decay=0.01)
    assert right(found.graph, test) > right(tiny.graph, test) + 0.3


def test_unreviewed_answers_prevent_forgetting(tiny: Model) -> None:
    usual = faces(Mood.HAPPY, 60, 500).pixels
    before = predict_onnx(tiny.graph, usual)
    few, many = (
        np.abs(predict_onnx(adjusted(tiny, 0.01, others=n).graph, usual) - before).mean()
        for n in (2, 200)
    )
    assert many < few / 4


def test_a_strong_decay_keeps_the_earlier_answers(tiny: Model) -> None:
    pixels = unseen_faces(30, 600).pixels
    before = predict_onnx(tiny.graph, pixels)
    near, far = (
        np.abs(predict_onnx(adjusted(tiny, decay).graph, pixels) - before).max()
        for decay in (1000.0, 0.01)
    )
    assert near < 0.1 < far


def test_the_file_keeps_the_contract_and_can_replace_the_old_one(
    tiny: Model, tmp_path: Path
) -> None:
    found = adjusted(tiny)
    publish_model(
        found.graph, write_adjusted_card(found, tiny, read_card(tiny), NOTE), tmp_path / "new.onnx"
    )
    model = load_model(tmp_path / "new.onnx")
    check_compatible(model, tiny)
    assert (model.spec.version, model.spec.created) == ("2", "2026-05-06")
    assert model.spec.unsure_below == tiny.spec.unsure_below
    assert model.spec.data_fingerprint != tiny.spec.data_fingerprint
    assert model.spec.metrics["split"] == "held out"
    assert model.spec.metrics["samples"] == found.test.samples == 10
    outputs = predict_onnx(found.graph, model.spec.golden.inputs)
    assert np.allclose(outputs, model.spec.golden.outputs, atol=1e-5)
    assert adjusted(tiny).graph == found.graph


def test_the_card_describes_both_models(tiny: Model, tmp_path: Path) -> None:
    found = adjusted(tiny)
    card = write_adjusted_card(found, tiny, read_card(tiny), NOTE)
    assert found.digest in card
    assert f"Adjusted from | version 1, SHA-256 `{tiny.digest}`" in card
    assert "20 reviewed answers, and the model's own answers on 100 other photos" in card
    assert "### tiny" in card
    assert "#### Data" in card
    publish_model(found.graph, card, tmp_path / "new.onnx")
    once = load_model(tmp_path / "new.onnx")
    again = write_adjusted_card(adjusted(once), once, read_card(once), NOTE)
    assert again.count("## Before the adjustment") == again.count("### tiny") == 1
    assert f"SHA-256 `{once.digest}`" in again


def test_faces_of_one_photo_count_as_one_in_the_intervals(tiny: Model) -> None:
    held = replace(unseen_faces(10, 200), groups=np.array(["photo"] * 10))
    others = faces(Mood.HAPPY, 20, 300).pixels
    found = adjust_model(tiny, unseen_faces(20, 100), held, others, "2", "2026-05-06", DECAY).test
    assert (found.samples, found.independent) == (10, 1)


def test_the_adjusted_card_has_its_own_metadata_and_the_earlier_licence(tiny: Model) -> None:
    found = adjusted(tiny)
    earlier = add_metadata(read_card(tiny), {"license": "apache-2.0", "tags": ["earlier"]})
    card = write_adjusted_card(found, tiny, earlier, NOTE)
    assert split_card(card)[0] == make_metadata(found.spec, "apache-2.0")
    assert split_card(card)[0]["model-index"][0]["results"][0]["dataset"] == {
        "type": "imagefolder",
        "name": "reviewed answers (held out)",
    }
    assert "earlier\n" not in card


def test_the_command_has_the_measured_decay_by_default() -> None:
    (default,) = (p.default for p in cli.commands["adjust"].params if p.name == "decay")
    assert default == DECAY


@pytest.mark.parametrize("name", ["happy-sad", "people", "expressions"])
def test_the_heads_of_shipped_models_reproduce_their_outputs(name: str) -> None:
    model = open_model(name)
    graph = onnx.load_from_string(model.graph)
    head = find_head(graph, model.path)
    pixels = model.spec.golden.inputs
    logits = head.logits(compute_features(model, graph, head, pixels))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = head.outputs(powers / powers.sum(axis=1, keepdims=True))
    assert np.allclose(shares, model.spec.golden.outputs, atol=1e-3)


def test_a_vote_for_a_sum_of_classes_is_divided_by_their_probabilities() -> None:
    pooled = np.asarray([[1, 0], [0, 1], [0, 1]], np.float32)
    head = LinearHead(np.zeros((3, 1), np.float32), np.zeros(3, np.float32), "", ("", ""), pooled)
    classes = np.asarray([[0.2, 0.6, 0.2], [0.2, 0.6, 0.2], [1, 0, 0]], np.float32)
    assert np.allclose(head.outputs(classes), np.asarray([[0.2, 0.8], [0.2, 0.8], [1, 0]]))
    votes = np.asarray([[0, 1], [1, 0], [1, 0]], np.float32)
    divided = np.asarray([[0, 0.75, 0.25], [1, 0, 0], [1, 0, 0]])
    assert np.allclose(head.class_votes(classes, votes), divided)


@pytest.mark.parametrize(("name", "reason"), [("happy-sad", "neither"), ("people", "no_person")])
def test_an_abstain_output_can_be_learnt(name: str, reason: str) -> None:
    model = open_model(name)
    side, channels = model.height, model.channels
    pixels = np.stack([draw_face(Mood.HAPPY, side, channels, n) for n in range(30)])
    wanted = model.spec.outputs.index(reason)
    votes = np.eye(len(model.spec.outputs), dtype=np.float32)[[wanted] * 30]
    learn, held = (
        Split(pixels[chosen], votes[chosen], np.ones(15, np.bool_))
        for chosen in (slice(0, 15), slice(15, 30))
    )
    others = model.spec.golden.inputs
    found = adjust_model(model, learn, held, others, "2", "2026-05-06", decay=0.01)
    before = predict_onnx(model.graph, held.pixels)[:, wanted].mean()
    after = predict_onnx(found.graph, held.pixels)[:, wanted].mean()
    assert after > before + 0.2
    assert found.test.labels == model.spec.outputs


def test_float16_weights_are_replaced_too(tiny: Model) -> None:
    graph = onnx.load_from_string(tiny.graph)
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    store_as_float16(graph)
    head = find_head(graph, tiny.path)
    turned = replace(head, weight=head.weight[::-1].copy(), bias=head.bias[::-1].copy())
    pixels = faces(Mood.SAD, 5, 700).pixels
    before = predict_onnx(graph.SerializeToString(), pixels)
    after = predict_onnx(replace_head(graph, turned).SerializeToString(), pixels)
    assert np.allclose(after, before[:, ::-1], atol=1e-6)


def test_a_model_without_a_linear_head_is_refused(tmp_path: Path) -> None:
    path = save_model(bright_model(), tmp_path / "bright.onnx")
    with pytest.raises(ModelError, match=r"bright\.onnx has no last layer that can be adjusted"):
        find_head(onnx.load(path), path)


def test_missing_samples_are_an_error(tiny: Model) -> None:
    some, none = faces(Mood.SAD, 3, 0), build_split([], 2, derive_framing(tiny))
    arguments = {"version": "2", "created": "2026-05-06", "decay": 1.0}
    with pytest.raises(InputError, match="there are 0 reviewed samples to learn from and 3"):
        adjust_model(tiny, none, some, some.pixels, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there are 3 reviewed samples to learn from and 0"):
        adjust_model(tiny, some, none, some.pixels, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="all photos of the report are reviewed"):
        adjust_model(tiny, some, some, none.pixels, **arguments)  # type: ignore[arg-type]


BOX: Row = {"face_left": 0, "face_top": 0, "face_width": 32, "face_height": 32}
REPORT = "path,status,label,face,face_left,face_top,face_width,face_height\n"


def test_unreviewed_photos_of_the_report_are_selected(tmp_path: Path, tiny: Model) -> None:
    night = write_snapshots(tmp_path, Mood.SAD, learn=2, held=1, first_seed=0)
    rest = write_snapshots(tmp_path, Mood.HAPPY, learn=15, held=5, first_seed=100)
    rest.sort(key=is_held)
    rows: list[Row] = [{"path": p.name, **BOX, "said": "happy", "label": "sad"} for p in night]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    reviewed = read_reviewed(review, ("happy", "sad"), derive_framing(tiny))
    report = tmp_path / "results.csv"
    lines = [f"{p.name},ok,happy,1,0,0,32,32" for p in (*night, *rest[5:])]
    lines += [f"{p.name},neither,,1,0,0,32,32" for p in rest[:5]]
    lines += [f"{rest[-1].name},ok,happy,,,,,", "gone.png,ok,happy,1,0,0,9,9"]
    lines += ["failed.png,failed,,,,,,"]
    report.write_text(REPORT + "\n".join(lines) + "\n")
    others = read_unreviewed(report, review, reviewed)
    assert others.shape == (5 * 2, SIDE, SIDE, 1)
    learnt = reviewed.get_split((*reviewed.learn, *reviewed.held)).pixels
    assert not {p.tobytes() for p in others} & {p.tobytes() for p in learnt}
    assert np.array_equal(read_unreviewed(report, review, reviewed), others)
    answered = [line for line in lines if ",neither," in line]
    report.write_text(REPORT + "\n".join(answered) + "\n")
    assert len(read_unreviewed(report, review, reviewed)) == 5
    # Photos that people may review later as a part of the sample are not trained on.
    more = [f"{path.name},ok,happy,1,0,0,32,32" for path in rest if is_held(path)]
    assert len(more) == 5
    report.write_text(REPORT + "\n".join([*answered, *more]) + "\n")
    assert len(read_unreviewed(report, review, reviewed)) == 5
    # A person's answer in the report is not the model's.
    people = [
        f"{line},{source}" for line, source in zip(answered, ["review"] + ["face"] * 4, strict=True)
    ]
    report.write_text("\n".join([REPORT.rstrip() + ",source", *people]) + "\n")
    assert len(read_unreviewed(report, review, reviewed)) == 4
    # A copy of a reviewed photo is skipped, although its path and bytes are others.
    with Image.open(night[0]) as image:
        for compression in range(10):
            copy = image.point(lambda level: max(0, level - 2))
            copy.save(tmp_path / "copy.png", compress_level=compression)
            if not is_held(tmp_path / "copy.png"):
                break
    report.write_text(REPORT + "\n".join([*answered, "copy.png,ok,happy,1,0,0,32,32"]) + "\n")
    assert len(read_unreviewed(report, review, reviewed)) == 5


def test_a_report_without_boxes_is_refused(tmp_path: Path, tiny: Model) -> None:
    (photo,) = write_snapshots(tmp_path, Mood.SAD, learn=1, held=0, first_seed=0)
    rows: list[Row] = [{"path": photo.name, **BOX, "said": "sad", "label": "sad"}]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    reviewed = read_reviewed(review, ("happy", "sad"), derive_framing(tiny))
    report = tmp_path / "results.csv"
    report.write_text("path,status,label\na,ok,sad\n")
    with pytest.raises(InputError, match=r"report .*results\.csv lacks face_left"):
        read_unreviewed(report, review, reviewed)
    report.write_text(REPORT + "a,ok,happy,1,x,0,1,1\n")
    with pytest.raises(InputError, match="line 2"):
        read_unreviewed(report, review, reviewed)
