"""The last layer of an exported model, which turns features into logits: read and replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from batch.contract.model import Model
from batch.errors import ModelError
from batch.inference.session import open_session
from batch.options import Provider
from trainer.data import Pixels
from trainer.evaluation.calibrate import softmax
from trainer.evaluation.metrics import Probabilities

BATCH = 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A linear layer and what follows it; logits are ``x @ weight.T + bias``.

    Attributes:
        weight: float32 [classes, D].
        bias: float32 [classes].
        seen: name of what it sees in the graph.
        names: those of its two constants.
        groups: float32 [outputs, classes] of 0 and 1, an output is the sum of its classes'
            probabilities; None if every class is an output.
    """

    weight: Floats
    bias: Floats
    seen: str
    names: tuple[str, str]
    groups: Floats | None = None

    def logits(self, seen: Floats) -> Floats:
        """Run the layer: float32 [n, D] to [n, classes]."""
        logits: Floats = seen @ self.weight.T + self.bias
        return logits

    def answers(self, seen: Floats) -> Probabilities:
        """Give the model's answers: float32 [n, D] to [n, outputs]."""
        probabilities = softmax(self.logits(seen), 1.0)
        return probabilities if self.groups is None else probabilities @ self.groups.T


def find_head(graph: onnx.ModelProto, path: Path) -> Head:
    """Find the 1x1 convolution in front of the softmax, as ``trainer export`` writes it.

    Raises:
        ModelError: the model has none.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    powers = [node for node in graph.graph.node if node.op_type == "Softmax"]
    node = makers.get(powers[0].input[0]) if len(powers) == 1 else None
    if node is None or node.op_type != "Conv" or len(node.input) != 3:
        raise _foreign(path)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}

    def value(name: str) -> Floats:
        # Weights in halves have a cast behind them.
        stored = makers[name].input[0] if name in makers else name
        if stored not in constants:
            raise _foreign(path)
        array: Floats = numpy_helper.to_array(constants[stored]).astype(np.float32)
        return array

    def kernel(name: str) -> Floats:
        weight = value(name)
        if weight.ndim != 4 or weight.shape[2:] != (1, 1):
            raise _foreign(path)
        return weight[:, :, 0, 0]

    # What follows the softmax may only be the sums of a joined output.
    sums = [n for n in graph.graph.node if n.op_type == "Conv" and powers[0].output[0] in n.input]
    head = Head(
        weight=kernel(node.input[1]),
        bias=value(node.input[2]),
        seen=node.input[0],
        names=(node.input[1], node.input[2]),
        groups=kernel(sums[0].input[1]) if sums else None,
    )
    outputs = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if outputs != len(head.weight if head.groups is None else head.groups):
        raise _foreign(path)
    return head


def features_of(model: Model, graph: onnx.ModelProto, head: Head, pixels: Pixels) -> Floats:
    """Run a model up to its head, as the runner does: uint8 [n, H, W, C] to float32 [n, D]."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.append(
        onnx.helper.make_tensor_value_info(head.seen, onnx.TensorProto.FLOAT, None)
    )
    session = open_session(watched.SerializeToString(), Provider.CPU)
    batches = [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]
    seen = [session.run(batch)[1].reshape(len(batch), -1) for batch in batches]
    return np.concatenate([np.empty((0, head.weight.shape[1]), np.float32), *seen])


def with_head(graph: onnx.ModelProto, head: Head) -> onnx.ModelProto:
    """Copy a graph with another head in the place of the one that ``head`` was found as."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    for name, values in zip(head.names, (head.weight[:, :, None, None], head.bias), strict=True):
        cast = [node for node in changed.graph.node if name in node.output]
        stored = cast[0].input[0] if cast else name
        for node in cast:
            changed.graph.node.remove(node)
        tensor = next(t for t in changed.graph.initializer if t.name == stored)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(changed, full_check=True)
    return changed


def _foreign(path: Path) -> ModelError:
    return ModelError(
        f"{path} has no last layer that can be adjusted",
        "give a model that `trainer export` wrote, or train the network anew",
    )
