"""How a model's weights are stored: in full, in half, or as integers that compute as such."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import onnx

from trainer.data import Dataset, Split
from trainer.evaluation.bootstrap import sign_test
from trainer.evaluation.metrics import Probabilities
from trainer.exporting.deploy import DeployedNetwork, round_to_float16
from trainer.exporting.graph import export_graph, serialise_with_metadata, store_as_float16
from trainer.exporting.models import predict_onnx
from trainer.exporting.parity import ParityError, check_parity, predict_torch
from trainer.exporting.quantize import quantize

# Share of the validation part that integers may cost in right answers, and the chance from which
# on a larger loss is taken for chance.
MAX_INT8_LOSS = 0.002
SIGNIFICANCE_LEVEL = 0.05


class WeightFormat(StrEnum):
    """How weights are stored; ``auto`` is float16 where validation shows no loss.

    With ``int8`` the convolutions compute in integers as well, with the others in float32.
    """

    AUTO = "auto"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class BuiltGraph:
    """A graph without metadata, and its largest difference from PyTorch with float weights."""

    graph: onnx.ModelProto
    weights: WeightFormat
    difference: float


def build_graph(
    deployed: DeployedNetwork, how: WeightFormat, data: Dataset, validation: Split
) -> BuiltGraph:
    """Make the graph with weights as they are asked for.

    ``validation`` holds the samples that say what a way of storing them costs.

    Raises:
        NotAlike: the graph answers differently from the network.
    """
    deployed, weights = _round_weights(deployed, how, validation)
    graph = export_graph(deployed, data.framing)
    difference = check_parity(deployed, serialise_with_metadata(graph, {}), validation.pixels)
    if weights is WeightFormat.FLOAT16:
        store_as_float16(graph)
    elif weights is WeightFormat.INT8:
        exact, graph = graph, quantize(graph, data.get_split("train").pixels)
        _check_loss(exact, graph, validation)
    return BuiltGraph(graph, weights, difference)


def _check_loss(exact: onnx.ModelProto, quantized: onnx.ModelProto, validation: Split) -> None:
    """Refuse integers that cost right answers, unless chance explains it (a sign test)."""
    before, after = (
        _is_right(predict_onnx(serialise_with_metadata(graph, {}), validation.pixels), validation)
        for graph in (exact, quantized)
    )
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    if lost - won > MAX_INT8_LOSS * len(validation) and sign_test(lost, won) < SIGNIFICANCE_LEVEL:
        raise ParityError(
            f"with int8 {after.sum():,} of {len(validation):,} validation samples are right, with "
            f"float32 {before.sum():,}",
            "export with --weights float16",
        )


def _round_weights(
    deployed: DeployedNetwork, how: WeightFormat, validation: Split
) -> tuple[DeployedNetwork, WeightFormat]:
    """Round the weights to float16 where that is asked for, or costs no right answer."""
    if how in (WeightFormat.FLOAT32, WeightFormat.INT8):
        return deployed, how
    rounded = round_to_float16(deployed)
    if how is WeightFormat.AUTO:
        after, before = (
            _is_right(predict_torch(network, validation.pixels), validation).sum()
            for network in (rounded, deployed)
        )
        if after < before:
            return deployed, WeightFormat.FLOAT32
    return rounded, WeightFormat.FLOAT16


def _is_right(answers: Probabilities, part: Split) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = answers.argmax(axis=1) == part.targets
    return right
