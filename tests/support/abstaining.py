"""Tiny ONNX models whose answers, abstentions included, depend on the brightness of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.models.contract import to_metadata
from batch.models.fusion import Fusion, FusionWeights
from batch.models.model import GoldenSamples, ModelSpec
from batch.records import Region
from tests.support.tiny_models import SIDE, save_model

LABELS = ("happy", "sad")
ABSTAIN = ("neither", "no_person")
# The mean grey, 0 to 1, from which on each output is the most likely one.
LIKELIEST = {"no_person": 0.0, "sad": 0.15, "neither": 0.4, "happy": 0.5}
# Growth of an output's logit over the one before, per unit of mean grey above its start.
SLOPE = 40.0
PAIR = "face.onnx+image.onnx"


def save_abstaining(folder: Path) -> None:
    """Save a face model that abstains with ``neither``, and the whole-photo model fitted to it."""
    save_model(abstaining_model(Region.FACE, ("neither",)), folder / "face.onnx")
    save_model(abstaining_model(Region.IMAGE, ABSTAIN), folder / "image.onnx")


def abstaining_model(region: Region, abstain: tuple[str, ...]) -> onnx.ModelProto:
    """Make a model whose most likely output depends on the mean grey only, see ``LIKELIEST``."""
    slopes, starts = _lines((*LABELS, *abstain))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["mean"]),
        helper.make_node("Conv", ["mean", "slopes", "starts"], ["all"]),
        helper.make_node("Flatten", ["all"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = len(slopes)
    graph = helper.make_graph(
        nodes,
        "abstaining",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", outputs])],
        [
            numpy_helper.from_array((slopes / 255).reshape(outputs, 1, 1, 1), "slopes"),
            numpy_helper.from_array(starts, "starts"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, to_metadata(_spec(region, abstain)))
    return model


def _spec(region: Region, abstain: tuple[str, ...]) -> ModelSpec:
    greys = (10, 70, 115, 230)
    slopes, starts = _lines((*LABELS, *abstain))
    logits = np.asarray([slopes * grey / 255 + starts for grey in greys])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    inputs = np.stack([np.full((SIDE, SIDE, 1), grey, dtype=np.uint8) for grey in greys])
    return ModelSpec(
        name=f"abstaining-{region}",
        version="1.0.0",
        labels=LABELS,
        region=region,
        margin=0.0,
        resize="stretch",
        unsure_below=0.6,
        data_fingerprint="none",
        label_shares={"happy": 0.5, "sad": 0.5},
        metrics={},
        created="2026-01-01",
        golden=GoldenSamples(inputs, probabilities),
        abstain_from=dict.fromkeys(abstain, 0.5),
        fusion=_fusion() if region is Region.IMAGE else None,
    )


def _fusion() -> Fusion:
    """Make fusion rules: faces decide label or ``neither``, the whole photo ``no_person``."""
    limits = dict.fromkeys(ABSTAIN, (-8.0, 8.0))
    return Fusion(
        face_model=f"abstaining-{Region.FACE}",
        face_abstain=("neither",),
        both=FusionWeights(
            (0.0,) * 4, 1.0, 0.0, {"neither": 0.0, "no_person": 1.0}, 0.0, 8.0, limits
        ),
        photo=FusionWeights(
            (0.0,) * 4, 0.0, 1.0, {"neither": 1.0, "no_person": 1.0}, 0.0, 8.0, limits
        ),
        alone_score=0.5,
        alone_share=1.0,
        alone_from=0.999,
        unsure_below=0.6,
        abstain_from=dict.fromkeys(ABSTAIN, 0.5),
    )


def _lines(outputs: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Compute logits as linear functions of the mean grey (0 to 1): slopes, and values at 0."""
    lines: dict[str, tuple[float, float]] = {}
    slope, value = 0.0, 0.0
    for name, start in LIKELIEST.items():
        if name in outputs:
            if lines:
                slope, value = slope + SLOPE, value - SLOPE * start
            lines[name] = slope, value
    slopes, starts = zip(*(lines[name] for name in outputs), strict=True)
    return np.asarray(slopes, dtype=np.float32), np.asarray(starts, dtype=np.float32)
