"""Opens exported models by name or path, runs them on samples, and times them."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch.errors import ModelError
from batch.inference.session import open_session
from batch.models.contract import load_model
from batch.models.model import Model
from batch.models.shipped import NAME_SEPARATOR, SUFFIX, find_model
from batch.options import DEFAULT_MODEL, Provider
from batch.vision.classify import Classifier
from trainer.datasets.dataset import Framing, Pixels, Split
from trainer.evaluation.metrics import Probabilities

DEFAULT_NAME = "default"
PREDICTION_BATCH = 64
WARM_UP_RUNS, TIMED_RUNS = 10, 100
CPU_INFO = Path("/proc/cpuinfo")


def open_model(name: str) -> Model:
    """Open a model by the name of a shipped one, ``default``, or a path.

    Raises:
        ModelError: the model is missing or breaks the contract, or the name is that of a pair of
            models, which only the runner can load.
    """
    name = resolve_default_name(name)
    if NAME_SEPARATOR in name and not Path(name).is_file():
        raise ModelError(f"{name} names two models", "add --end-to-end, or name one of them")
    # A name with the suffix of model files is a path, and the error message names the file.
    return load_model(Path(name) if name.endswith(SUFFIX) else find_model(name))


def resolve_default_name(name: str) -> str:
    """Replace ``default`` by the runner's default ``--model``."""
    return DEFAULT_MODEL if name == DEFAULT_NAME else name


def derive_framing(model: Model) -> Framing:
    """Return the framing that a model's samples need.

    Raises:
        ModelError: the model's input is not square, as samples are.
    """
    if model.width != model.height:
        raise ModelError(
            f"model {model.path} has an input of {model.width} x {model.height} pixels, but the "
            "trainer's samples are square",
            "label photos with batch-label instead, or export the model with a square input",
        )
    spec = model.spec
    return Framing(spec.region, spec.margin, model.width, model.channels, spec.resize)


def predict_model(model: Model, part: Split) -> Probabilities:
    """Run a model on the CPU as the runner does: float32 [n, K + A]."""
    return Classifier(model, Provider.CPU, PREDICTION_BATCH).classify(part.pixels)


def predict_onnx(graph: bytes, pixels: Pixels, batch: int = PREDICTION_BATCH) -> Probabilities:
    """Run an ONNX graph on the CPU: uint8 [n, H, W, C] to float32 [n, K]."""
    session = open_session(graph, Provider.CPU, pixels[:1])
    outputs = [
        session.run(np.ascontiguousarray(pixels[at : at + batch]))[0]
        for at in range(0, len(pixels), batch)
    ]
    return np.concatenate(outputs)


@dataclass(frozen=True)
class InferenceTime:
    """Inference time for a batch of one picture on one thread.

    Attributes:
        milliseconds: the median.
        processor: name of the CPU.
    """

    milliseconds: float
    processor: str


def measure_inference(graph: bytes, pixels: Pixels) -> InferenceTime:
    """Time an ONNX graph on the CPU, opened as the runner does, with the first picture."""
    session = open_session(graph, Provider.CPU, pixels[:1])
    times = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        start = time.perf_counter()
        session.run(pixels[:1])
        times.append(time.perf_counter() - start)
    return InferenceTime(1000 * statistics.median(times[WARM_UP_RUNS:]), read_processor_name())


def read_processor_name() -> str:
    """Return the CPU's model name, or its architecture if the name is unknown."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
