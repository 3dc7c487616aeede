from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from batch.models.contract import load_model
from batch.options import Provider
from batch.vision.classify import Classifier
from tests.support.trainer_data import (
    FRAMING,
    REPOSITORY,
    drawn_dataset,
    make_drawn_split,
    tiny_training,
)
from trainer.evaluation.exported_models import predict_onnx
from trainer.exporting import weight_formats as storage
from trainer.exporting.answer_changes import measure_answer_changes
from trainer.exporting.export import ExportedModel, ExportOptions, export_model
from trainer.exporting.model_card import write_card
from trainer.exporting.onnx_graph import (
    DeployedNetwork,
    ParityError,
    export_graph,
    serialise_with_metadata,
)
from trainer.exporting.weight_formats import WeightFormat, build_graph, quantize
from trainer.networks import FaceNet

OPTIONS = ExportOptions(
    name="tiny",
    created="2026-01-02",
    labels={"happy": "happiness", "sad": "sadness"},
    weights=WeightFormat.INT8,
)


@pytest.fixture(scope="module")
def exported() -> ExportedModel:
    return export_model(tiny_training(), drawn_dataset(), OPTIONS)


def test_the_file_keeps_the_contract_and_answers_its_golden_samples(
    exported: ExportedModel, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(exported.graph)
    model = load_model(path)
    Classifier(model, Provider.CPU, batch_size=1)
    assert model.spec.labels == ("happy", "sad")
    assert exported.weights is WeightFormat.INT8


def test_kernels_are_stored_as_bytes_except_the_last(exported: ExportedModel) -> None:
    proto = onnx.load_model_from_string(exported.graph)
    kinds = [tensor.data_type for tensor in proto.graph.initializer if len(tensor.dims) == 4]
    assert kinds.count(onnx.TensorProto.FLOAT) == 1
    assert set(kinds) == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8}
    assert {node.domain for node in proto.graph.node} == {""}


def test_onnx_runtime_computes_the_convolutions_in_integers(
    exported: ExportedModel, tmp_path: Path
) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(exported.graph, options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    integer = sum(name in ("QLinearConv", "ConvInteger") for name in operators)
    in_file = onnx.load_model_from_string(exported.graph).graph.node
    assert integer == sum(node.op_type == "Conv" for node in in_file) - 1 > 0


def test_answers_are_bit_identical_in_any_batch(exported: ExportedModel) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 24, 24, 1), dtype=np.uint8)
    pixels = np.concatenate([noise, drawn_dataset().test.pixels])[:99]
    alone = predict_onnx(exported.graph, pixels, 1)
    for batch in (2, 33, 64):
        np.testing.assert_array_equal(predict_onnx(exported.graph, pixels, batch), alone)


def test_it_answers_nearly_as_float32_does(exported: ExportedModel) -> None:
    full = export_model(
        tiny_training(), drawn_dataset(), replace(OPTIONS, weights=WeightFormat.FLOAT32)
    )
    pixels = drawn_dataset().test.pixels
    apart = np.abs(predict_onnx(exported.graph, pixels) - predict_onnx(full.graph, pixels))
    assert 0 < apart.max() < 0.2


def test_the_same_training_gives_the_same_bytes_with_no_trace_of_the_machine(
    exported: ExportedModel,
) -> None:
    assert export_model(tiny_training(), drawn_dataset(), OPTIONS).graph == exported.graph
    for trace in (str(REPOSITORY), str(Path.home()), "/tmp", ".py", "site-packages"):
        assert trace.encode() not in exported.graph


def test_the_float_graph_is_left_as_it_was() -> None:
    torch.manual_seed(1)
    graph = export_graph(DeployedNetwork(FaceNet(3, (4, 8)), (0, 1), 1.0), FRAMING)
    before = serialise_with_metadata(graph, {})
    quantize(graph, drawn_dataset().train.pixels)
    assert serialise_with_metadata(graph, {}) == before


@pytest.mark.parametrize(
    ("lost", "won", "refused"), [(3, 0, False), (5, 0, True), (6, 2, False), (12, 2, True)]
)
def test_a_loss_within_sampling_error_is_accepted(lost: int, won: int, refused: bool) -> None:
    """0.2 % of 800 samples is less than two, so single answers exceed it by chance."""
    part = make_drawn_split(800, 0)
    right, wrong = np.eye(3, dtype=np.float32), np.roll(np.eye(3, dtype=np.float32), 1, axis=1)
    exact, quantized = (right[part.targets] for _ in range(2))
    exact[:won] = wrong[part.targets[:won]]
    quantized[won : won + lost] = wrong[part.targets[won : won + lost]]
    if refused:
        with pytest.raises(ParityError, match=f"with int8 {800 - lost} of 800"):
            storage._check_loss(exact, quantized, part)
    else:
        storage._check_loss(exact, quantized, part)


def test_int8_that_loses_too_many_right_answers_is_refused() -> None:
    data = drawn_dataset()
    deployed = DeployedNetwork(tiny_training().network, (0, 1, 2), 1.0)
    # Black pictures give too small a range of activations, so all activations are clipped.
    black = replace(data.train, pixels=np.zeros_like(data.train.pixels))
    with pytest.raises(ParityError, match=r"with int8 .* validation samples are right"):
        build_graph(deployed, WeightFormat.INT8, replace(data, train=black), data.validation)


def test_the_card_and_the_metadata_state_what_int8_changes(exported: ExportedModel) -> None:
    data = drawn_dataset()
    full = export_model(tiny_training(), data, replace(OPTIONS, weights=WeightFormat.FLOAT32))
    # The validation samples with an agreed class among the two labels.
    part = data.validation
    chosen = part.pixels[part.certain & np.isin(part.targets, (0, 1))]
    changes = np.abs(predict_onnx(exported.graph, chosen) - predict_onnx(full.graph, chosen))
    found = exported.answer_changes
    assert found.samples == len(chosen)
    assert found.largest == pytest.approx(changes.max(), abs=1e-4)
    assert found.mean == pytest.approx(changes.max(axis=1).mean(), abs=1e-4)
    assert 0 < found.mean <= found.high <= found.largest
    stated = exported.spec.metrics["weights"]
    assert stated["format"] == "int8"
    assert stated["changed"] == found.changed <= stated["changed_bound"] * found.samples
    card = write_card(exported, tiny_training(), data)
    assert f"| Effect of int8 | another answer to {found.changed} of {found.samples}" in card
    assert full.answer_changes.largest < 1e-4


@pytest.mark.parametrize(("changed", "close"), [(40, True), (50, True), (70, False)])
def test_int8_that_changes_too_many_answers_is_refused(changed: int, close: bool) -> None:
    """Right and wrong answers may cancel in the accuracy; 5 % of 1,000 may change."""
    exact = np.tile(np.array([0.51, 0.49], np.float32), (1000, 1))
    stored = exact.copy()
    stored[:changed] = exact[:changed, ::-1]
    found = measure_answer_changes(exact, stored)
    assert found.changed == changed
    assert found.is_close is close
    if close:
        storage._check_answer_changes(found)
    else:
        with pytest.raises(ParityError, match=r"with int8 70 of 1,000 .* another answer"):
            storage._check_answer_changes(found)


def test_int8_that_moves_probabilities_too_far_is_refused() -> None:
    exact = np.tile(np.array([0.9, 0.1], np.float32), (50, 1))
    shift = np.array([-0.04, 0.04], np.float32)
    assert measure_answer_changes(exact, exact + shift * np.float32(0.5)).is_close
    with pytest.raises(ParityError, match=r"changes by 0\.04 on average"):
        storage._check_answer_changes(measure_answer_changes(exact, exact + shift))
