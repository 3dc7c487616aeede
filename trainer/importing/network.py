"""Exported classifiers: reads the file of one, and finds its input, output and batch size."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, external_data_helper

from batch.errors import InputError, ModelError, ProviderError
from batch.inference.providers import describe_ort_error
from batch.inference.session import Session, open_session
from batch.models.graph import (
    MAX_MODEL_BYTES,
    check_bounded,
    check_self_contained,
    is_external,
    iter_tensors,
    parse_model,
    read_model,
)
from batch.models.model import MAX_GOLDEN_SIDE
from batch.options import Provider
from batch.path_text import printable_text

Floats = npt.NDArray[np.float32]

# First version of the format in which weights need not be inputs.
MIN_IR_VERSION = 4
# The oldest operators that ONNX Runtime supports.
MIN_OPSET = 7
ONE_OUTPUT_REMEDY = (
    "export it with the picture as its only input and the classes as its only output"
)


class Layout(StrEnum):
    """Order of the axes of a network's input."""

    NCHW = "nchw"
    NHWC = "nhwc"


@dataclass(frozen=True)
class Network:
    """A classifier with one float input and one output.

    Attributes:
        path: its file.
        proto: the graph, with all weights and without functions.
        digest: SHA-256 of the file.
        input_name: name of the input.
        output_name: name of the output.
        layout: order of the input's axes.
        height: of the input, in pixels.
        width: of the input, in pixels.
        channels: of the input: 3 or 1.
        fixed_batch: pictures per call; 0 for any number.
        has_external_data: whether weights were read from other files.
    """

    path: Path
    proto: onnx.ModelProto
    digest: str
    input_name: str
    output_name: str
    layout: Layout
    height: int
    width: int
    channels: int
    fixed_batch: int
    has_external_data: bool

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return find_opset(self.proto)

    @property
    def producer(self) -> str:
        """Name and version of the program that exported it."""
        words = f"{self.proto.producer_name} {self.proto.producer_version}".strip()
        return printable_text(words) or "unknown"

    def predict(self, values: Floats) -> Floats:
        """Run the network on the CPU: float32 in its layout to float32 [n, ...].

        One call per picture, or as many copies of it as a fixed batch has, so the answer does not
        depend on the batch.

        Raises:
            InputError: ONNX Runtime fails on a picture.
        """
        copies = self.fixed_batch or 1
        return np.concatenate(
            [self._run(np.repeat(value[None], copies, axis=0))[:1] for value in values]
        )

    def _run(self, batch: Floats) -> Floats:
        session = self._session
        try:
            return session.run(batch)[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            raise InputError(
                f"{self.path} can't be run by ONNX Runtime ({describe_ort_error(error)})",
                "check that the program that exported it can run the file, and export it again",
            ) from error

    @functools.cached_property
    def _session(self) -> Session:
        return open_network(self.path, self.proto)


def read_network(path: Path, layout: Layout | None = None, side: int | None = None) -> Network:
    """Read an exported classifier.

    Args:
        path: an .onnx file; files with its weights are read too.
        layout: order of the input's axes; None to find it by the size of the channel axis.
        side: height and width of the input, if the file does not fix them.

    Raises:
        InputError: the file can't be read, or is not a classifier that can be wrapped; the message
            says why.
    """
    try:
        data = read_model(path)
        proto = parse_model(path, data)
    except ModelError as error:
        raise InputError(error.problem, "give the path of an exported .onnx file") from error
    has_external_data = _load_external_data(path, proto)
    proto = _inline_functions(path, proto)
    _check_operators(path, proto)
    _make_weights_constant(proto)
    (value,), (output,) = _require_one(path, proto, "input"), _require_one(path, proto, "output")
    _check_types(path, value, output)
    layout, (height, width, channels), batch = _read_shape(path, value, layout, side)
    return Network(
        path=path,
        proto=proto,
        digest=hashlib.sha256(data).hexdigest(),
        input_name=value.name,
        output_name=output.name,
        layout=layout,
        height=height,
        width=width,
        channels=channels,
        fixed_batch=batch,
        has_external_data=has_external_data,
    )


def open_network(path: Path, proto: onnx.ModelProto) -> Session:
    """Open a graph in ONNX Runtime on the CPU.

    Raises:
        InputError: ONNX Runtime can't open it.
    """
    try:
        return open_session(proto.SerializeToString(), Provider.CPU)
    except ProviderError as error:
        raise InputError(
            f"{path} can't be opened by ONNX Runtime ({error.problem})",
            "export it with operators and types that ONNX Runtime has kernels for on the CPU",
        ) from error


def find_opset(proto: onnx.ModelProto) -> int:
    """Find the version of a graph's standard operators."""
    return max(
        int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")
    )


def _load_external_data(path: Path, proto: onnx.ModelProto) -> bool:
    """Read weights that are in other files into the graph; return whether there are any."""
    tensors = [tensor for tensor in iter_tensors(proto) if is_external(tensor)]
    names = {
        entry.value for tensor in tensors for entry in tensor.external_data
        if entry.key == "location"
    }  # fmt: skip
    files = [path.parent / name for name in sorted(names)]
    shown = printable_text(", ".join(map(str, files)))
    try:
        size = sum(file.stat().st_size for file in files)
        if size > MAX_MODEL_BYTES:
            raise InputError(
                f"{shown} has {size:,} bytes of weights, more than the {MAX_MODEL_BYTES:,} of a "
                "model file",
                "use a smaller network, or store its weights as float16",
            )
        external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        why = printable_text(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise InputError(
            f"the weights of {path} can't be read from {shown} ({why})",
            "put the files that were exported with it into the same folder",
        ) from error
    return bool(tensors)


def _inline_functions(path: Path, proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.functions:
        return proto
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # of the C++ library
        raise InputError(
            f"the functions of {path} can't be inlined ({printable_text(str(error))[:200]})",
            "export it without functions",
        ) from error


def _check_operators(path: Path, proto: onnx.ModelProto) -> None:
    if not any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import):
        raise InputError(
            f"{path} does not name the version of its operators (opset)", "export it again"
        )
    if find_opset(proto) < MIN_OPSET:
        raise InputError(
            f"{path} has operators of opset {find_opset(proto)}, older than {MIN_OPSET}",
            "export it with opset 13 or newer",
        )
    try:
        check_self_contained(path, proto)
        check_bounded(path, proto, proto.ByteSize())
    except ModelError as error:
        raise InputError(
            error.problem,
            "export only the network, for inference, with standard operators and a fixed picture "
            "size",
        ) from error


def _make_weights_constant(proto: onnx.ModelProto) -> None:
    """Remove the weights from the inputs, where old files list them."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, MIN_IR_VERSION)


def _require_one(path: Path, proto: onnx.ModelProto, what: str) -> list[onnx.ValueInfoProto]:
    values: list[onnx.ValueInfoProto] = list(getattr(proto.graph, what))
    if len(values) != 1:
        names = printable_text(", ".join(value.name for value in values[:10])) or "none"
        raise InputError(f"{path} has {len(values)} {what}s ({names}), not one", ONE_OUTPUT_REMEDY)
    return values


def _check_types(path: Path, value: onnx.ValueInfoProto, output: onnx.ValueInfoProto) -> None:
    for role, one in (("input", value), ("output", output)):
        kind = one.type.tensor_type.elem_type
        if not one.type.HasField("tensor_type") or kind != TensorProto.FLOAT:
            name = TensorProto.DataType.Name(kind).lower() if kind else "not a tensor"
            raise InputError(
                f"the {role} of {path}, {printable_text(one.name)}, is {name}, not float32",
                "export it with float32 inputs and outputs, without quantising or converting them",
            )


def _read_shape(
    path: Path, value: onnx.ValueInfoProto, layout: Layout | None, side: int | None
) -> tuple[Layout, tuple[int, int, int], int]:
    """Read layout; height, width and channels; and the fixed batch size, 0 if it is dynamic."""
    dims = list(value.type.tensor_type.shape.dim)
    shape = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    shown = printable_text(f"{value.name} [{', '.join(map(str, shape))}]")
    if len(dims) != 4:
        raise InputError(
            f"the input of {path}, {shown}, does not have the four axes of a batch of pictures",
            "export the network with the picture as its input",
        )
    # Exporters of Hugging Face models leave all four axes dynamic, but name them.
    places = [n for n in (1, 3) if shape[n] in (1, 3) or "channel" in str(shape[n])]
    if layout is None:
        if len(places) != 1:
            raise InputError(
                f"the input of {path}, {shown}, does not show which axis has the channels",
                "give --layout nchw (PyTorch) or nhwc (TensorFlow)",
            )
        layout = Layout.NCHW if places == [1] else Layout.NHWC
    at = (2, 3, 1) if layout is Layout.NCHW else (1, 2, 3)
    height, width, channels = (dims[n].dim_value for n in at)
    if channels not in (0, 1, 3):
        raise InputError(
            f"the input of {path}, {shown}, has {channels} channels in the layout {layout}, not 3 "
            "(colour) or 1 (grey)",
            "give another --layout, or export a network for pictures",
        )
    if side is None and not (height and width):
        raise InputError(
            f"the input of {path}, {shown}, has no fixed height and width",
            "give the side that it was trained with as --size",
        )
    if side is not None and not {height, width} <= {0, side}:
        raise InputError(
            f"the input of {path}, {shown}, has {width} x {height} pixels, not {side} x {side}",
            "omit --size",
        )
    if max(height, width) > MAX_GOLDEN_SIDE:
        raise InputError(
            f"the input of {path}, {shown}, has {width} x {height} pixels, more than "
            f"{MAX_GOLDEN_SIDE:,} on a side",
            "export a network for smaller pictures",
        )
    return layout, (height or side or 0, width or side or 0, channels or 3), dims[0].dim_value
