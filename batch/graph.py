"""What the contract asks of a model's graph: one file, standard operators, known shapes."""

from __future__ import annotations

from pathlib import Path

import onnx

from batch.errors import ModelError

STANDARD_DOMAINS = ("", "ai.onnx")
RETRAIN = "export it anew with this project's trainer, or see docs/models.md for the contract"


def refuse_foreign(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse what would make the model more than the one file, or run code of its own.

    Raises:
        ModelError: the model has external data, functions or foreign operators.
    """
    if any(_has_external_data(graph) for graph in _graphs(proto)):
        raise broken(path, "its weights lie in another file (external data)")
    foreign = {
        f"{node.domain}.{node.op_type}"
        for graph in _graphs(proto)
        for node in graph.node
        if node.domain not in STANDARD_DOMAINS
    }
    if foreign or proto.functions:
        names = ", ".join(sorted(foreign)) or "functions"
        raise broken(path, f"it uses operators outside the ONNX standard ({names})")


def _graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
    graphs, waiting = [], [proto.graph]
    while waiting:
        graph = waiting.pop()
        graphs.append(graph)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)
    return graphs


def _has_external_data(graph: onnx.GraphProto) -> bool:
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                tensors.append(attribute.t)
            tensors.extend(attribute.tensors)
    return any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors)


def input_shape(path: Path, proto: onnx.ModelProto) -> tuple[int, int, int]:
    """Give the height, width and channels of a model's input, uint8 [N, H, W, C].

    Raises:
        ModelError: the input is of another kind.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if kind is None or kind.elem_type != onnx.TensorProto.UINT8 or len(kind.shape.dim) != 4:
        raise broken(path, "its input is not one uint8 tensor [N, height, width, channels]")
    batch, height, width, channels = (dim.dim_value for dim in kind.shape.dim)
    if batch:
        raise broken(path, f"it takes exactly {batch} pictures at a time, not any number")
    if not (height > 0 and width > 0 and channels in (1, 3)):
        raise broken(path, f"its input has the shape {[batch, height, width, channels]}")
    return height, width, channels


def check_output(path: Path, proto: onnx.ModelProto, labels: int) -> None:
    """Make sure that a model's output is float [N, labels].

    Raises:
        ModelError: the output is of another kind.
    """
    outputs = proto.graph.output
    kind = outputs[0].type.tensor_type if len(outputs) == 1 else None
    if kind is None or kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != 2:
        raise broken(path, "its output is not one float tensor [N, labels]")
    if kind.shape.dim[1].dim_value != labels:
        raise broken(
            path, f"it gives {kind.shape.dim[1].dim_value} numbers a picture for {labels} labels"
        )


def broken(path: Path, why: str) -> ModelError:
    """Make the error for a model that breaks a rule of the contract."""
    return ModelError(f"model {path} breaks the model contract: {why}", RETRAIN)
