"""Wraps a network into the graph of a model: uint8 pixels in, probabilities out.

Cast, channel order, scaling, normalisation and layout come before the network, softmax and the
order of the outputs after it, all as standard operators of the network's own opset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.records import Probabilities
from trainer.importing.network import Floats, Layout, Network
from trainer.importing.preprocessing import Preprocessing, find_centre, find_input_size

INPUT_NAME, OUTPUT_NAME, BATCH_AXIS = "pixels", "probabilities", "N"
# First opset whose Slice takes its bounds as inputs.
SLICE_INPUTS_OPSET = 10


@dataclass(frozen=True)
class Head:
    """From a network's output to the probabilities of a model.

    Attributes:
        order: for each output of the model, the column of the network.
        softmax: whether the network gives logits.
        is_binary: whether the network has one output, for the second of two labels; its softmax is
            the logistic function.
        has_planes: whether the network's output is [N, K, 1, 1].
    """

    order: tuple[int, ...]
    softmax: bool
    is_binary: bool = False
    has_planes: bool = False


def compute_probabilities(answers: Floats, head: Head) -> Probabilities:
    """Compute a model's probabilities from its network's output, in numpy: float32 [n, K + A]."""
    values = answers.reshape(len(answers), -1).astype(np.float64)
    if head.is_binary:
        second = 1 / (1 + np.exp(-values)) if head.softmax else values
        values = np.concatenate([1 - second, second], axis=1)
    elif head.softmax:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        values = powers / powers.sum(axis=1, keepdims=True)
    return values[:, list(head.order)].astype(np.float32)


def wrap_network(network: Network, prep: Preprocessing, head: Head) -> onnx.ModelProto:
    """Build the graph of a model around a network, without metadata."""
    proto = onnx.ModelProto()
    proto.CopyFrom(network.proto)
    if network.fixed_batch:
        _make_batch_dynamic(network, proto)
    builder = _Builder(proto)
    pixels = builder.make_name(INPUT_NAME)
    height, width = find_input_size(prep, network)
    _add_preprocessing(builder, network, prep, pixels)
    before = builder.take_nodes()
    output = builder.make_name(OUTPUT_NAME)
    _add_head(builder, network, head, output)
    nodes = [*before, *proto.graph.node, *builder.take_nodes()]
    graph = proto.graph
    for field in ("node", "input", "output", "value_info"):  # shapes are inferred anew
        graph.ClearField(field)
    graph.node.extend(nodes)
    taken: list[str | int | None] = [BATCH_AXIS, height, width, network.channels]
    graph.input.append(helper.make_tensor_value_info(pixels, TensorProto.UINT8, taken))
    given: list[str | int | None] = [BATCH_AXIS, len(head.order)]
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, given))
    _remove_notes(proto)
    return proto


class _Builder:
    """Makes nodes with names that a graph does not use yet."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.opset = max(e.version for e in proto.opset_import if e.domain in ("", "ai.onnx"))
        graph = proto.graph
        self._used = {name for node in graph.node for name in (*node.input, *node.output)}
        self._used |= {tensor.name for tensor in graph.initializer}
        self._used |= {value.name for value in (*graph.input, *graph.output)}
        self._nodes: list[onnx.NodeProto] = []

    def make_name(self, name: str) -> str:
        """Make a name that the graph does not use."""
        while name in self._used:
            name = f"{name}_"
        self._used.add(name)
        return name

    def add(self, operator: str, inputs: list[str], output: str | None = None, **how: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or self.make_name(operator.lower())
        self._nodes.append(helper.make_node(operator, inputs, [output], **how))
        return output

    def add_constant(self, values: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = self.make_name("constant")
        tensor = numpy_helper.from_array(values, f"{name}.value")
        return self.add("Constant", [], name, value=tensor)

    def take_nodes(self) -> list[onnx.NodeProto]:
        """Return the nodes that were added since the last call."""
        nodes, self._nodes = self._nodes, []
        return nodes


def _add_preprocessing(
    builder: _Builder, network: Network, prep: Preprocessing, pixels: str
) -> None:
    last = pixels
    height, width = find_input_size(prep, network)
    if (height, width) != (network.height, network.width):
        top, left = find_centre(prep, network)
        starts, ends = [top, left], [top + network.height, left + network.width]
        if builder.opset < SLICE_INPUTS_OPSET:
            last = builder.add("Slice", [last], starts=starts, ends=ends, axes=[1, 2])
        else:
            bounds = [np.asarray(values, np.int64) for values in (starts, ends, [1, 2])]
            last = builder.add("Slice", [last, *map(builder.add_constant, bounds)])
    if prep.bgr:
        order = builder.add_constant(np.asarray([2, 1, 0], np.int64))
        last = builder.add("Gather", [last, order], axis=3)
    last = builder.add("Cast", [last], to=TensorProto.FLOAT)
    if (prep.factor != 1).any():
        last = builder.add("Mul", [last, builder.add_constant(prep.factor.astype(np.float32))])
    if prep.offset.any():
        last = builder.add("Add", [last, builder.add_constant(prep.offset.astype(np.float32))])
    if network.layout is Layout.NCHW:
        builder.add("Transpose", [last], network.input_name, perm=[0, 3, 1, 2])
    else:
        builder.add("Identity", [last], network.input_name)


def _add_head(builder: _Builder, network: Network, head: Head, output: str) -> None:
    last = network.output_name
    if head.has_planes:
        last = builder.add("Flatten", [last], axis=1)
    if head.is_binary:
        second = builder.add("Sigmoid", [last]) if head.softmax else last
        one = builder.add_constant(np.ones(1, np.float32))
        last = builder.add("Concat", [builder.add("Sub", [one, second]), second], axis=1)
    elif head.softmax:
        last = builder.add("Softmax", [last], axis=1)
    if head.order == tuple(range(len(head.order))):
        builder.add("Identity", [last], output)
        return
    order = builder.add_constant(np.asarray(head.order, np.int64))
    builder.add("Gather", [last, order], output, axis=1)


def _make_batch_dynamic(network: Network, proto: onnx.ModelProto) -> None:
    """Replace a fixed batch size in the shapes that a graph reshapes its pictures to.

    Exporters that trace one picture store its shape, such as [1, 512], as a constant. Its first
    number becomes -1, or 0 (keep) if another one is -1 already. ``compare`` in ``import_network``
    tells whether that sufficed.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    depends = {network.input_name}
    for number, node in enumerate(graph.node):
        if not depends.intersection(node.input):
            continue
        depends.update(node.output)
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is None or node.input[0] not in depends:
            continue
        numbers = numpy_helper.to_array(shape).tolist()
        if not isinstance(numbers, list) or not numbers or numbers[0] != network.fixed_batch:
            continue
        numbers[0] = -1
        if -1 in numbers[1:]:
            # A 0 keeps the size, unless this attribute makes it one of its own.
            zero = [attribute for attribute in node.attribute if attribute.name == "allowzero"]
            for attribute in zero if 0 not in numbers else ():
                node.attribute.remove(attribute)
            numbers[0] = 0
        name = f"dynamic_shape.{number}"
        graph.initializer.append(numpy_helper.from_array(np.asarray(numbers, np.int64), name))
        node.input[1] = name


def _remove_notes(proto: onnx.ModelProto) -> None:
    """Remove what the exporter noted, such as paths of the machine that exported the network."""
    proto.ClearField("metadata_props")
    proto.ClearField("doc_string")
    proto.graph.ClearField("doc_string")
    proto.graph.ClearField("metadata_props")
    for node in proto.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for tensor in proto.graph.initializer:
        tensor.ClearField("doc_string")
