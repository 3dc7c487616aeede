"""The parts of a labeller: built once per run and sent to every worker."""

from __future__ import annotations

from dataclasses import dataclass

from batch.inference.placement import choose_device
from batch.models.ensemble import Ensemble
from batch.options import Device


@dataclass(frozen=True)
class LabellingPlan:
    """The models, the decision rules and the face detector of a run.

    Attributes:
        ensemble: models and rules.
        detector: the face detector's network, an ONNX file's bytes; empty without a face model.
        batch_size: crops per call of a model.
    """

    ensemble: Ensemble
    detector: bytes
    batch_size: int


def make_plan(ensemble: Ensemble, batch_size: int) -> LabellingPlan:
    """Make the plan of a run; build the face detector's network only for a face model."""
    detector = b""
    if ensemble.face:
        # Imported late: it loads the package onnx, which a worker never needs.
        from batch.vision.detector_graph import build_detector_graph

        detector = build_detector_graph()
    return LabellingPlan(ensemble, detector, batch_size)


def choose_ensemble_device(ensemble: Ensemble, wanted: Device) -> tuple[Device, str]:
    """Choose the device of an ensemble by its first model; see ``choose_device``."""
    first = ensemble.models[0]
    return choose_device(wanted, first.graph, first.make_blank_input())
