"""Integer arithmetic for a graph's convolutions (Jacob et al. 2017, arXiv 1712.05877)."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from trainer.data import Pixels
from trainer.exporting.graph import INPUT_NAME

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
