"""Initial weights of a network, and the selection of its trainable layers.

Weights come from ImageNet, from a checkpoint of a run, or from an exported model.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from batch.errors import InputError, UsageError
from batch.models.graph import parse_model, read_model
from batch.models.shipped import SUFFIX, find_model
from batch.path_text import printable_text
from trainer.datasets.duplicates import LUMA_WEIGHTS
from trainer.networks import (
    NETWORK_SIZES,
    FaceNet,
    InvertedResidual,
    Network,
    NetworkSize,
    PhotoNet,
    Residual,
)
from trainer.training.config import Config

# The value of `init` for the weights that come with a package.
IMAGENET = "imagenet"
# Name of the first layer in published weights.
PUBLISHED_STEM = "_conv_stem.weight"
# Nodes of a graph between a stored weight and its use.
STORAGE_OPERATORS = ("DequantizeLinear", "Cast")
INIT_REMEDY = "give another init"
INSTALL_REMEDY = "run `pip install 'batch-label[train]'`"
# The first convolution of a face network, behind the layer that normalises the picture.
STEM = "features.1.weight"

Floats = npt.NDArray[np.float32]
StateDict = Mapping[str, Tensor]


def build_network(config: Config, classes: int, channels: int) -> Network:
    """Build the network of a training with random weights.

    Raises:
        UsageError: the samples are grey, and the network takes RGB.
    """
    if config.network == "residual":
        return FaceNet(classes, config.widths, channels, config.dropout)
    if channels != 3:
        raise UsageError(f"{config.network} takes RGB samples, these are grey", "add --rgb")
    return PhotoNet(classes, config.dropout, config.network)


def initialise_network(network: Network, init: str) -> None:
    """Set a network's initial weights; a classifier for other classes keeps random ones.

    Args:
        network: the network, which is changed in place.
        init: ``imagenet``; the name of a shipped model; the path of an exported model, of a
            checkpoint (its averaged weights) or of a state dict with this project's or the
            published names; empty to change nothing.

    Raises:
        InputError: the file can't be read or is of another network.
        UsageError: there is no such model, or there are no ImageNet weights for this network.
    """
    if not init:
        return
    path = _imagenet_path(network) if init == IMAGENET else find_model(init)
    if path.suffix == SUFFIX:
        weights = read_exported_weights(path, network)
    else:
        weights = _rename_weights(_read_state_dict(path), network)
    own = network.state_dict()
    if isinstance(network, FaceNet) and STEM in weights and weights[STEM].ndim == 4:
        channels = own[STEM].shape[1]
        weights = {**weights, STEM: _convert_stem(weights[STEM], channels)}
    if set(weights) ^ set(own) or any(
        weights[name].shape != value.shape
        for name, value in own.items()
        if not name.startswith("classifier.")
    ):
        raise InputError(
            f"{path} holds the weights of another network",
            "give another init, or omit the settings network and widths",
        )
    fitting = {name: value for name, value in weights.items() if value.shape == own[name].shape}
    network.load_state_dict({**own, **fitting})


def hash_init(init: str) -> str:
    """Return the SHA-256 of the file of initial weights; empty and ``imagenet`` stay as they are.

    Raises:
        ModelError, UsageError: there is no such model, or its file was changed.
    """
    if init in ("", IMAGENET):
        return init
    return hashlib.sha256(find_model(init).read_bytes()).hexdigest()


def read_init_widths(init: str) -> tuple[int, ...] | None:
    """Read the widths of the residual network in a file of initial weights.

    Returns:
        The widths; None for the weights of another kind of network, or for none.

    Raises:
        InputError, ModelError, UsageError: the file can't be found or read.
    """
    if init in ("", IMAGENET):
        return None
    path = find_model(init)
    if path.suffix == SUFFIX:
        shapes = [array.shape for array in _read_convolutions(parse_model(path, read_model(path)))]
        # The first convolution of the stem, then three or two of each stage, then the classifier.
        kernels = [shape for shape in shapes if len(shape) == 4]
        if len(kernels) < 3 or kernels[0][2:] != (5, 5):
            return None
        stages = [shape[0] for shape in kernels[1:-1] if shape[2:] == (3, 3)]
        return tuple(stages[::2])
    weights = _read_state_dict(path)
    if STEM not in weights:
        return None
    blocks = (f"features.{4 + n}.body.0.weight" for n in range(len(weights)))
    found = [weights[name] for name in takewhile(weights.__contains__, blocks)]
    return tuple(len(kernel) for kernel in found if kernel.ndim)


def read_init_network(init: str) -> str | None:
    """Read the architecture of the network in a file of initial weights.

    Returns:
        A value of the setting ``network``; None if there are no weights or they do not record it.

    Raises:
        InputError: the file can't be read, or is an exported model that no training can start from.
        ModelError, UsageError: the file can't be found or read.
    """
    if init in ("", IMAGENET):
        return None
    if read_init_widths(init):
        return "residual"
    path = find_model(init)
    if path.suffix == SUFFIX:
        raise InputError(
            f"init {init} is an exported model of another network than the face networks, and no "
            "training can start from it",
            f'give the checkpoint of its run; whole-photo networks start from init = "{IMAGENET}"',
        )
    network: str | None = read_weights(path).get("config", {}).get("network")
    return network


def freeze_layers(network: Network, trainable: str) -> None:
    """Freeze all layers that are not to be trained.

    Args:
        network: the network, which is changed in place.
        trainable: ``all``; ``head`` for the classifier; or ``last-N`` for the last N blocks and all
            layers behind them.

    Raises:
        UsageError: the network has fewer blocks.
    """
    blocks = [m for m in network.features.modules() if isinstance(m, InvertedResidual | Residual)]
    trained: list[nn.Parameter] = list(network.features.parameters())
    if trainable == "head":
        trained = []
    elif trainable != "all":
        wanted = int(trainable.removeprefix("last-"))
        if wanted > len(blocks):
            raise UsageError(
                f"trainable {trainable!r} asks for more blocks than the network has",
                f"there are {len(blocks)}",
            )
        start = next(blocks[-wanted].parameters())
        trained = list(dropwhile(lambda p: p is not start, trained))
    network.features.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


def freeze_norms(network: Network) -> None:
    """Put the batch norms of the features into evaluation mode.

    Few photos give worse estimates of the statistics than the millions behind pretrained weights.
    """
    for layer in network.features.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def find_imagenet_weights(size: NetworkSize) -> Path:
    """Find the file of ImageNet weights in its package.

    Raises:
        InputError: the package is not installed.
    """
    # The package is not imported, because only its file is needed.
    spec = importlib.util.find_spec(size.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / size.weights
        if path.is_file():
            return path
    raise InputError(f"the weights {Path(size.weights).name} are not installed", INSTALL_REMEDY)


def read_exported_weights(path: Path, network: Network) -> StateDict:
    """Read an exported face model as a state dict of the network that it was exported from.

    Batch norms were folded into the convolutions in front of them: each becomes a shift by its
    convolution's bias. Quantised weights become floats.

    Raises:
        ModelError: the file can't be read.
        InputError: it was exported from another network.
    """
    stored = _read_convolutions(parse_model(path, read_model(path)))
    other = InputError(
        f"{path} was exported from another network",
        "give another init, or omit the settings network and widths; whole-photo networks start "
        f'from init = "{IMAGENET}"',
    )
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


def _convert_stem(kernel: Tensor, channels: int) -> Tensor:
    """Convert the kernel of a first layer to grey or RGB samples: [out, in, H, W] in and out.

    Over RGB the converted kernel gives the answer that the original gives over the grey picture,
    up to the contrast by which the network normalises.
    """
    if kernel.shape[1] == channels:
        return kernel
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel * torch.from_numpy(LUMA_WEIGHTS).view(1, 3, 1, 1)


def _imagenet_path(network: Network) -> Path:
    if not isinstance(network, PhotoNet):
        raise UsageError(
            "there are no imagenet weights for this network",
            f"set network to {' or '.join(NETWORK_SIZES)}",
        )
    return find_imagenet_weights(NETWORK_SIZES[network.name])


def read_weights(path: Path) -> dict[str, Any]:
    """Read the file of a checkpoint or of a state dict.

    Raises:
        InputError: it can't be read.
    """
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises nearly every type for a damaged file
        raise InputError(
            f"{path} can't be read as weights ({describe_error(error)})", INIT_REMEDY
        ) from error
    if not isinstance(stored, dict):
        kind = type(stored).__name__
        raise InputError(f"{path} can't be read as weights: it holds a {kind}", INIT_REMEDY)
    return stored


def describe_error(error: Exception) -> str:
    """Describe an error of PyTorch or of the parsing in one line of at most 200 characters."""
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {printable_text(first[:200])}"


def _read_state_dict(path: Path) -> StateDict:
    """Read the averaged weights of a checkpoint, or a state dict.

    Raises:
        InputError: the file can't be read, or holds anything else.
    """
    stored = read_weights(path)
    weights = stored.get("ema", stored)
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise InputError(f"{path} holds no weights of a network", INIT_REMEDY)
    return weights


def _rename_weights(weights: StateDict, network: Network) -> StateDict:
    """Rename published weights; both networks list the same layers in the same order."""
    if PUBLISHED_STEM not in weights or not isinstance(network, PhotoNet):
        return weights
    own = network.state_dict()
    standard = len(network.features) - 1
    layers = [name for name in own if not name.startswith(f"features.{standard}.")]
    if len(layers) != len(weights):
        return weights
    return {**own, **dict(zip(layers, weights.values(), strict=True))}


def _list_convolutions(network: Network) -> list[tuple[str, str]]:
    """List the names of each convolution and of the batch norm behind it, in the graph's order."""
    names = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    return list(zip(names[::2], names[1::2], strict=True))


def _read_convolutions(model: onnx.ModelProto) -> list[Floats]:
    """Read kernels and biases of the convolutions, in the order of the network's modules."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in STORAGE_OPERATORS and all(name in values for name in node.input):
            (value,) = ReferenceEvaluator(node).run(None, {n: values[n] for n in node.input})
            values[node.output[0]] = np.asarray(value)
    # A convolution without a bias adds up classes, see ``DeployedNetwork``.
    convolutions = [
        node for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2
    ]
    # Sorted by name, which begins with the module's, because a shortcut may run before its block.
    return [
        np.array(values[name], dtype=np.float32)
        for node in sorted(convolutions, key=lambda node: _module_sort_key(node.input[1]))
        for name in node.input[1:]
        if name in values
    ]


def _module_sort_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names such as ``features.10.body.0`` by their numbers."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in name.split(".")]
