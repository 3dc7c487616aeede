"""What a worker needs to label photos, as the run hands it over."""

from __future__ import annotations

from dataclasses import dataclass

from batch.ensemble import Ensemble


@dataclass(frozen=True)
class Plan:
    """Models and the rules by which they answer; ``detector`` is the face detector's graph.

    ``batch_size`` counts the crops of one call of a model.
    """

    ensemble: Ensemble
    detector: bytes
    batch_size: int
