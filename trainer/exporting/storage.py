"""How a model's weights are stored: in full, in half, or as integers that compute as such."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import onnx

from trainer.data import Dataset, Part
from trainer.evaluation.bootstrap import chance_of
from trainer.evaluation.metrics import Probabilities
from trainer.exporting.deploy import Deployed, halved
from trainer.exporting.graph import store_halved, to_graph, with_metadata
from trainer.exporting.parity import NotAlike, check_parity, onnx_answers, torch_answers
from trainer.exporting.quantize import quantize

# Share of the validation part that integers may cost in right answers, and the chance from which
# on a larger loss is taken for chance.
MAX_LOSS = 0.002
CHANCE = 0.05


class Weights(StrEnum):
    """How weights are stored; ``auto`` is float16 where validation shows no loss.

    With ``int8`` the convolutions compute in integers as well, with the others in float32.
    """

    AUTO = "auto"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class Built:
    """A graph without metadata, and its largest difference from PyTorch with float weights."""

    graph: onnx.ModelProto
    weights: Weights
    difference: float


def build(deployed: Deployed, how: Weights, data: Dataset, validation: Part) -> Built:
    """Make the graph with weights as they are asked for.

    ``validation`` holds the samples that say what a way of storing them costs.

    Raises:
        NotAlike: the graph answers differently from the network.
    """
    deployed, weights = _store(deployed, how, validation)
    graph = to_graph(deployed, data.framing)
    difference = check_parity(deployed, with_metadata(graph, {}), validation.pixels)
    if weights is Weights.FLOAT16:
        store_halved(graph)
    elif weights is Weights.INT8:
        exact, graph = graph, quantize(graph, data.part("train").pixels)
        _check_loss(exact, graph, validation)
    return Built(graph, weights, difference)


def _check_loss(exact: onnx.ModelProto, quantized: onnx.ModelProto, validation: Part) -> None:
    """Refuse integers that cost right answers, unless chance explains it (a sign test)."""
    before, after = (
        _is_right(onnx_answers(with_metadata(graph, {}), validation.pixels), validation)
        for graph in (exact, quantized)
    )
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    if lost - won > MAX_LOSS * len(validation) and chance_of(lost, won) < CHANCE:
        raise NotAlike(
            f"with int8 {after.sum():,} of {len(validation):,} validation samples are right, with "
            f"float32 {before.sum():,}",
            "export with --weights float16",
        )


def _store(deployed: Deployed, how: Weights, validation: Part) -> tuple[Deployed, Weights]:
    """Round the weights to float16 where that is asked for, or costs no right answer."""
    if how in (Weights.FLOAT32, Weights.INT8):
        return deployed, how
    rounded = halved(deployed)
    if how is Weights.AUTO:
        after, before = (
            _is_right(torch_answers(network, validation.pixels), validation).sum()
            for network in (rounded, deployed)
        )
        if after < before:
            return deployed, Weights.FLOAT32
    return rounded, Weights.FLOAT16


def _is_right(answers: Probabilities, part: Part) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = answers.argmax(axis=1) == part.targets
    return right
