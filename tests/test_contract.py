from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batch.contract.contract import SCHEMA_VERSION, load_model, metadata
from batch.contract.golden import Golden
from batch.errors import ExitCode, ModelError
from batch.fusion import Fusion, pack_fusion
from batch.records import Region
from tests.tiny_models import SIDE, bright_model, bright_spec, save

FUSION = Fusion("face", bias=0.0, face=1.0, photo=1.0, limit=4.0, unsure_below=0.5)


def _set(model: onnx.ModelProto, key: str, value: str | None) -> None:
    props = {entry.key: entry.value for entry in model.metadata_props}
    if value is None:
        del props[key]
    else:
        props[key] = value
    helper.set_model_props(model, props)


def test_a_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    spec = bright_spec(margin=0.25, region=Region.IMAGE, metrics={"accuracy": 0.9}, fusion=FUSION)
    model = load_model(save(bright_model(spec), tmp_path / "m.onnx"))
    assert (model.height, model.width, model.channels) == (SIDE, SIDE, 1)
    assert metadata(model.spec) == metadata(spec)
    np.testing.assert_array_equal(model.spec.golden.inputs, spec.golden.inputs)


@pytest.mark.parametrize("key", list(metadata(bright_spec())))
def test_no_key_of_the_metadata_is_ever_guessed(tmp_path: Path, key: str) -> None:
    model = bright_model()
    _set(model, key, None)
    with pytest.raises(ModelError, match=key):
        load_model(save(model, tmp_path / "m.onnx"))


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def _custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def _custom_operator_in_a_branch(model: onnx.ModelProto) -> None:
    inner = helper.make_graph(
        [helper.make_node("Anything", [], ["x"], domain="ai.onnx.contrib")], "branch", [], []
    )
    model.graph.node.append(
        helper.make_node("If", ["mean"], ["y"], then_branch=inner, else_branch=inner)
    )


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _two_channels(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 2


def _three_outputs(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def _other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = SIDE * 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_external, "external data"),
        (_external_in_a_constant, "external data"),
        (_custom_operator, "com.example.Cast"),
        (_custom_operator_in_a_branch, "ai.onnx.contrib.Anything"),
        (_fixed_batch, "exactly 1"),
        (_float_input, "uint8"),
        (_two_channels, "shape"),
        (_three_outputs, "3 numbers a picture for 2 labels"),
        (_other_size, "golden"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = bright_model()
    spoil(model)
    path = save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=reason) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code is ExitCode.FAILED


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schema_version", str(SCHEMA_VERSION + 1), "newer"),
        ("schema_version", "one", "whole number"),
        ("labels", '["happy"]', "two or more"),
        ("labels", '["happy", "happy"]', "different"),
        ("labels", "happy,sad", "understood"),
        ("region", "hand", "hand"),
        ("margin", "-1", "margin"),
        ("margin", "nan", "margin"),
        ("unsure_below", "7", "unsure_below"),
        ("resize", "magic", "resize"),
        ("fusion", "{}", "understood"),
        ("fusion", pack_fusion(FUSION), "only a whole-photo model"),
        ("golden", "{}", "lack"),
        ("golden", '{"shape": [1, 8, 8, 1], "inputs": "eA==", "outputs": [[1, 0]]}', "understood"),
        ("golden", '{"shape": [9999, 8, 8, 1], "inputs": "", "outputs": []}', "golden"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(
    tmp_path: Path, key: str, value: str, reason: str
) -> None:
    model = bright_model()
    _set(model, key, value)
    with pytest.raises(ModelError, match=reason):
        load_model(save(model, tmp_path / "m.onnx"))


def test_golden_answers_must_cover_every_label(tmp_path: Path) -> None:
    golden = bright_spec().golden
    spec = bright_spec(golden=Golden(golden.inputs, golden.outputs[:, :1]))
    with pytest.raises(ModelError, match="one probability for each label"):
        load_model(save(bright_model(spec), tmp_path / "m.onnx"))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x01", bytes(range(256))])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_model(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx can't be read"):
        load_model(tmp_path / "nowhere.onnx")
