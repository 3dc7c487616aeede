"""The ONNX graph of a deployed network: standard operators and nothing about its maker."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from trainer.data import Framing
from trainer.exporting.deploy import DeployedNetwork

OPSET = 18
INPUT_NAME, OUTPUT_NAME, BATCH_AXIS = "pixels", "probabilities", "N"


def export_graph(deployed: DeployedNetwork, framing: Framing) -> onnx.ModelProto:
    """Export a network for any number of pictures: uint8 [N, H, W, C] to float [N, K]."""
    # Two pictures, because a batch of one is taken for a constant.
    example = torch.zeros((2, framing.side, framing.side, framing.channels), dtype=torch.uint8)
    with _silence_exporter():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            external_data=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={INPUT_NAME: {0: torch.export.Dim(BATCH_AXIS)}},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # it is what dynamo=True returns
    graph = program.model_proto
    _strip_notes(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def serialise_with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Write a graph with ``metadata_props`` as the bytes of an ONNX file."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph)
    onnx.helper.set_model_props(proto, dict(metadata))
    # Protobuf promises one order of bytes only where it is asked to.
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def store_as_float16(model: onnx.ModelProto) -> None:
    """Store float32 weights as float16 with a cast in front, where none loses a digit.

    That halves the file. ONNX Runtime folds the casts as it opens it, so they cost nothing
    later.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        weights = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            small = weights.astype(np.float16)
        if weights.ndim == 0 or not np.array_equal(small.astype(np.float32), weights):
            continue
        name = tensor.name
        stored = f"{name}.half"
        tensor.CopyFrom(numpy_helper.from_array(small, stored))
        cast = onnx.helper.make_node(
            "Cast", [stored], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT
        )
        casts.append(cast)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Keep the exporter's progress, notes and warnings of its own parts from the user."""
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            noisy.setLevel(level)


def _strip_notes(message: Any) -> None:
    """Remove notes and stack traces, which hold the paths of the exporting machine.

    ``message`` is a protobuf message; it is searched to any depth.
    """
    for field, value in list(message.ListFields()):
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip_notes(part)
