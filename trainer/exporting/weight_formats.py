"""Integer arithmetic for a graph's convolutions (Jacob et al. 2017, arXiv 1712.05877)."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from trainer.datasets.dataset import Dataset, Pixels, Split
from trainer.evaluation.exported_models import predict_onnx
from trainer.evaluation.metrics import Probabilities, sign_test
from trainer.exporting.onnx_graph import (
    INPUT_NAME,
    DeployedNetwork,
    ParityError,
    check_parity,
    export_graph,
    predict_torch,
    round_to_float16,
    serialise_with_metadata,
    store_as_float16,
)

QUANTIZED_OPERATORS = ["Conv", "Add", "Relu", "Clip"]
CALIBRATION_SAMPLES = 512
CALIBRATION_BATCH = 32


def quantize(graph: onnx.ModelProto, pixels: Pixels) -> onnx.ModelProto:
    """Let the convolutions of a graph with float32 weights compute in 8 bits.

    ``pixels``: training pictures, uint8 [n, H, W, C]; an even choice of them shows the range
    of every activation. What stands in front of the first convolution stays in float, and so
    does the convolution that gives the logits with all that follows. The graph keeps to standard
    operators (QuantizeLinear and DequantizeLinear), which ONNX Runtime merges into integer kernels.
    """
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), CALIBRATION_SAMPLES)).astype(int)
    with TemporaryDirectory() as folder, _silence_quantizer():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # As a file, since a graph in memory would be left with its weights outside of it.
        onnx.save(graph, source)
        quantize_static(
            source,
            target,
            _CalibrationReader(pixels[chosen]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Processors without instructions for it add up products of unsigned and signed
            # bytes in 16 bits, which 8 bit weights overflow and 7 bit weights do not.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_providers=["CPUExecutionProvider"],
            op_types_to_quantize=QUANTIZED_OPERATORS,
            nodes_to_exclude=_list_float_nodes(graph.graph),
        )
        quantized = onnx.load(target)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    def __init__(self, pixels: Pixels) -> None:
        self._batches = iter(
            np.split(pixels, range(CALIBRATION_BATCH, len(pixels), CALIBRATION_BATCH))
        )

    def get_next(self) -> dict[str, Pixels] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def _list_float_nodes(graph: onnx.GraphProto) -> list[str]:
    operators = [node.op_type for node in graph.node]
    softmax = operators.index("Softmax")
    head = max(n for n, operator in enumerate(operators[:softmax]) if operator == "Conv")
    kept = [*graph.node[: operators.index("Conv")], *graph.node[head:]]
    return [node.name for node in kept]


@contextlib.contextmanager
def _silence_quantizer() -> Iterator[None]:
    """Keep advice on preparing the graph from the user, who can't act on it."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


# == How a model's weights are stored: in full, in half, or as integers that compute as such.

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
