"""A model that keeps the contract, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.contract.golden import Golden
from batch.fusion import Fusion
from batch.records import Region


@dataclass(frozen=True)
class ModelSpec:
    """What a model says of itself in its metadata.

    ``margin`` widens a face crop by that share of the face's side on each side;
    ``unsure_below`` is the confidence under which an answer counts as unsure;
    ``label_shares`` are the training data's; ``metrics`` are free-form figures; ``fusion``
    joins a whole-photo model of two labels to a face model.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    region: Region
    margin: float
    resize: str
    unsure_below: float
    data_fingerprint: str
    label_shares: Mapping[str, float]
    metrics: Mapping[str, Any]
    created: str
    golden: Golden
    fusion: Fusion | None = None


@dataclass(frozen=True)
class Model:
    """A model that keeps the contract, ready to be opened.

    ``graph`` is the file's bytes, ``digest`` their SHA-256, and an input is
    uint8 [N, height, width, channels].
    """

    path: Path
    graph: bytes
    digest: str
    spec: ModelSpec
    height: int
    width: int
    channels: int
