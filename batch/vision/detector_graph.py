"""The face detector's network, rebuilt for batches of photos of any size.

This module loads the package onnx; workers receive its result in their plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.vision.detector_file import STRIDES, read_detector

# Names in the graph. FLAT is the shape of the scores (one per cell), CELLS the shape of a head.
PHOTOS, SCORES, DELTAS, FLAT, CELLS = "photos", "scores", "deltas", "flat", "cells"
# The heads that are used, with the channels of each, and the channels of the head they are merged
# into: ONNX Runtime's fast kernels take multiples of four.
HEADS = {"cls": 1, "obj": 1, "bbox": 4}
HEAD_CHANNELS = 8
UNUSED_CHANNELS = HEAD_CHANNELS - sum(HEADS.values())

# Constants of a graph by name.
Weights = dict[str, npt.NDArray[Any]]


def build_detector_graph() -> bytes:
    """Build the network with its pre- and postprocessing, as an ONNX file's bytes.

    Input: uint8 RGB [N, H, W, 3], H and W multiples of ``SIDE_MULTIPLE``. Outputs: ``scores``,
    float32 [N, cells], the square root of class times objectness; and ``deltas``, float32
    [N, cells, 4], each cell's box in units of its stride. Cells are ordered by stride, finest
    first, then by row and column.
    """
    proto = onnx.load_model_from_string(read_detector())
    graph = proto.graph
    network_input = graph.input[0].name
    # The file's own heads reshape to a batch of one photo, the merged heads to any batch.
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    _swap_colours(graph, network_input, weights)
    heads = [_merge_heads(graph, level, weights) for level in range(len(STRIDES))]
    nodes = [
        helper.make_node("Cast", [PHOTOS], ["float_photos"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float_photos"], [network_input], perm=[0, 3, 1, 2]),
        *graph.node,
        *(node for head in heads for node in head),
        *_make_score_nodes(),
    ]
    weights[CELLS] = np.asarray([0, -1, HEAD_CHANNELS])
    weights[FLAT] = np.asarray([0, -1])
    nodes = _drop_unused(nodes)
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items() if name in used
    )
    graph.input.append(_make_value_info(PHOTOS, TensorProto.UINT8, "N", "H", "W", 3))
    graph.output.append(_make_value_info(SCORES, TensorProto.FLOAT, "N", "cells"))
    graph.output.append(_make_value_info(DELTAS, TensorProto.FLOAT, "N", "cells", 4))
    graph_bytes: bytes = proto.SerializeToString()
    return graph_bytes


def _swap_colours(graph: onnx.GraphProto, network_input: str, weights: Weights) -> None:
    """Make the first convolution, which was trained on BGR, take RGB."""
    (first,) = (node for node in graph.node if network_input in node.input)
    weights[first.input[1]] = np.ascontiguousarray(weights[first.input[1]][:, ::-1])


def _merge_heads(graph: onnx.GraphProto, level: int, weights: Weights) -> list[onnx.NodeProto]:
    """Merge the used heads of a level into one, [N, cells, HEAD_CHANNELS].

    A head is a pointwise and a depthwise convolution, whose few channels cost as much as sixteen.
    Channels do not mix, so merging changes no result.
    """
    heads = [f"bbox_head.multi_level_{kind}.{level}" for kind in HEADS]
    (features,) = (node.input[0] for node in graph.node if f"{heads[0]}.conv1.weight" in node.input)
    name = f"head_{level}"
    for part in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"):
        used = np.concatenate([weights[f"{head}.{part}"] for head in heads])
        weights[f"{name}.{part}"] = np.pad(
            used, [(0, UNUSED_CHANNELS), *[(0, 0)] * (used.ndim - 1)]
        )
    point, depth = (
        [f"{name}.conv{number}.weight", f"{name}.conv{number}.bias"] for number in (1, 2)
    )
    return [
        helper.make_node("Conv", [features, *point], [f"{name}_point"], kernel_shape=[1, 1]),
        helper.make_node(
            "Conv",
            [f"{name}_point", *depth],
            [f"{name}_depth"],
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            group=HEAD_CHANNELS,
        ),
        helper.make_node("Transpose", [f"{name}_depth"], [f"{name}_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{name}_last", CELLS], [name]),
    ]


def _make_score_nodes() -> list[onnx.NodeProto]:
    heads = [f"head_{level}" for level in range(len(STRIDES))]
    kinds = ["cls", "obj", DELTAS, "unused"]
    return [
        helper.make_node("Concat", heads, ["heads"], axis=1),
        helper.make_node(
            "Split", ["heads"], kinds, axis=2, split=[*HEADS.values(), UNUSED_CHANNELS]
        ),
        helper.make_node("Sigmoid", ["cls"], ["class"]),
        helper.make_node("Sigmoid", ["obj"], ["objectness"]),
        helper.make_node("Mul", ["class", "objectness"], ["squared"]),
        helper.make_node("Sqrt", ["squared"], ["each_score"]),
        helper.make_node("Reshape", ["each_score", FLAT], [SCORES]),
    ]


def _drop_unused(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Remove nodes that no output depends on; ONNX Runtime would run them."""
    wanted = {SCORES, DELTAS}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _make_value_info(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
