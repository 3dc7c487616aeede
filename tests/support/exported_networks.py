"""Small classifiers in the forms that public exporters give them, made with ``onnx.helper``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FILTERS = 6
LABELS = ("happy", "sad", "angry")


def make_network(
    *,
    layout: str = "nchw",
    side: int = 12,
    channels: int = 3,
    classes: int = 3,
    batch: int | str = "batch",
    shape: Sequence[int | str] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    end: str = "logits",
    gain: float = 1.0,
    reshape_to: Sequence[int] = (0, FILTERS),
    allowzero: bool = False,
    weights_are_inputs: bool = False,
    extra_nodes: Sequence[onnx.NodeProto] = (),
    extra_outputs: Sequence[str] = (),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Make a network of a convolution, a mean, and a dense layer.

    Args:
        layout: nchw as of PyTorch, or nhwc as of TensorFlow, with a transposition inside.
        side: height and width of the input.
        channels: of the input.
        classes: number of outputs.
        batch: size or name of the first axis.
        shape: all axes of the input, instead of those above.
        opset: version of the operators.
        ir_version: version of the format.
        end: logits, softmax, sigmoid, or planes ([N, K, 1, 1]).
        gain: scale of the input that the network expects, such as 1 / 255.
        reshape_to: the constant shape before the dense layer.
        allowzero: set that attribute, as PyTorch's exporter does.
        weights_are_inputs: list the weights as inputs too, as old files do.
        extra_nodes: put before the last node.
        extra_outputs: more outputs of the graph.
        kind: type of input and output.
    """
    rng = np.random.default_rng(classes)
    filters = rng.normal(0, 2, (FILTERS, channels, 3, 3))
    filters -= filters.mean(axis=(1, 2, 3), keepdims=True)  # so that no class always wins
    weights: dict[str, npt.NDArray[Any]] = {
        "filters": (filters * gain).astype(np.float32),
        "shape": np.asarray(reshape_to, np.int64),
        "dense": rng.normal(0, 3, (FILTERS, classes)).astype(np.float32),
    }
    inner = [side, side, channels] if layout == "nhwc" else [channels, side, side]
    axes: list[int | str | None] = [*(shape or [batch, *inner])]
    last: list[onnx.NodeProto] = {
        "logits": [helper.make_node("Identity", ["scores"], ["answer"])],
        "softmax": [helper.make_node("Softmax", ["scores"], ["answer"], axis=1)],
        "sigmoid": [helper.make_node("Sigmoid", ["scores"], ["answer"])],
        "planes": [
            helper.make_node("Transpose", ["scores"], ["turned"], perm=[1, 0]),
            helper.make_node("Transpose", ["turned"], ["back"], perm=[1, 0]),
            helper.make_node("Unsqueeze", ["back", "places"], ["answer"]),
        ],
    }[end]
    if end == "planes":
        weights["places"] = np.asarray([2, 3], np.int64)
    how: dict[str, Any] = {"allowzero": 1} if allowzero else {}
    start = "input"
    nodes = []
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]))
        start = "planes"
    nodes += [
        helper.make_node("Conv", [start, "filters"], ["features"]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["flat"], **how),
        helper.make_node("MatMul", ["flat", "dense"], ["scores"]),
        *extra_nodes,
        *last,
    ]
    values = [helper.make_tensor_value_info("input", kind, axes)]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if weights_are_inputs:
        values += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    planes = [1, 1] if end == "planes" else []
    outputs = [helper.make_tensor_value_info("answer", kind, [axes[0], classes, *planes])]
    outputs += [helper.make_tensor_value_info(name, kind, None) for name in extra_outputs]
    graph = helper.make_graph(nodes, "network", values, outputs, tensors)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="exporter",
        producer_version="1",
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def run(model: bytes | Path, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Run a graph on the CPU."""
    session = ort.InferenceSession(model if isinstance(model, bytes) else str(model))
    answers: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return answers


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: npt.NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return result
