"""Very small real ONNX models that keep the model contract, or break it in one point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.contract.contract import metadata
from batch.contract.golden import Golden
from batch.contract.model import ModelSpec
from batch.records import Region

SIDE = 8
GREYS = (0, 51, 255)


def bright_spec(**changes: object) -> ModelSpec:
    """The spec of a model that says "happy" as surely as a picture is bright."""
    inputs = np.stack([np.full((SIDE, SIDE, 1), grey, dtype=np.uint8) for grey in GREYS])
    outputs = np.asarray([[g / 255, 1 - g / 255] for g in GREYS], dtype=np.float32)
    spec = ModelSpec(
        name="bright",
        version="1.0.0",
        labels=("happy", "sad"),
        region=Region.FACE,
        margin=0.0,
        resize="stretch",
        unsure_below=0.6,
        data_fingerprint="none",
        label_shares={"happy": 0.5, "sad": 0.5},
        metrics={},
        created="2026-01-01",
        golden=Golden(inputs, outputs),
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def bright_model(spec: ModelSpec | None = None) -> onnx.ModelProto:
    """Mean grey / 255 is the probability of "happy", the rest that of "sad"."""
    weights = np.asarray([1 / 255, -1 / 255], dtype=np.float32).reshape(2, 1, 1, 1)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["mean"]),
        helper.make_node("Conv", ["mean", "weights", "bias"], ["both"]),
        helper.make_node("Flatten", ["both"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.asarray([0, 1], dtype=np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata(spec or bright_spec()))
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
