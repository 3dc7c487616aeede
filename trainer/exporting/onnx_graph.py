"""Exports a trained network as an ONNX graph: pixels in, calibrated probabilities out.

Batch norms, temperature, softmax and the sums of joined classes are part of the graph, which has
only standard operators. A parity check compares it with PyTorch.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from batch.errors import BatchLabelError
from batch.inference.session import open_session
from batch.options import Provider
from trainer.datasets.dataset import Framing, Pixels, Votes
from trainer.evaluation.exported_models import PREDICTION_BATCH
from trainer.evaluation.metrics import Probabilities
from trainer.exporting.answer_changes import MAX_DIFFERENCE, measure_differences
from trainer.networks import Network, average_pool

OPSET = 18
INPUT_NAME, OUTPUT_NAME, BATCH_AXIS = "pixels", "probabilities", "N"
PARITY_BATCHES = (1, 2, 33)
PARITY_SAMPLES = 66


class DeployedNetwork(nn.Module):
    """A network with calibration and softmax, for some of its classes or groups of them.

    Shapes: uint8 [N, H, W, C] in, float32 [N, outputs] out.

    Args:
        network: the trained network.
        columns: the classes to use, in the order of the outputs. An eight-class network can answer
            happy or sad from the logits of these two classes.
        temperature: divides the logits.
        mirrored: run every picture also mirrored, and average the logits.
        groups: float32 [outputs, len(columns)] of 0 and 1; an output is the sum of its classes'
            probabilities. None if every class is an output.
        offsets: float [len(columns)], subtracted from the logits before the division.
    """

    def __init__(
        self,
        network: Network,
        columns: tuple[int, ...],
        temperature: float,
        mirrored: bool = False,
        groups: Votes | None = None,
        offsets: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.features = _fuse_norms(copy.deepcopy(network.features).eval())
        self.head = _build_head(network.classifier, columns, temperature, offsets)
        self.joined = nn.Identity() if groups is None else _build_sums(groups)
        self.requires_grad_(False)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).float()
        if self.mirrored:
            images = torch.cat([images, images.flip(3)])
        means = average_pool(self.features(images))
        if self.mirrored:
            # The head is linear, so the mean of its inputs gives the mean of its logits.
            pairs = means.reshape(2, -1, *means.shape[1:])
            means = (pairs[0] + pairs[1]) / 2
        probabilities: Tensor = self.joined(torch.softmax(self.head(means), dim=1))
        return probabilities.squeeze(3).squeeze(2)


def round_to_float16(deployed: DeployedNetwork) -> DeployedNetwork:
    """Copy the network with weights rounded to float16; it still computes in float32."""
    rounded = copy.deepcopy(deployed)
    for weights in rounded.parameters():
        weights.copy_(weights.half().float())
    return rounded


def _build_head(
    classifier: nn.Linear,
    columns: tuple[int, ...],
    temperature: float,
    offsets: npt.NDArray[np.float64] | None,
) -> nn.Conv2d:
    """Convert the classifier to a 1x1 convolution for the chosen classes.

    The order of additions in a matrix product depends on the batch size; a convolution computes
    each picture separately.
    """
    head = nn.Conv2d(classifier.in_features, len(columns), 1)
    chosen = list(columns)
    with torch.no_grad():
        head.weight.copy_(classifier.weight[chosen, :, None, None] / temperature)
        bias = classifier.bias[chosen].clone()
        if offsets is not None:
            bias -= torch.from_numpy(offsets).to(bias)
        head.bias.copy_(bias / temperature)  # type: ignore[union-attr]
    return head


def _build_sums(groups: Votes) -> nn.Conv2d:
    """Build the sums of probabilities by group, also as a 1x1 convolution."""
    sums = nn.Conv2d(groups.shape[1], groups.shape[0], 1, bias=False)
    with torch.no_grad():
        sums.weight.copy_(torch.from_numpy(groups)[:, :, None, None])
    return sums


def _fuse_norms(layers: nn.Sequential) -> nn.Sequential:
    """Fuse every batch norm with the convolution before it, at any depth."""
    fused: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(fused[-1], nn.Conv2d):
            fused[-1] = fuse_conv_bn_eval(fused[-1], layer)
            continue
        for name, child in layer.named_children():
            if isinstance(child, nn.Sequential):
                setattr(layer, name, _fuse_norms(child))
        fused.append(layer)
    return nn.Sequential(*fused)


def export_graph(deployed: DeployedNetwork, framing: Framing) -> onnx.ModelProto:
    """Export a network for any batch size: uint8 [N, H, W, C] to float32 [N, K]."""
    # Two pictures: the exporter treats a batch of one as a constant.
    example = torch.zeros((2, framing.side, framing.side, framing.channels), dtype=torch.uint8)
    with _silence_exporter():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            external_data=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes={INPUT_NAME: {0: torch.export.Dim(BATCH_AXIS)}},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # dynamo=True returns one
    graph = program.model_proto
    _strip_notes(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def serialise_with_metadata(graph: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """Serialise a graph with ``metadata_props`` to the bytes of an ONNX file."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph)
    onnx.helper.set_model_props(proto, dict(metadata))
    # Without this flag the order of bytes may vary.
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def store_as_float16(model: onnx.ModelProto) -> None:
    """Store float32 weights as float16 with a cast, if float16 represents them exactly.

    This halves the file. ONNX Runtime folds the casts when it opens the model.
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        weights = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            small = weights.astype(np.float16)
        if weights.ndim == 0 or not np.array_equal(small.astype(np.float32), weights):
            continue
        name = tensor.name
        stored = f"{name}.half"
        tensor.CopyFrom(numpy_helper.from_array(small, stored))
        cast = onnx.helper.make_node(
            "Cast", [stored], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT
        )
        casts.append(cast)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)


@contextlib.contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the exporter's progress, notes and warnings."""
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            noisy.setLevel(level)


def _strip_notes(message: Any) -> None:
    """Remove notes and stack traces, with paths of this machine, from a protobuf message."""
    for field, value in list(message.ListFields()):
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip_notes(part)


class ParityError(BatchLabelError):
    """The exported model's answers differ from the network's."""


def check_parity(deployed: nn.Module, graph: bytes, pixels: Pixels) -> float:
    """Compare PyTorch with ONNX Runtime in batches of several sizes.

    Returns:
        The largest difference of a probability.

    Raises:
        ParityError: it is more than ``MAX_DIFFERENCE``.
    """
    pixels = pixels[:PARITY_SAMPLES]
    wanted = predict_torch(deployed, pixels)
    session = open_session(graph, Provider.CPU, pixels[:1])
    worst = float(
        np.max(measure_differences(lambda p: session.run(p)[0], pixels, wanted, PARITY_BATCHES))
    )
    if not worst <= MAX_DIFFERENCE:
        raise ParityError(
            f"the exported model's answers differ by {worst:.2g} from the network's",
            "try --weights float32, or other versions of torch and onnxruntime",
        )
    return worst


def predict_torch(deployed: nn.Module, pixels: Pixels) -> Probabilities:
    """Run the deployed network in PyTorch: uint8 [n, H, W, C] to float32 [n, K]."""
    with torch.inference_mode():
        batches = [
            deployed(torch.tensor(pixels[at : at + PREDICTION_BATCH]))
            for at in range(0, len(pixels), PREDICTION_BATCH)
        ]
    answers: Probabilities = torch.cat(batches).numpy()
    return answers
