"""Networks in the forms of several exporters become models that answer alike."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto

from batch.errors import InputError, UsageError
from batch.models.contract import load_model
from batch.models.model import Model
from batch.options import Provider
from batch.records import Pixels, Region
from batch.vision.classify import Classifier
from tests.support.exported_networks import LABELS, make_network, run, save, softmax
from trainer.exporting.publish_model import publish_model
from trainer.importing.import_card import write_import_card
from trainer.importing.import_model import (
    ImportedModel,
    ImportOptions,
    ImportParityError,
    import_model,
    rename_abstain,
)
from trainer.importing.network import Layout, read_network
from trainer.importing.parity import Pictures, make_pictures_to_compare
from trainer.importing.preprocessing import Preprocessing

Floats = npt.NDArray[np.float32]
PREP = Preprocessing(scale=1 / 255)


@pytest.fixture(scope="module")
def compared() -> Pictures:
    return make_pictures_to_compare()


@pytest.fixture(scope="module")
def noise() -> Pixels:
    """Pictures of 14 x 14 pixels, in colour."""
    return np.random.default_rng(5).integers(0, 256, (7, 14, 14, 3), dtype=np.uint8)


def options(*outputs: str, **changes: Any) -> ImportOptions:
    values: dict[str, Any] = {
        "name": "mine",
        "version": "3",
        "created": "2026-01-31",
        "outputs": outputs or LABELS,
        "region": Region.IMAGE,
    }
    return ImportOptions(**(values | changes))


def wrap(
    path: Path,
    compared: Pictures,
    prep: Preprocessing = PREP,
    *outputs: str,
    layout: Layout | None = None,
    side: int | None = None,
    **changes: Any,
) -> tuple[Model, ImportedModel]:
    """Import a network, publish it, and load it as the runner does."""
    network = read_network(path, layout, side)
    imported = import_model(network, prep, options(*outputs, **changes), compared.pictures[:9])
    output = path.parent / "models" / "mine.onnx"
    card = write_import_card(imported, compared.source, None)
    publish_model(imported.graph, card, output)
    assert output.with_suffix(".md").read_text() == card
    return load_model(output), imported


def classify(model: Model, pixels: Pixels) -> Floats:
    """Classify in batches of 3, which must not matter."""
    return Classifier(model, Provider.CPU, 3).classify(pixels)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"batch": "batch"}, id="torch with a dynamic batch"),
        pytest.param({"batch": 1, "reshape_to": (1, -1)}, id="legacy torch, one picture"),
        pytest.param(
            {"batch": 1, "reshape_to": (1, -1), "allowzero": True}, id="torch.export, one picture"
        ),
        pytest.param({"batch": 1, "reshape_to": (1, 6)}, id="one picture, all sizes fixed"),
        pytest.param({"batch": 2, "reshape_to": (2, 6)}, id="two pictures"),
        pytest.param(
            {"shape": ("batch_size", "num_channels", "height", "width")}, id="Hugging Face optimum"
        ),
        pytest.param({"end": "planes"}, id="output N, K, 1, 1"),
        pytest.param(
            {
                "opset": 8, "ir_version": 3, "batch": 1, "reshape_to": (1, 6),
                "weights_are_inputs": True,
            },
            id="an old file whose weights are inputs",
        ),
    ],
)  # fmt: skip
def test_a_network_of_pytorch_answers_as_before(
    how: dict[str, Any], tmp_path: Path, compared: Pictures, noise: Pixels
) -> None:
    path = save(make_network(**how), tmp_path / "network.onnx")
    prep = Preprocessing(1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    model, imported = wrap(path, compared, prep, side=12 if "shape" in how else None)
    pixels = noise[:, :12, :12]
    values = (pixels / np.float32(255) - prep.mean) / np.asarray(prep.std)
    planes = values.transpose(0, 3, 1, 2).astype(np.float32)
    copies = how["batch"] if isinstance(how.get("batch"), int) else 1
    logits = np.stack([run(path, np.stack([plane] * copies))[0].ravel() for plane in planes])
    np.testing.assert_allclose(classify(model, pixels), softmax(logits), atol=1e-5)
    assert (model.height, model.width, model.channels) == (12, 12, 3)
    assert (model.spec.labels, model.spec.abstain) == (LABELS, ())
    assert (model.spec.version, model.spec.region) == ("3", Region.IMAGE)
    assert imported.head.softmax
    assert imported.comparison.largest < 1e-5
    assert imported.comparison.resized < 0.5


@pytest.mark.parametrize("batch", ["unk__1", 1])
def test_a_grey_network_of_keras_gives_probabilities_already(
    tmp_path: Path, compared: Pictures, noise: Pixels, batch: int | str
) -> None:
    proto = make_network(
        layout="nhwc", channels=1, end="softmax", gain=1 / 255, batch=batch,
        reshape_to=(batch if isinstance(batch, int) else -1, 6),
    )  # fmt: skip
    path = save(proto, tmp_path / "network.onnx")
    model, imported = wrap(path, compared, Preprocessing(scale=1.0))
    pixels = noise[:, :12, :12, :1]
    expected = np.concatenate([run(path, picture[None].astype(np.float32)) for picture in pixels])
    np.testing.assert_allclose(classify(model, pixels), expected, atol=1e-6)
    assert model.channels == 1
    assert not imported.head.softmax


@pytest.mark.parametrize("end", ["sigmoid", "logits"])
def test_one_output_is_the_second_of_two_labels(
    tmp_path: Path, compared: Pictures, noise: Pixels, end: str
) -> None:
    path = save(make_network(classes=1, end=end), tmp_path / "network.onnx")
    model, _ = wrap(path, compared, PREP, "happy", "sad")
    planes = (noise[:, :12, :12].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    answers = run(path, planes)
    second = answers if end == "sigmoid" else 1 / (1 + np.exp(-answers))
    expected = np.concatenate([1 - second, second], axis=1)
    np.testing.assert_allclose(classify(model, noise[:, :12, :12]), expected, atol=1e-5)


def test_channels_are_reversed_and_the_centre_is_cut_in_the_graph(
    tmp_path: Path, compared: Pictures, noise: Pixels
) -> None:
    for opset in (9, 17):
        path = save(make_network(opset=opset), tmp_path / f"{opset}.onnx")
        prep = Preprocessing(1 / 127.5, -1.0, bgr=True, resize="crop", shorter_side=14)
        model, imported = wrap(path, compared, prep)
        assert (model.height, model.spec.resize) == (14, "crop")
        planes = noise[:, 1:13, 1:13, ::-1].transpose(0, 3, 1, 2) / np.float32(127.5) - 1
        expected = softmax(run(path, planes.astype(np.float32)))
        np.testing.assert_allclose(classify(model, noise), expected, atol=1e-5)
        assert imported.comparison.largest < 1e-5


def test_abstain_outputs_come_last_in_their_order(
    tmp_path: Path, compared: Pictures, noise: Pixels
) -> None:
    path = save(make_network(classes=4), tmp_path / "network.onnx")
    outputs = rename_abstain(("empty", "happy", "neither", "sad"), {"empty": "no_person"})
    model, _ = wrap(path, compared, PREP, *outputs)
    assert model.spec.labels == ("happy", "sad")
    assert dict(model.spec.abstain_from) == {"neither": 0.5, "no_person": 0.5}
    planes = (noise[:, :12, :12].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    expected = softmax(run(path, planes))[:, [1, 3, 2, 0]]
    np.testing.assert_allclose(classify(model, noise[:, :12, :12]), expected, atol=1e-5)
    with pytest.raises(UsageError, match="names cat, which is not one of the labels"):
        rename_abstain(("happy", "sad"), {"cat": "neither"})


def test_weights_in_other_files_are_moved_inside(tmp_path: Path, compared: Pictures) -> None:
    path = tmp_path / "network.onnx"
    onnx.save_model(
        make_network(), str(path), save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    model, imported = wrap(path, compared)
    assert imported.network.has_external_data
    (tmp_path / "weights.bin").unlink()
    assert np.isfinite(classify(model, model.make_blank_input())).all()
    with pytest.raises(InputError, match=r"can't be read from .*weights\.bin.*same folder"):
        read_network(path)


def test_functions_are_inlined(tmp_path: Path, compared: Pictures) -> None:
    proto = make_network()
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Positive", "mine"
    helper = onnx.helper
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    relu = helper.make_node("Relu", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("mine", "Positive", ["x"], ["y"], [relu], opsets))
    model, _ = wrap(save(proto, tmp_path / "network.onnx"), compared)
    assert model.spec.labels == LABELS


def test_the_same_import_gives_the_same_bytes(tmp_path: Path, compared: Pictures) -> None:
    path = save(make_network(), tmp_path / "network.onnx")
    assert wrap(path, compared)[1].graph == wrap(path, compared)[1].graph


def test_notes_of_the_exporter_are_removed(tmp_path: Path, compared: Pictures) -> None:
    proto = make_network()
    proto.doc_string = proto.graph.doc_string = "/home/me"
    proto.metadata_props.add(key="folder", value="/home/me")
    for part in (*proto.graph.node, *proto.graph.initializer, *proto.graph.input):
        part.doc_string = "/home/me"
    proto.graph.node[0].metadata_props.add(key="stack", value="/home/me")
    model, _ = wrap(save(proto, tmp_path / "network.onnx"), compared)
    assert b"/home/me" not in model.graph


def test_names_that_the_network_uses_too_are_avoided(tmp_path: Path, compared: Pictures) -> None:
    proto = make_network()
    for node in proto.graph.node:
        renamed = {"features": "pixels", "positive": "probabilities", "mean": "cast"}
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    model, _ = wrap(save(proto, tmp_path / "network.onnx"), compared)
    assert model.spec.labels == LABELS


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"classes": 4}, "gives 4 numbers per picture, but --labels has 3 names"),
        ({"gain": 0.0}, "about the same probability for all of"),
        ({"gain": float("nan")}, "NaN or infinity"),
        (
            {"extra_nodes": [onnx.helper.make_node("Unsqueeze", ["scores", "axis"], ["x"])]},
            "can't be opened by ONNX Runtime",
        ),
    ],
)
def test_a_network_that_can_not_be_wrapped_is_refused(
    how: dict[str, Any], words: str, tmp_path: Path, compared: Pictures
) -> None:
    path = save(make_network(**how), tmp_path / "network.onnx")
    with pytest.raises(InputError, match=words) as caught:
        wrap(path, compared)
    assert str(path) in caught.value.problem


def test_a_batch_size_that_is_part_of_the_answer_is_refused(
    tmp_path: Path, compared: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    proto = make_network(batch=1, reshape_to=(-1, 6))
    mean = onnx.helper.make_node("ReduceMean", ["scores"], ["answer"], axes=[0], keepdims=1)
    proto.graph.node[-1].CopyFrom(mean)
    path = save(proto, tmp_path / "network.onnx")
    with pytest.raises(InputError, match="takes exactly 1 pictures per call"):
        wrap(path, compared)
    for size in proto.graph.input[0].type.tensor_type.shape.dim[:1]:
        size.dim_param = "batch"
    save(proto, path)
    with pytest.raises(ImportParityError, match="differ by inf"):
        wrap(path, compared)
    assert "fails in batches of 2 (it gives 5 answers to 9 pictures)" in caplog.text


def test_the_cause_why_a_model_fails_on_a_batch_is_logged(
    tmp_path: Path, compared: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    proto = make_network(reshape_to=(1, 6))
    path = save(proto, tmp_path / "network.onnx")
    with pytest.raises(ImportParityError, match="differ by inf"):
        wrap(path, compared)
    assert re.search(r"fails in batches of 2 \(.*Reshape", caplog.text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": (0.1, 0.2)}, "--mean has 2 numbers, but .* takes 3 channels"),
        ({"std": (1.0,) * 4}, "--std has 4 numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "--std has the number 0"),
        ({"mean": (float("nan"),)}, "--mean has a number that is not finite"),
        ({"shorter_side": 16}, "--shorter-side applies to .*--resize crop only"),
        ({"shorter_side": 4, "resize": "crop"}, "--shorter-side 4 is not from 12"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path, compared: Pictures
) -> None:
    path = save(make_network(), tmp_path / "network.onnx")
    with pytest.raises(UsageError, match=words):
        wrap(path, compared, Preprocessing(1.0, **changes))


def test_logits_are_not_taken_for_probabilities(tmp_path: Path, compared: Pictures) -> None:
    path = save(make_network(), tmp_path / "network.onnx")
    with pytest.raises(UsageError, match="are not probabilities: they go from"):
        wrap(path, compared, softmax=False)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (("happy", "happy", "sad"), "two or more different names"),
        (("happy", "sad ", "angry"), "has spaces at an end"),
        (("happy", "", "angry"), "is empty"),
        (("happy", "a\x1b[2J", "angry"), "characters that can't be printed"),
        (("happy", "neither", "neither"), "two or more different names"),
        (("happy", "sad", "neither", "neither"), "names an abstain output twice"),
    ],
)
def test_labels_that_are_not_allowed_are_refused(
    outputs: tuple[str, ...], words: str, tmp_path: Path, compared: Pictures
) -> None:
    path = save(make_network(classes=len(outputs)), tmp_path / "network.onnx")
    with pytest.raises(InputError, match=words):
        wrap(path, compared, PREP, *outputs)


def test_a_network_that_does_not_run_is_named(tmp_path: Path, compared: Pictures) -> None:
    too_many = onnx.helper.make_tensor("n", TensorProto.INT64, [2], [2**20, 2**17])
    nodes = [
        onnx.helper.make_node("Constant", [], ["n"], value=too_many),
        onnx.helper.make_node("ConstantOfShape", ["n"], ["many"]),
        onnx.helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
        onnx.helper.make_node("Add", ["scores", "most"], ["answer"]),
    ]
    network = make_network(extra_nodes=nodes)
    del network.graph.node[-1]
    # 2 ** 37 values of 4 bytes; not enough memory even if the system gives out more than it has.
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**38, limits[1]))
    try:
        with pytest.raises(InputError, match=r"n.onnx can't be run by ONNX Runtime \(.*alloc"):
            wrap(save(network, tmp_path / "n.onnx"), compared)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_batch_that_does_not_fit_into_memory_is_named(tmp_path: Path, compared: Pictures) -> None:
    path = save(make_network(batch=2**45), tmp_path / "n.onnx")
    with pytest.raises(InputError, match="not enough memory for pictures of 12 x 12 pixels"):
        wrap(path, compared)
