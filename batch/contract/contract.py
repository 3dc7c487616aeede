"""The model contract: what an .onnx file must be and say for the runner to take it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from batch.contract.golden import pack_golden, unpack_golden
from batch.contract.graph import broken, check_output, input_shape, refuse_foreign, refuse_unbounded
from batch.contract.model import Model, ModelSpec
from batch.contract.modelfile import parse_model, read_model
from batch.errors import ModelError
from batch.fusion import pack_fusion, unpack_fusion
from batch.names import printable
from batch.records import Region

SCHEMA_VERSION = 1
MAX_LABELS = 1000
MAX_NAME = 200  # characters of a label, a name or a version
RESIZE_RULES = ("stretch",)


def load_model(path: Path) -> Model:
    """Read a model file and check it against the contract.

    Raises:
        ModelError: the file is missing, no ONNX, or breaks the contract; the message says
            which rule and why it matters.
    """
    graph = read_model(path)
    proto = parse_model(path, graph)
    refuse_foreign(path, proto)
    refuse_unbounded(path, proto, len(graph))
    spec = _spec(path, {entry.key: entry.value for entry in proto.metadata_props})
    height, width, channels = input_shape(path, proto)
    check_output(path, proto, len(spec.labels))
    if spec.golden.inputs.shape[1:] != (height, width, channels):
        raise broken(path, "its golden samples do not have its input's shape")
    return Model(
        path=path,
        graph=graph,
        digest=hashlib.sha256(graph).hexdigest(),
        spec=spec,
        height=height,
        width=width,
        channels=channels,
    )


def metadata(spec: ModelSpec) -> dict[str, str]:
    """Write a spec as the ``metadata_props`` of a model."""
    return {
        "schema_version": str(SCHEMA_VERSION),
        "name": spec.name,
        "version": spec.version,
        "labels": json.dumps(spec.labels),
        "region": spec.region.value,
        "margin": str(spec.margin),
        "resize": spec.resize,
        "unsure_below": str(spec.unsure_below),
        "data_fingerprint": spec.data_fingerprint,
        "label_shares": json.dumps(dict(spec.label_shares)),
        "metrics": json.dumps(dict(spec.metrics)),
        "created": spec.created,
        "golden": pack_golden(spec.golden),
        **({"fusion": pack_fusion(spec.fusion)} if spec.fusion else {}),
    }


def _spec(path: Path, props: Mapping[str, str]) -> ModelSpec:
    _check_schema(path, props)
    try:
        spec = ModelSpec(
            name=props["name"],
            version=props["version"],
            labels=_labels(props["labels"]),
            region=Region(props["region"]),
            margin=float(props["margin"]),
            resize=props["resize"],
            unsure_below=float(props["unsure_below"]),
            data_fingerprint=props["data_fingerprint"],
            label_shares=_shares(props["label_shares"]),
            metrics=dict(json.loads(props["metrics"])),
            created=props["created"],
            golden=unpack_golden(props["golden"]),
            fusion=unpack_fusion(props["fusion"]) if "fusion" in props else None,
        )
    except KeyError as error:
        raise broken(path, f"its metadata lack {error.args[0]!r}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        why = printable(str(error))[:MAX_NAME]
        raise broken(path, f"its metadata can't be understood ({why})") from error
    _check_values(path, spec)
    return spec


def _labels(text: str) -> tuple[str, ...]:
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TypeError("the labels are no list of texts")
    return tuple(labels)


def _shares(text: str) -> dict[str, float]:
    shares = json.loads(text)
    if not isinstance(shares, dict):
        raise TypeError("the label_shares are no object")
    return {label: float(share) for label, share in shares.items()}


def _check_schema(path: Path, props: Mapping[str, str]) -> None:
    schema = props.get("schema_version")
    if schema is None:
        raise broken(path, "its metadata lack 'schema_version', so its labels are unknown")
    if len(schema) > 9 or not schema.isdecimal() or int(schema) < 1:
        shown = repr(schema[:MAX_NAME])
        raise broken(path, f"its schema_version {shown} is not a positive whole number")
    if int(schema) > SCHEMA_VERSION:
        raise ModelError(
            f"model {path} has schema version {schema}, this program knows up to {SCHEMA_VERSION}",
            "install a newer batch-label",
        )


def _check_values(path: Path, spec: ModelSpec) -> None:
    if len(spec.labels) > MAX_LABELS:
        raise broken(path, f"it has {len(spec.labels):,} labels, more than {MAX_LABELS:,}")
    if max(map(len, (*spec.labels, spec.name, spec.version))) > MAX_NAME:
        raise broken(path, f"a label, its name or its version is longer than {MAX_NAME} characters")
    if len(spec.labels) < 2 or len(set(spec.labels)) != len(spec.labels) or "" in spec.labels:
        raise broken(path, f"its labels {list(spec.labels)} are not two or more different names")
    if not 0 <= spec.margin <= 10:
        raise broken(path, f"its margin {spec.margin} is not between 0 and 10")
    if not 0 <= spec.unsure_below <= 1:
        raise broken(path, f"its unsure_below {spec.unsure_below} is not between 0 and 1")
    if spec.resize not in RESIZE_RULES:
        raise broken(
            path, f"its resize rule {spec.resize[:MAX_NAME]!r} is not one of {RESIZE_RULES}"
        )
    if spec.fusion and (spec.region is not Region.IMAGE or len(spec.labels) != 2):
        raise broken(path, "only a whole-photo model of two labels can have a fusion")
    if spec.golden.outputs.shape != (len(spec.golden.inputs), len(spec.labels)):
        raise broken(path, "its golden samples do not have one probability for each label")
