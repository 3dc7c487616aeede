"""Exported models as the trainer opens them: by name or path, with the data they need."""

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


def open_model(name: str) -> Model:
    """Open a shipped model by its name, ``default``, or any model by its path.

    Raises:
        ModelError: there is none, it does not keep the model contract, or the name stands for
            two models, which answer together in the runner alone.
    """
    name = resolve_default_name(name)
    if NAME_SEPARATOR in name and not Path(name).is_file():
        raise ModelError(f"{name} are two models", "add --end-to-end, or name one of them")
    # A name that ends as a file's does is meant as one, so the message is about the file.
    return load_model(Path(name) if name.endswith(SUFFIX) else find_model(name))


def resolve_default_name(name: str) -> str:
    """Give what the runner's ``--model`` takes for a name that may be ``default``."""
    return DEFAULT_MODEL if name == DEFAULT_NAME else name


def derive_framing(model: Model) -> Framing:
    """Say how samples are cut for a model."""
    return Framing(model.spec.region, model.spec.margin, model.width, model.channels)


BATCH_SIZE = 64


def predict_model(model: Model, part: Split) -> Probabilities:
    """Run a model file on the CPU as the runner does: float32 [n, K + A]."""
    return Classifier(model, Provider.CPU, BATCH_SIZE).classify(part.pixels)


PREDICTION_BATCH = 64


def predict_onnx(graph: bytes, pixels: Pixels, batch: int = PREDICTION_BATCH) -> Probabilities:
    """Run an ONNX file's bytes on the CPU: uint8 [n, H, W, C] to float32 [n, K]."""
    session = open_session(graph, Provider.CPU, pixels[:1])
    outputs = [session.run(pixels[at : at + batch])[0] for at in range(0, len(pixels), batch)]
    return np.concatenate(outputs)


# == How long a model takes for one picture, on the processor at hand.

WARM_UP_RUNS, TIMED_RUNS = 10, 100
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class InferenceTime:
    """Median milliseconds for a batch of one picture on one thread of a processor."""

    milliseconds: float
    processor: str


def measure_inference(graph: bytes, pixels: Pixels) -> InferenceTime:
    """Time an ONNX file's bytes on the CPU, as the runner opens it, on the first picture."""
    session = open_session(graph, Provider.CPU, pixels[:1])
    times = []
    for _ in range(WARM_UP_RUNS + TIMED_RUNS):
        start = time.perf_counter()
        session.run(pixels[:1])
        times.append(time.perf_counter() - start)
    return InferenceTime(1000 * statistics.median(times[WARM_UP_RUNS:]), read_processor_name())


def read_processor_name() -> str:
    """Name the processor as its maker does, or by its architecture where it can't be read."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()
