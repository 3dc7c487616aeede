"""Tiny ONNX models that satisfy the model contract, or violate it in one point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from batch.models.contract import to_metadata
from batch.models.fusion import Fusion, FusionWeights
from batch.models.model import GoldenSamples, ModelSpec
from batch.records import Region

SIDE = 8
GREYS = (0, 51, 255)
# The outputs for a black and for a white picture, by the number of abstain outputs; they are
# interpolated by the mean grey.
BLACK_WHITE_OUTPUTS = {
    0: ((0.0, 1.0), (1.0, 0.0)),
    1: ((0.0, 0.0, 1.0), (0.75, 0.25, 0.0)),
    2: ((0.0, 0.0, 0.25, 0.75), (0.75, 0.25, 0.0, 0.0)),
}


def bright_outputs(greys: Sequence[float], abstain: int = 0) -> npt.NDArray[np.float32]:
    """Compute the outputs for pictures of one grey each (0 to 255): float32 [n, 2 + abstain]."""
    black, white = np.asarray(BLACK_WHITE_OUTPUTS[abstain])
    share = np.asarray(greys, dtype=np.float64)[:, None] / 255
    outputs: npt.NDArray[np.float32] = (black + share * (white - black)).astype(np.float32)
    return outputs


def bright_spec(**changes: object) -> ModelSpec:
    """Make the spec of a model for which bright pictures are happy.

    With ``abstain_from`` it has abstain outputs, which are likely for dark pictures.
    """
    inputs = np.stack([np.full((SIDE, SIDE, 1), grey, dtype=np.uint8) for grey in GREYS])
    spec = ModelSpec(
        name="bright",
        version="1.0.0",
        labels=("happy", "sad"),
        region=Region.FACE,
        margin=0.0,
        resize="stretch",
        unsure_below=0.6,
        data_fingerprint="none",
        label_shares={"happy": 0.5, "sad": 0.5},
        metrics={},
        created="2026-01-01",
        golden=GoldenSamples(inputs, bright_outputs(GREYS)),
    )
    changed = replace(spec, **changes)  # type: ignore[arg-type]
    if "golden" in changes or changed.abstain not in ((), ("neither",), ("neither", "no_person")):
        return changed
    outputs = bright_outputs(GREYS, len(changed.abstain))
    return replace(changed, golden=GoldenSamples(inputs, outputs))


def bright_model(spec: ModelSpec | None = None) -> onnx.ModelProto:
    """Make the model that computes ``bright_outputs``, with the abstain outputs of ``spec``."""
    spec = spec or bright_spec()
    black, white = np.asarray(BLACK_WHITE_OUTPUTS[len(spec.abstain)], dtype=np.float32)
    weights = ((white - black) / 255).reshape(-1, 1, 1, 1)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["mean"]),
        helper.make_node("Conv", ["mean", "weights", "bias"], ["both"]),
        helper.make_node("Flatten", ["both"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(black)])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(black, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, to_metadata(spec))
    return model


def set_metadata(model: onnx.ModelProto, **changes: str | None) -> onnx.ModelProto:
    """Change entries of a model's metadata; None removes an entry."""
    props: dict[str, str | None] = {entry.key: entry.value for entry in model.metadata_props}
    props |= changes
    helper.set_model_props(model, {key: value for key, value in props.items() if value is not None})
    return model


def downgrade_to_schema_1(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a model into one of schema version 1, which had no abstain outputs."""
    return set_metadata(model, schema_version="1", abstain=None, abstain_from=None)


def bright_fusion(**changes: object) -> Fusion:
    """Make fusion rules with equal weights for two models; a face never decides alone."""
    rule = FusionWeights((0.0, 0.0), face=1.0, label=1.0, abstain={}, score=0.0, label_limit=4.0,
                abstain_limits={})  # fmt: skip
    fusion = Fusion(
        face_model="face",
        face_abstain=(),
        both=rule,
        photo=replace(rule, face=0.0),
        alone_score=1.0,
        alone_share=100.0,
        alone_from=1.0,
        unsure_below=0.5,
        abstain_from={},
    )
    return replace(fusion, **changes)  # type: ignore[arg-type]


def save_model(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
