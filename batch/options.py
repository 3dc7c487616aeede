"""What a run is told, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from batch.discover import Search

# A face model, and the whole-photo model that speaks with it and where there is no face.
DEFAULT_MODEL = "happy-sad+people"
DEFAULT_BATCH_SIZE = 32


class Provider(StrEnum):
    """Where a model runs; ``auto`` is CUDA where it works and else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Options:
    """How photos are found and labelled.

    ``model`` is the name of a shipped model or the path of an .onnx file, or two of them
    joined by ``+``; ``batch_size``
    counts the crops of one call of the model; ``workers`` are the photos worked on at the
    same time, None for as many as there are cores; an answer below ``min_confidence``
    (0 to 1) is unsure, None for what the model's metadata say.
    """

    model: str = DEFAULT_MODEL
    provider: Provider = Provider.AUTO
    batch_size: int = DEFAULT_BATCH_SIZE
    workers: int | None = None
    min_confidence: float | None = None
    search: Search = field(default_factory=Search)
