"""The weights of an exported model, to go on training from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from batch.errors import InputError
from batch.models.graph import parse_model, read_model
from trainer.networks import FaceNet, Network

# Nodes between a stored weight and its use.
STORAGE_OPERATORS = ("DequantizeLinear", "Cast")

Floats = npt.NDArray[np.float32]


def read_exported_weights(path: Path, network: Network) -> Mapping[str, Tensor]:
    """Read an exported face model as a state dict of the network that it was made from.

    Batch norms were folded into the convolutions in front of them: they come back as a shift by the
    convolution's bias. Integers come back as the floats that they stand for.

    Raises:
        ModelError: the file can't be read.
        InputError: it was made from another network.
    """
    stored = _convolution_weights(parse_model(path, read_model(path)))
    other = InputError(f"{path} was exported from another network", "give another init")
    if not isinstance(network, FaceNet):
        raise other
    state = dict(network.state_dict())
    pairs = _list_convolutions(network)
    kernels = [array for array in stored if array.ndim == 4]
    biases = [array for array in stored if array.ndim == 1]
    if len(kernels) != len(pairs) + 1 or len(biases) != len(kernels):
        raise other
    for (convolution, norm), kernel, bias in zip(pairs, kernels, biases, strict=False):
        layer = network.get_submodule(norm)
        assert isinstance(layer, nn.BatchNorm2d)
        state[f"{convolution}.weight"] = torch.from_numpy(kernel)
        state[f"{norm}.weight"] = torch.ones(len(bias))
        state[f"{norm}.bias"] = torch.from_numpy(bias)
        state[f"{norm}.running_mean"] = torch.zeros(len(bias))
        state[f"{norm}.running_var"] = torch.full((len(bias),), 1 - layer.eps)
    state["classifier.weight"] = torch.from_numpy(kernels[-1][:, :, 0, 0].copy())
    state["classifier.bias"] = torch.from_numpy(biases[-1])
    return state


def _list_convolutions(network: Network) -> list[tuple[str, str]]:
    """Names of each convolution and of the batch norm behind it, in the graph's order."""
    names = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    return list(zip(names[::2], names[1::2], strict=True))


def _convolution_weights(model: onnx.ModelProto) -> list[Floats]:
    """Kernels and biases of the convolutions, in the order of the network's modules."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in STORAGE_OPERATORS and all(name in values for name in node.input):
            (value,) = ReferenceEvaluator(node).run(None, {n: values[n] for n in node.input})
            values[node.output[0]] = np.asarray(value)
    # By their names, which begin with the module's: shortcuts may compute before what they shorten.
    # One without a bias adds classes up, see ``Deployed``.
    convolutions = [
        node for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2
    ]
    return [
        np.array(values[name], dtype=np.float32)
        for node in sorted(convolutions, key=lambda node: _module_sort_key(node.input[1]))
        for name in node.input[1:]
        if name in values
    ]


def _module_sort_key(name: str) -> list[tuple[int, str]]:
    """Order names such as ``features.10.body.0`` by their numbers."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in name.split(".")]
