"""Reads and replaces the last layer of an exported model, which maps features to logits."""

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
# A logit this far above the others takes all of the probability.
CERTAIN_LOGIT = 60.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """A linear layer for the logits of classes: ``x @ weight.T + bias``.

    Attributes:
        weight: float32 [C, D].
        bias: float32 [C].
        input_name: the name of its input in the graph.
        names: the names of weight and bias in the graph.
        class_outputs: float32 [C, K + A] of 0 and 1, the output that each class is summed into;
            None if each class is an output.
    """

    weight: Floats
    bias: Floats
    input_name: str
    names: tuple[str, str]
    class_outputs: Floats | None = None

    def logits(self, features: Floats) -> Floats:
        """Run the layer: float32 [n, D] to [n, C]."""
        logits: Floats = features @ self.weight.T + self.bias
        return logits

    def outputs(self, classes: Floats) -> Floats:
        """Sum probabilities of classes, float32 [n, C], to outputs, [n, K + A]."""
        return classes if self.class_outputs is None else classes @ self.class_outputs

    def class_votes(self, classes: Floats, votes: Floats) -> Floats:
        """Distribute votes for outputs to their classes: float32 [n, C].

        A vote is split in proportion to the classes' probabilities, which favours none of them.

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
    """Find the 1x1 convolution before the softmax, as ``trainer export`` writes it.

    Raises:
        ModelError: the graph has none.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    softmax = [node for node in graph.graph.node if node.op_type == "Softmax"]
    node = makers.get(softmax[0].input[0]) if len(softmax) == 1 else None
    if node is None or node.op_type != "Conv" or len(node.input) != 3:
        raise _not_adjustable_error(path)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    values = []
    for name in node.input[1:]:
        # float16 weights are followed by a cast.
        stored = makers[name].input[0] if name in makers else name
        if stored not in constants:
            raise _not_adjustable_error(path)
        values.append(numpy_helper.to_array(constants[stored]).astype(np.float32))
    weight, bias = values
    if weight.ndim != 4 or weight.shape[2:] != (1, 1):
        raise _not_adjustable_error(path)
    head = LinearHead(weight[:, :, 0, 0], bias, node.input[0], (node.input[1], node.input[2]))
    outputs = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return (
        head
        if outputs == len(bias)
        else replace(head, class_outputs=_find_class_outputs(graph, head, path))
    )


def _find_class_outputs(graph: onnx.ModelProto, head: LinearHead, path: Path) -> Floats:
    """Determine the output of each class by making the model certain of that class."""
    _, *shape = (d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim)
    picture = np.zeros((1, *shape), np.uint8)
    rows = []
    for certain in CERTAIN_LOGIT * np.eye(len(head.bias), dtype=np.float32):
        only = replace_head(graph, replace(head, weight=np.zeros_like(head.weight), bias=certain))
        rows.append(predict_onnx(only.SerializeToString(), picture)[0])
    pooled: Floats = np.round(rows).astype(np.float32)
    if not np.allclose(rows, pooled, atol=1e-4) or (pooled.sum(axis=1) != 1).any():
        raise _not_adjustable_error(path)
    return pooled


def compute_features(
    model: Model, graph: onnx.ModelProto, head: LinearHead, pixels: Pixels
) -> Floats:
    """Run a model up to its head: uint8 [n, H, W, C] to float32 [n, D]."""
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    watched.graph.output.append(
        onnx.helper.make_tensor_value_info(head.input_name, onnx.TensorProto.FLOAT, None)
    )
    session = open_session(watched.SerializeToString(), Provider.CPU)
    batches = [pixels[at : at + BATCH_SIZE] for at in range(0, len(pixels), BATCH_SIZE)]
    features = [session.run(batch)[1].reshape(len(batch), -1) for batch in batches]
    return np.concatenate([np.empty((0, head.weight.shape[1]), np.float32), *features])


def replace_head(graph: onnx.ModelProto, head: LinearHead) -> onnx.ModelProto:
    """Copy a graph and replace the head that has the names of ``head``."""
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


def _not_adjustable_error(path: Path) -> ModelError:
    return ModelError(
        f"{path} has no last layer that can be adjusted",
        "give a model from `trainer export`, or train the network again",
    )
