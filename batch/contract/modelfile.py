"""A model's file: read whole, if it is one of a sensible size, and parsed."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISREG

import onnx

from batch.contract.graph import broken
from batch.errors import ModelError
from batch.files.regular_file import open_without_waiting
from batch.os_errors import describe_refusal

MAX_MODEL_BYTES = 512 * 1024 * 1024
REMEDY = "give the name of a shipped model or the path of an .onnx file"


def read_model(path: Path) -> bytes:
    """Read a model's file, without ever waiting for a pipe or reading a device.

    Raises:
        ModelError: it can't be read, is no regular file, or has more than ``MAX_MODEL_BYTES``.
    """
    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not S_ISREG(status.st_mode):
                raise ModelError(f"model {path} is no regular file", REMEDY)
            if status.st_size > MAX_MODEL_BYTES:
                raise broken(
                    path, f"it has {status.st_size:,} bytes, more than {MAX_MODEL_BYTES:,}"
                )
            # It may grow meanwhile, and is then no sound model.
            return file.read(status.st_size + 1)
    except OSError as error:
        what = describe_refusal(f"model {path}", "read", error, path)
        raise ModelError(what, REMEDY) from error


def parse_model(path: Path, graph: bytes) -> onnx.ModelProto:
    """Parse a model's bytes; what they hold is not checked yet.

    Raises:
        ModelError: they are no ONNX file.
    """
    no_onnx = ModelError(f"model {path} is not an ONNX file", "give the path of an .onnx file")
    try:
        proto = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own exception types differ between releases
        raise no_onnx from error
    if not proto.graph.node or not proto.opset_import:
        raise no_onnx
    return proto
