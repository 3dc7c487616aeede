"""Weight formats of an exported model: float32, float16, or int8 with integer convolutions.

Static quantisation after Jacob et al. 2017 (arXiv 1712.05877).
"""

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
from trainer.exporting.answer_changes import (
    MAX_CHANGED,
    MAX_MEAN_CHANGE,
    AnswerChanges,
    measure_answer_changes,
)
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
    """Quantise the convolutions of a float32 graph to 8-bit integers.

    The nodes before the first convolution, the convolution that gives the logits and the nodes
    after it stay in float. The graph uses standard operators only (QuantizeLinear and
    DequantizeLinear), which ONNX Runtime merges into integer kernels.

    Args:
        graph: the graph, with float32 weights.
        pixels: training pictures, uint8 [n, H, W, C]; evenly spaced ones calibrate the range of
            every activation.
    """
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), CALIBRATION_SAMPLES)).astype(int)
    with TemporaryDirectory() as folder, _silence_quantizer():
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # Through files: quantising a graph in memory would move its weights to an external file.
        onnx.save(graph, source)
        quantize_static(
            source,
            target,
            _CalibrationReader(pixels[chosen]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # CPUs without instructions for int8 dot products add products in 16 bits, which
            # overflows with 8-bit weights, but not with 7-bit ones.
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
    """Suppress the quantizer's advice on preparing the graph, which users can't follow."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


# Largest share of validation samples that int8 may newly get wrong. A larger loss is accepted if
# its p-value is at least the significance level.
MAX_INT8_LOSS = 0.002
SIGNIFICANCE_LEVEL = 0.05


class WeightFormat(StrEnum):
    """How weights are stored; ``auto`` is float16 if validation shows no loss, else float32.

    With ``int8`` convolutions compute with integers, with the other formats in float32.
    """

    AUTO = "auto"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class BuiltGraph:
    """A graph without metadata.

    Attributes:
        graph: the graph.
        weights: how its weights are stored.
        difference: largest difference of a probability from PyTorch, before int8 quantisation.
        answer_changes: the answers compared with those of the network before its weights were
            stored.
    """

    graph: onnx.ModelProto
    weights: WeightFormat
    difference: float
    answer_changes: AnswerChanges


def build_graph(
    deployed: DeployedNetwork, how: WeightFormat, data: Dataset, validation: Split
) -> BuiltGraph:
    """Export a network with the given weight format.

    Args:
        deployed: the network.
        how: the weight format.
        data: its training split calibrates the ranges of int8 activations.
        validation: samples that measure the loss of a format.

    Raises:
        ParityError: the graph's answers differ from the network's.
    """
    exact = predict_torch(deployed, validation.pixels)
    deployed, weights = _round_weights(deployed, how, validation)
    graph = export_graph(deployed, data.framing)
    difference = check_parity(deployed, serialise_with_metadata(graph, {}), validation.pixels)
    if weights is WeightFormat.FLOAT16:
        store_as_float16(graph)
    elif weights is WeightFormat.INT8:
        graph = quantize(graph, data.get_split("train").pixels)
    stored = predict_onnx(serialise_with_metadata(graph, {}), validation.pixels)
    answer_changes = measure_answer_changes(exact, stored)
    if weights is WeightFormat.INT8:
        _check_loss(exact, stored, validation)
        _check_answer_changes(answer_changes)
    return BuiltGraph(graph, weights, difference, answer_changes)


def _check_loss(exact: Probabilities, quantized: Probabilities, validation: Split) -> None:
    """Refuse int8 if it loses more right answers than sampling error explains (a sign test)."""
    before, after = (_is_right(answers, validation) for answers in (exact, quantized))
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    if lost - won > MAX_INT8_LOSS * len(validation) and sign_test(lost, won) < SIGNIFICANCE_LEVEL:
        raise ParityError(
            f"with int8 {after.sum():,} of {len(validation):,} validation samples are right, with "
            f"float32 {before.sum():,}",
            "export with --weights float16",
        )


def _check_answer_changes(found: AnswerChanges) -> None:
    """Refuse int8 if it changes more answers than are allowed, right or wrong ones."""
    if not found.is_close:
        raise ParityError(
            f"with int8 {found.changed:,} of {found.samples:,} validation samples have another "
            f"answer than with float32 (allowed: {MAX_CHANGED:.0%}), and a probability changes by "
            f"{found.mean:.2g} on average (allowed: {MAX_MEAN_CHANGE:g})",
            "export with --weights float16",
        )


def _round_weights(
    deployed: DeployedNetwork, how: WeightFormat, validation: Split
) -> tuple[DeployedNetwork, WeightFormat]:
    """Round the weights to float16 if requested, or for ``auto`` if no right answer is lost."""
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
