"""A model's file and graph: read, parse, and check against the contract."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from batch.errors import ModelError
from batch.files.regular_file import NotRegularFile, open_regular
from batch.os_errors import describe_failed_access
from batch.path_text import printable_text

MAX_MODEL_BYTES = 512 * 1024 * 1024
_PATH_REMEDY = "give the name of a shipped model or the path of an .onnx file"
STANDARD_DOMAINS = ("", "ai.onnx")
# Values per byte of a constant: the smallest type has two bits.
MAX_VALUES_PER_BYTE = 4
CONTRACT_REMEDY = (
    "export it again with this project's trainer, or see docs/models.md for the contract"
)


def read_model(path: Path) -> bytes:
    """Read a model's file, without blocking on a pipe or reading a device.

    Raises:
        ModelError: it can't be read, is not a regular file, or has more than ``MAX_MODEL_BYTES``.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size > MAX_MODEL_BYTES:
                raise make_contract_error(
                    path, f"it has {status.st_size:,} bytes, more than {MAX_MODEL_BYTES:,}"
                )
            # At most one byte more than its size, so that a growing file is not read forever.
            return file.read(status.st_size + 1)
    except NotRegularFile as error:
        raise ModelError(f"model {path} is not a regular file", _PATH_REMEDY) from error
    except OSError as error:
        what = describe_failed_access(f"model {path}", "read", error, path)
        raise ModelError(what, _PATH_REMEDY) from error


def parse_model(path: Path, graph: bytes) -> onnx.ModelProto:
    """Parse a model's bytes, without checking the graph.

    Raises:
        ModelError: they are not an ONNX file.
    """
    not_onnx = ModelError(f"model {path} is not an ONNX file", "give the path of an .onnx file")
    try:
        proto = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own exception types differ between releases
        raise not_onnx from error
    if not proto.graph.node or not proto.opset_import:
        raise not_onnx
    return proto


def check_self_contained(path: Path, proto: onnx.ModelProto) -> None:
    """Check that a model is one file of standard operators, without code of its own.

    Raises:
        ModelError: the model has external data, functions, training steps or other operators.
    """
    if any(map(is_external, iter_tensors(proto))):
        raise make_contract_error(path, "its weights are in another file (external data)")
    foreign = {
        f"{node.domain}.{node.op_type}"
        for graph in _list_graphs(proto)
        for node in graph.node
        if node.domain not in STANDARD_DOMAINS
    }
    if foreign or proto.functions or proto.training_info:
        names = ", ".join(sorted(foreign)[:10]) or "functions or training steps"
        raise make_contract_error(
            path, f"it uses operators outside the ONNX standard ({printable_text(names)})"
        )


def check_bounded(path: Path, proto: onnx.ModelProto, size: int) -> None:
    """Check that a model of ``size`` bytes has bounded run time and memory.

    A loop may run forever, and no step from pixels to probabilities needs a loop or a branch. A
    constant can't have more values than its bytes hold.

    Raises:
        ModelError: the model has subgraphs, or constants larger than itself.
    """
    inner = sorted(
        {node.op_type for node in proto.graph.node if any(map(_has_graph, node.attribute))}
    )
    if inner:
        raise make_contract_error(
            path, f"it has loops or branches ({printable_text(', '.join(inner[:10]))})"
        )
    claimed = 0
    for tensor in iter_tensors(proto):
        if any(dim < 0 for dim in tensor.dims):
            raise make_contract_error(
                path, f"its constant {printable_text(tensor.name)[:99]} has a negative size"
            )
        claimed += math.prod(tensor.dims)
    if claimed > size * MAX_VALUES_PER_BYTE:
        raise make_contract_error(
            path, f"its constants claim {claimed:,} values, more than its bytes can hold"
        )


def _list_graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
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


def _has_graph(attribute: onnx.AttributeProto) -> bool:
    return attribute.HasField("g") or len(attribute.graphs) > 0


def iter_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Iterate over all constants of a model, in inner graphs and attributes too."""
    for graph in _list_graphs(proto):
        yield from graph.initializer
        sparse = list(graph.sparse_initializer)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield from (tensor.values, tensor.indices, onnx.TensorProto(dims=tensor.dims))


def is_external(tensor: onnx.TensorProto) -> bool:
    """Tell whether the values of a constant are in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or bool(tensor.external_data)


def read_input_shape(path: Path, proto: onnx.ModelProto) -> tuple[int, int, int]:
    """Read height, width and channels of a model's input, uint8 [N, H, W, C].

    Raises:
        ModelError: the input has another type or shape.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if kind is None or kind.elem_type != onnx.TensorProto.UINT8 or len(kind.shape.dim) != 4:
        raise make_contract_error(
            path, "its input is not one uint8 tensor [N, height, width, channels]"
        )
    batch, height, width, channels = (dim.dim_value for dim in kind.shape.dim)
    if batch:
        raise make_contract_error(
            path, f"it takes exactly {batch} pictures per call, not any number"
        )
    if not (height > 0 and width > 0 and channels in (1, 3)):
        raise make_contract_error(
            path, f"its input has the shape {[batch, height, width, channels]}"
        )
    return height, width, channels


def check_output(path: Path, proto: onnx.ModelProto, count: int) -> None:
    """Check that a model's output is float [N, count], for labels and abstain outputs.

    Raises:
        ModelError: the output has another type or shape.
    """
    outputs = proto.graph.output
    kind = outputs[0].type.tensor_type if len(outputs) == 1 else None
    if kind is None or kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != 2:
        raise make_contract_error(
            path, "its output is not one float tensor [N, labels and abstain outputs]"
        )
    if kind.shape.dim[1].dim_value != count:
        raise make_contract_error(
            path,
            f"it gives {kind.shape.dim[1].dim_value} numbers per picture for {count} labels and "
            "abstain outputs",
        )


def make_contract_error(path: Path, why: str) -> ModelError:
    """Make the error for a model that breaks a rule of the contract."""
    return ModelError(f"model {path} breaks the model contract: {why}", CONTRACT_REMEDY)
