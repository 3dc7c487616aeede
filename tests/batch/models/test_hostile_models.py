"""Hostile model files are rejected with one line that says why."""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from batch.errors import ExitCode, ModelError
from batch.models.contract import MAX_NAME_CHARS, load_model
from batch.models.graph import MAX_MODEL_BYTES
from batch.models.model import MAX_GOLDEN_BYTES
from batch.options import Provider
from batch.records import MAX_LABELS
from batch.vision.classify import Classifier
from tests.conftest import Command
from tests.fuzz.isolation import check_in_processes
from tests.support.tiny_models import bright_model, bright_spec, save_model, set_metadata

Spoil = Callable[[onnx.ModelProto], None]


def refusal(model: onnx.ModelProto, folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(save_model(model, folder / "m.onnx"))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def _inner(op_type: str, attribute: str) -> Spoil:
    def spoil(model: onnx.ModelProto) -> None:
        inner = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "inner", [], [])
        node = helper.make_node(op_type, ["mean"], ["unused"], **{attribute: inner})
        model.graph.node.append(node)

    return spoil


def _external(model: onnx.ModelProto) -> TensorProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def _sparse_external(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(values=_external(model), dims=[1])


def _sparse_external_in_a_constant(model: onnx.ModelProto) -> None:
    sparse = onnx.SparseTensorProto(values=_external(model), dims=[1])
    model.graph.node.append(helper.make_node("Constant", [], ["x"], sparse_value=sparse))


def _training_step(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.node.add(op_type="Identity", domain="com.example")


def _large_claim(model: onnx.ModelProto) -> None:
    model.graph.initializer.add(data_type=TensorProto.FLOAT, dims=[2**31, 2**31], name="big")


def _large_sparse_claim(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add(dims=[2**40])


def _negative_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_inner("Loop", "body"), "loops or branches (Loop)"),
        (_inner("Scan", "body"), "loops or branches (Scan)"),
        (_inner("If", "then_branch"), "loops or branches (If)"),
        (_inner("Odd\n\x1b[31m", "body"), "loops or branches (Odd\\n\\x1B[31m)"),
        (_sparse_external, "external data"),
        (_sparse_external_in_a_constant, "external data"),
        (_training_step, "training steps"),
        (_large_claim, "4,611,686,018,427,387,"),
        (_large_sparse_claim, "more than its bytes can hold"),
        (_negative_size, "constant weights has a negative size"),
    ],
)
def test_a_graph_without_bounds_is_refused(tmp_path: Path, spoil: Spoil, reason: str) -> None:
    model = bright_model()
    spoil(model)
    assert reason in refusal(model, tmp_path)


def test_metadata_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_model(set_metadata(bright_model(), name="bright-model"), path)
    path.write_bytes(path.read_bytes().replace(b"bright-model", b"bright-\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(ModelError, match="metadata are not all text"):
        load_model(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("schema_version", "1" * 5000, "whole number"),
        ("schema_version", "²", "whole number"),
        ("labels", '"ab"', "not a list"),
        ("labels", '["a", 2]', "not a list"),
        ("labels", '{"a": 1, "b": 2}', "not a list"),
        ("labels", "[" * 100_000, "understood"),
        ("labels", json.dumps([str(n) for n in range(MAX_LABELS + 1)]), "1,001 labels"),
        ("labels", json.dumps(["a", "b" * (MAX_NAME_CHARS + 1)]), "longer than 200"),
        ("name", "n" * 10_000_000, "longer than 200"),
        ("resize", "r" * 10_000_000, "resize"),
        ("region", "r" * 10_000_000, "understood"),
        ("label_shares", '["ab"]', "not an object"),
        ("label_shares", '{"happy": "most"}', "understood"),
        ("label_shares", '{"happy": 1' + 400 * "0" + "}", "understood"),
        ("metrics", "7", "understood"),
        ("golden", "7", "understood"),
        ("golden", '{"shape": [1, 8, 8, 1], "inputs": "", "outputs": [[1' + "0" * 400 + ", 0]]}",
         "understood"),
        ("abstain", "[" * 100_000, "understood"),
        ("abstain", json.dumps(["a" * 10_000_000]), "one number for each"),
        ("abstain_from", '{"neither": 1' + "0" * 400 + "}", "one number for each"),
        ("fusion", '{"face_model": "f", "face_abstain": [], "both": {"bias": [1' + "0" * 400 +
         '], "abstain_limits": {}}, "photo": {}}', "understood"),
        ("fusion", "[" * 100_000, "understood"),
    ],
)  # fmt: skip
def test_metadata_of_odd_types_and_sizes_are_refused(
    tmp_path: Path, key: str, value: str, reason: str
) -> None:
    model = set_metadata(bright_model(), **{key: value})
    assert reason in refusal(model, tmp_path)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("", "is empty"),
        (" glad", "spaces at an end"),
        ("glad\u3000", "spaces at an end"),
        ("glad\x1b[31m", "can't be printed"),
        ("two\nlines", "can't be printed"),
        ("dalg\u202e", "can't be printed"),
        ("glad\u200e", "can't be printed"),
        ("glad\ufffe", "can't be printed"),
        ("glad\U0010ffff", "can't be printed"),
        ("glad\ud800", "can't be printed"),
        ("'=glad", "two or more different"),  # beside "=glad", which has this cell
    ],
)
def test_a_label_that_can_t_be_shown_is_refused(tmp_path: Path, label: str, reason: str) -> None:
    model = set_metadata(bright_model(), labels=json.dumps(["=glad", label]))
    assert reason in refusal(model, tmp_path)


@pytest.mark.parametrize("label", ["\u5929" * 200, "sehr froh", "a\\b", "\u0645\u06cc\u200c\u062e"])
def test_a_label_of_any_script_is_taken(tmp_path: Path, label: str) -> None:
    model = set_metadata(bright_model(), labels=json.dumps(["sad", label]))
    assert load_model(save_model(model, tmp_path / "m.onnx")).spec.labels == ("sad", label)


@pytest.mark.parametrize("shape", [[64, 4096, 4096, 3], [1, 8, 8, 1]])
def test_golden_samples_that_are_zip_bombs_are_refused(tmp_path: Path, shape: list[int]) -> None:
    bomb = zlib.compress(bytes(MAX_GOLDEN_BYTES + 1), 9)
    golden = {"shape": shape, "inputs": b64encode(bomb).decode(), "outputs": [[1, 0]]}
    model = set_metadata(bright_model(), golden=json.dumps(golden))
    assert "golden samples" in refusal(model, tmp_path)


@pytest.mark.parametrize("name", ["nobody\n\x1b[31m", "n" * 10_000_000])
def test_an_abstain_output_of_any_name_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    model = bright_model(bright_spec(abstain_from={"neither": 0.5}))
    set_metadata(model, abstain=json.dumps([name]), abstain_from=json.dumps({name: 0.5}))
    assert "is not one of neither, no_person" in refusal(model, tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_MODEL_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(ModelError, match="536,870,913 bytes"):
        load_model(path)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop"])
def test_a_model_must_be_a_regular_file(kind: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    ran = command(tmp_path, "-m", path, "-o", "r.csv")
    assert ran.returncode == (ExitCode.USAGE if kind == "loop" else ExitCode.FAILED)
    assert str(path) in ran.stderr
    assert "path of an .onnx file" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "r.csv").exists()


def test_a_model_that_runs_on_one_picture_and_not_on_three_is_refused(tmp_path: Path) -> None:
    model = bright_model()
    model.graph.node[3].op_type = "Mean"
    path = save_model(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m\.onnx fails on a batch of 3") as caught:
        Classifier(load_model(path), Provider.CPU, batch_size=32)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_models_are_refused_or_pass_their_golden_samples() -> None:
    outcome = check_in_processes("models", 7, 0, 250)
    assert outcome.troubles == []
    assert {"ModelError", "ProviderError", "proved"} == set(outcome.words)
