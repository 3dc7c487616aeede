"""The proof that an exported graph answers as the network does, in any batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from batch.errors import BatchLabelError
from trainer.data import Pixels
from trainer.evaluation.metrics import Probabilities
from trainer.exporting.models import PREDICTION_BATCH, predict_onnx

# What PyTorch and ONNX Runtime may differ by in a probability.
MAX_DIFFERENCE = 1e-4
PARITY_BATCHES = (1, 2, 33)
PARITY_SAMPLES = 66


class ParityError(BatchLabelError):
    """The exported model does not answer as the network does."""


def check_parity(deployed: nn.Module, graph: bytes, pixels: Pixels) -> float:
    """Compare PyTorch with ONNX Runtime on pictures in batches of several sizes.

    Returns the largest difference of a probability.

    Raises:
        NotAlike: it is more than ``MAX_DIFFERENCE``.
    """
    pixels = pixels[:PARITY_SAMPLES]
    wanted = predict_torch(deployed, pixels)
    worst = max(
        float(np.abs(predict_onnx(graph, pixels, batch) - wanted).max()) for batch in PARITY_BATCHES
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
