"""The last layer of an exported model, which turns features into logits: read and replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from batch.errors import ModelError
from batch.inference.session import open_session
from batch.models.model import Model
from batch.options import Provider
from trainer.datasets.dataset import Pixels
from trainer.evaluation.exported_models import predict_onnx

BATCH_SIZE = 64
# A logit that is so far above all others leaves them no probability.
CERTAIN_LOGIT = 60.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """A linear layer that gives logits of classes: ``x @ weight.T + bias``.

    Attributes:
        weight: float32 [C, D].
        bias: float32 [C].
        input_name: the name of what it sees in the graph.
        names: those of its two constants.
        class_outputs: float32 [C, K + A], 1 for the output that a class counts for, where some outputs
            are sums of classes; None if each class is an output.
    """

    weight: Floats
    bias: Floats
    input_name: str
    names: tuple[str, str]
    class_outputs: Floats | None = None

    def logits(self, seen: Floats) -> Floats:
        """Run the layer: float32 [n, D] to [n, C]."""
        logits: Floats = seen @ self.weight.T + self.bias
        return logits

    def outputs(self, classes: Floats) -> Floats:
        """Sum probabilities of classes, float32 [n, C], to those of outputs, [n, K + A]."""
        return classes if self.class_outputs is None else classes @ self.class_outputs

    def class_votes(self, classes: Floats, votes: Floats) -> Floats:
        """Give votes for outputs to the classes behind them: float32 [n, C].

        A vote is divided as the probabilities of these classes are, so that it says nothing of one
        against the other.

        Args:
            classes: float32 [n, C], probabilities.
            votes: float32 [n, K + A].
        """
        if self.class_outputs is None:
            return votes
        shares = classes.astype(np.float64)
        ratio = votes / np.maximum(self.outputs(classes), np.finfo(np.float32).tiny)
        divided: Floats = (shares * (ratio @ self.class_outputs.T)).astype(np.float32)
        return divided


def find_head(graph: onnx.ModelProto, path: Path) -> LinearHead:
    """Find the 1x1 convolution in front of the softmax, as ``trainer export`` writes it.

    Raises:
        ModelError: the model has none.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    softmax = [node for node in graph.graph.node if node.op_type == "Softmax"]
    node = makers.get(softmax[0].input[0]) if len(softmax) == 1 else None
    if node is None or node.op_type != "Conv" or len(node.input) != 3:
        raise _not_adjustable(path)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    values = []
    for name in node.input[1:]:
        # Weights in halves have a cast behind them.
        stored = makers[name].input[0] if name in makers else name
        if stored not in constants:
            raise _not_adjustable(path)
        values.append(numpy_helper.to_array(constants[stored]).astype(np.float32))
    weight, bias = values
    if weight.ndim != 4 or weight.shape[2:] != (1, 1):
        raise _not_adjustable(path)
    head = LinearHead(weight[:, :, 0, 0], bias, node.input[0], (node.input[1], node.input[2]))
    outputs = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return (
        head
        if outputs == len(bias)
        else replace(head, class_outputs=_find_class_outputs(graph, head, path))
    )


def _find_class_outputs(graph: onnx.ModelProto, head: LinearHead, path: Path) -> Floats:
    """Find out which output each class counts for, by the answers if it is certain."""
    _, *shape = (d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim)
    picture = np.zeros((1, *shape), np.uint8)
    rows = []
    for certain in CERTAIN_LOGIT * np.eye(len(head.bias), dtype=np.float32):
        only = replace_head(graph, replace(head, weight=np.zeros_like(head.weight), bias=certain))
        rows.append(predict_onnx(only.SerializeToString(), picture)[0])
    pooled: Floats = np.round(rows).astype(np.float32)
    if not np.allclose(rows, pooled, atol=1e-4) or (pooled.sum(axis=1) != 1).any():
        raise _not_adjustable(path)
    return pooled


def compute_features(
    model: Model, graph: onnx.ModelProto, head: LinearHead, pixels: Pixels
) -> Floats:
    """Run a model up to its head, as the runner does: uint8 [n, H, W, C] to float32 [n, D]."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.append(
        onnx.helper.make_tensor_value_info(head.input_name, onnx.TensorProto.FLOAT, None)
    )
    session = open_session(watched.SerializeToString(), Provider.CPU)
    batches = [pixels[at : at + BATCH_SIZE] for at in range(0, len(pixels), BATCH_SIZE)]
    seen = [session.run(batch)[1].reshape(len(batch), -1) for batch in batches]
    return np.concatenate([np.empty((0, head.weight.shape[1]), np.float32), *seen])


def replace_head(graph: onnx.ModelProto, head: LinearHead) -> onnx.ModelProto:
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


def _not_adjustable(path: Path) -> ModelError:
    return ModelError(
        f"{path} has no last layer that can be adjusted",
        "give a model that `trainer export` wrote, or train the network anew",
    )
