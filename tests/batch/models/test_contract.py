from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batch.errors import ExitCode, ModelError
from batch.models.contract import SCHEMA_VERSION, load_model, to_metadata
from batch.models.fusion import Fusion, FusionWeights, pack_fusion
from batch.models.model import (
    GOLDEN_TOLERANCE,
    MAX_VARIED_OUTPUTS,
    MIN_GOLDEN_SPREAD,
    GoldenSamples,
    ModelSpec,
    pack_golden,
)
from batch.records import Region
from tests.support.tiny_models import (
    GREYS,
    SIDE,
    bright_fusion,
    bright_model,
    bright_outputs,
    bright_spec,
    downgrade_to_schema_1,
    save_model,
    set_metadata,
)

FUSION = bright_fusion()
ABSTAIN = {"neither": 0.5, "no_person": 0.3}
RULE = FusionWeights(
    bias=(0.0, 0.0, 0.0, 1.0),
    face=1.0,
    label=1.0,
    abstain={"neither": 1.0, "no_person": 0.5},
    score=1.0,
    label_limit=4.0,
    abstain_limits={"neither": (-4.0, 4.0), "no_person": (-4.0, 4.0)},
)
ABSTAINING = bright_fusion(
    both=RULE, photo=RULE, face_abstain=("neither",), abstain_from=dict(ABSTAIN)
)


@pytest.mark.parametrize(
    "spec",
    [
        bright_spec(margin=0.25, region=Region.IMAGE, metrics={"accuracy": 0.9}, fusion=FUSION),
        bright_spec(abstain_from={"neither": 0.5}),
        bright_spec(region=Region.IMAGE, abstain_from=ABSTAIN, fusion=ABSTAINING),
    ],
    ids=["labels alone", "face", "whole photo"],
)
def test_a_model_survives_a_round_trip(tmp_path: Path, spec: ModelSpec) -> None:
    model = load_model(save_model(bright_model(spec), tmp_path / "m.onnx"))
    assert (model.height, model.width, model.channels) == (SIDE, SIDE, 1)
    assert to_metadata(model.spec) == to_metadata(spec)
    assert model.spec.fusion == spec.fusion
    assert model.spec.outputs == (*spec.labels, *spec.abstain_from)
    np.testing.assert_array_equal(model.spec.golden.inputs, spec.golden.inputs)


def test_abstain_outputs_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    model = bright_model(bright_spec(abstain_from=ABSTAIN))
    reversed_text = json.dumps(dict(reversed(ABSTAIN.items())))
    set_metadata(model, abstain_from=reversed_text)
    spec = load_model(save_model(model, tmp_path / "m.onnx")).spec
    assert spec.outputs == ("happy", "sad", "neither", "no_person")
    assert spec.abstain_from == ABSTAIN


def test_a_model_of_schema_1_is_read(tmp_path: Path) -> None:
    # Its golden samples may be alike, and its fusion, of another form, is ignored.
    alike = GoldenSamples(bright_spec().golden.inputs[:1], bright_outputs(GREYS[:1]))
    spec = bright_spec(region=Region.IMAGE, golden=alike)
    old = downgrade_to_schema_1(bright_model(spec))
    set_metadata(old, fusion='{"face_model": "face", "bias": 0, "face": 1, "photo": 1}')
    model = load_model(save_model(old, tmp_path / "m.onnx"))
    assert (model.spec.outputs, model.spec.abstain) == (("happy", "sad"), ())
    assert model.spec.fusion is None


def test_a_model_of_schema_1_has_no_abstain_outputs(tmp_path: Path) -> None:
    model = bright_model(bright_spec(abstain_from=ABSTAIN, golden=bright_spec().golden))
    set_metadata(model, schema_version="1")
    with pytest.raises(ModelError, match="4 numbers per picture for 2 labels"):
        load_model(save_model(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("key", list(to_metadata(bright_spec())))
def test_no_key_of_the_metadata_is_guessed(tmp_path: Path, key: str) -> None:
    model = set_metadata(bright_model(), **{key: None})
    with pytest.raises(ModelError, match=key):
        load_model(save_model(model, tmp_path / "m.onnx"))


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
        (_three_outputs, "3 numbers per picture for 2 labels"),
        (_other_size, "golden"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = bright_model()
    spoil(model)
    path = save_model(model, tmp_path / "m.onnx")
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
        ("labels", '["happy", "neither"]', "'neither' is the name of an abstain output"),
        ("labels", '["no_person", "happy"]', "'no_person' is the name of an abstain output"),
        ("abstain", '["neither"]', "one number for each abstain output"),
        ("abstain", '"neither"', "not a list of texts"),
        ("abstain", "[7]", "not a list of texts"),
        ("abstain_from", '{"neither": 0.5}', "one number for each abstain output"),
        ("abstain_from", "[]", "one number for each abstain output"),
        ("golden", "{}", "lack"),
        ("golden", '{"shape": [1, 8, 8, 1], "inputs": "eA==", "outputs": [[1, 0]]}', "understood"),
        ("golden", '{"shape": [9999, 8, 8, 1], "inputs": "", "outputs": []}', "golden"),
    ],
)
def test_invalid_metadata_are_refused(tmp_path: Path, key: str, value: str, reason: str) -> None:
    model = set_metadata(bright_model(), **{key: value})
    with pytest.raises(ModelError, match=reason):
        load_model(save_model(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize("name", ["neither", "no_person"])
def test_no_label_has_the_name_of_an_abstain_output(tmp_path: Path, schema: int, name: str) -> None:
    model = bright_model(bright_spec(labels=("happy", name)))
    path = save_model(downgrade_to_schema_1(model) if schema == 1 else model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=f"'{name}' is the name of an abstain output"):
        load_model(path)


@pytest.mark.parametrize(
    ("abstain", "abstain_from", "reason"),
    [
        (["neither", "nobody"], {"neither": 0.5, "nobody": 0.5}, "'nobody' is not one of neither"),
        (["neither", "neither"], {"neither": 0.5}, "names an output twice"),
        (["neither", "no_person"], {"neither": 0.5}, "one number for each abstain output"),
        (["neither", "no_person"], {"neither": 0.5, "no_person": 1.01}, "1.01 for no_person"),
        (["neither", "no_person"], {"neither": -0.5, "no_person": 0.5}, "-0.5 for neither"),
        (["neither", "no_person"], {"neither": float("nan"), "no_person": 1}, "nan for neither"),
        (["neither", "no_person"], {"neither": "0.5", "no_person": 0.5}, "not a number"),
        (["neither", "no_person"], {"neither": True, "no_person": 0.5}, "not a number"),
        (["neither", "no_person"], {"neither": None, "no_person": 0.5}, "not a number"),
        (["neither", "no_person"], {"neither": 10**400, "no_person": 0.5}, "understood"),
        (["neither"], {"neither": 0.5}, "one probability for each output"),
    ],
)
def test_invalid_abstain_outputs_are_refused(
    tmp_path: Path, abstain: list[str], abstain_from: dict[str, object], reason: str
) -> None:
    model = bright_model(bright_spec(abstain_from=ABSTAIN))
    set_metadata(model, abstain=json.dumps(abstain), abstain_from=json.dumps(abstain_from))
    with pytest.raises(ModelError, match=reason):
        load_model(save_model(model, tmp_path / "m.onnx"))


def _with_rule(**changes: object) -> Fusion:
    rule = replace(RULE, **changes)  # type: ignore[arg-type]
    return replace(ABSTAINING, both=rule, photo=rule)


@pytest.mark.parametrize(
    "fusion",
    [
        FUSION,
        _with_rule(bias=(0.0,) * 5),
        _with_rule(bias=(0.0,) * 3),
        _with_rule(abstain={"no_person": 0.5, "neither": 1.0}),
    ],
    ids=["no abstain outputs", "five outputs", "three outputs", "another order"],
)
def test_a_fusion_of_other_outputs_than_its_model_s_is_refused(
    tmp_path: Path, fusion: Fusion
) -> None:
    spec = bright_spec(region=Region.IMAGE, abstain_from=ABSTAIN, fusion=fusion)
    with pytest.raises(ModelError, match="its fusion has other outputs than the model"):
        load_model(save_model(bright_model(spec), tmp_path / "m.onnx"))


def test_golden_answers_must_cover_every_output(tmp_path: Path) -> None:
    golden = bright_spec().golden
    for spec in (
        bright_spec(golden=GoldenSamples(golden.inputs, golden.outputs[:, :1])),
        bright_spec(golden=golden, abstain_from=ABSTAIN),
    ):
        with pytest.raises(ModelError, match="one probability for each output"):
            load_model(save_model(bright_model(spec), tmp_path / "m.onnx"))


@pytest.mark.parametrize("output", range(4))
@pytest.mark.parametrize("spread", [0.0, MIN_GOLDEN_SPREAD, float("nan")])
def test_golden_answers_that_a_constant_answer_would_pass_are_refused(
    tmp_path: Path, output: int, spread: float
) -> None:
    spec = bright_spec(abstain_from=ABSTAIN)
    outputs = spec.golden.outputs.copy()
    outputs[:, output] = 0
    outputs[0, output] = spread
    alike = replace(spec, golden=GoldenSamples(spec.golden.inputs, outputs))
    with pytest.raises(ModelError, match=f"the same probability of {spec.outputs[output]}"):
        load_model(save_model(bright_model(alike), tmp_path / "m.onnx"))
    assert MIN_GOLDEN_SPREAD >= 2 * GOLDEN_TOLERANCE
    outputs[0, output] = MIN_GOLDEN_SPREAD + 1e-4
    load_model(save_model(bright_model(alike), tmp_path / "m.onnx"))


def test_of_many_outputs_only_some_must_differ(tmp_path: Path) -> None:
    count = 2 * MAX_VARIED_OUTPUTS
    outputs = np.zeros((len(GREYS), count), np.float32)
    outputs[0, :MAX_VARIED_OUTPUTS] = 1 / MAX_VARIED_OUTPUTS
    labels = tuple(f"label {n}" for n in range(count))
    spec = bright_spec(
        labels=labels, golden=GoldenSamples(bright_spec().golden.inputs, outputs), label_shares={}
    )
    model = bright_model(spec)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = count
    load_model(save_model(model, tmp_path / "m.onnx"))
    outputs[:, MAX_VARIED_OUTPUTS - 1] = 0
    set_metadata(model, golden=pack_golden(spec.golden))
    with pytest.raises(ModelError, match=f"the same probability of label {MAX_VARIED_OUTPUTS - 1}"):
        load_model(save_model(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("rule", ["stretch", "crop", "letterbox"])
def test_every_resize_rule_is_read(rule: str, tmp_path: Path) -> None:
    assert load_model(save_model(bright_model(bright_spec(resize=rule)), tmp_path / "m.onnx"))
    unknown = bright_model(bright_spec(resize="squash"))
    with pytest.raises(ModelError, match="'squash' is not one of stretch, crop, letterbox"):
        load_model(save_model(unknown, tmp_path / "m.onnx"))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x01", bytes(range(256))])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_model(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx can't be read"):
        load_model(tmp_path / "nowhere.onnx")
