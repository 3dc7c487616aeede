"""The face detector's network, made ready for photos of any size."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.yunet import STRIDES, model_bytes

# Names in the graph; FLAT is the shape of the scores, one a cell.
PHOTOS, SCORES, DELTAS, FLAT = "photos", "scores", "deltas", "flat"


def detector_graph() -> bytes:
    """Give the network with what stands before and behind it inside, as an ONNX file's bytes.

    Input: uint8 RGB [N, H, W, 3], H and W multiples of ``MULTIPLE``. Outputs: ``scores``,
    float32 [N, cells], the root of class times objectness; and ``deltas``, float32
    [N, cells, 4], each cell's box in units of its stride. Cells run over the strides, the
    finest first, and over rows and columns in each.
    """
    proto = onnx.load_model_from_string(model_bytes())
    graph = proto.graph
    network_input = graph.input[0].name
    _let_any_size_in(graph)
    _swap_colours(graph, network_input)
    nodes = [
        helper.make_node("Cast", [PHOTOS], ["float_photos"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float_photos"], [network_input], perm=[0, 3, 1, 2]),
        *graph.node,
        *_scoring(),
        _joined("bbox", DELTAS),
    ]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.asarray([0, -1]), FLAT))
    graph.input.append(_value(PHOTOS, TensorProto.UINT8, "N", "H", "W", 3))
    graph.output.append(_value(SCORES, TensorProto.FLOAT, "N", "cells"))
    graph.output.append(_value(DELTAS, TensorProto.FLOAT, "N", "cells", 4))
    graph_bytes: bytes = proto.SerializeToString()
    return graph_bytes


def _let_any_size_in(graph: onnx.GraphProto) -> None:
    """Reshape to the batch that comes, where the file says one photo."""
    targets = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in targets:
            shape = numpy_helper.to_array(tensor).copy()
            shape[0] = 0  # "as in the input"
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))


def _swap_colours(graph: onnx.GraphProto, network_input: str) -> None:
    """Let the first convolution, which was trained on BGR, take RGB."""
    (first,) = (node for node in graph.node if network_input in node.input)
    for tensor in graph.initializer:
        if tensor.name == first.input[1]:
            kernels = numpy_helper.to_array(tensor)[:, ::-1]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kernels), tensor.name))


def _scoring() -> list[onnx.NodeProto]:
    return [
        _joined("cls", "all_cls"),
        _joined("obj", "all_obj"),
        helper.make_node("Mul", ["all_cls", "all_obj"], ["squared"]),
        helper.make_node("Sqrt", ["squared"], ["each_score"]),
        helper.make_node("Reshape", ["each_score", FLAT], [SCORES]),
    ]


def _joined(kind: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Concat", [f"{kind}_{stride}" for stride in STRIDES], [name], axis=1)


def _value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
