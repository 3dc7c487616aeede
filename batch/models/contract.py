"""The model contract: reads an .onnx file and checks everything that labelling relies on."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from batch.errors import ModelError
from batch.models.fusion import pack_fusion, unpack_fusion
from batch.models.graph import (
    check_bounded,
    check_output,
    check_self_contained,
    make_contract_error,
    parse_model,
    read_input_shape,
    read_model,
)
from batch.models.model import (
    MAX_VARIED_OUTPUTS,
    MIN_GOLDEN_SPREAD,
    Model,
    ModelSpec,
    ResizeRule,
    pack_golden,
    unpack_golden,
)
from batch.path_text import is_printable, label_text, printable_text
from batch.records import ABSTAIN_OUTPUTS, MAX_LABELS, Region

SCHEMA_VERSION = 2
# First schema in which a model names its abstain outputs, a fusion has weights for them, and golden
# samples must differ from each other.
ABSTAIN_SCHEMA = 2
MAX_NAME_CHARS = 200  # of a label, a name or a version
RESIZE_RULES = tuple(map(str, ResizeRule))


def load_model(path: Path) -> Model:
    """Read a model file and check it against the contract.

    Raises:
        ModelError: the file is missing, is not an ONNX file, or breaks the contract; the message
            names the rule.
    """
    graph = read_model(path)
    proto = parse_model(path, graph)
    check_self_contained(path, proto)
    check_bounded(path, proto, len(graph))
    props = {entry.key: entry.value for entry in proto.metadata_props}
    # Protobuf returns bytes for text that is not UTF-8.
    if not all(isinstance(text, str) for entry in props.items() for text in entry):
        raise make_contract_error(path, "its metadata are not all text")
    spec = _parse_spec(path, props)
    height, width, channels = read_input_shape(path, proto)
    check_output(path, proto, len(spec.outputs))
    if spec.golden.inputs.shape[1:] != (height, width, channels):
        raise make_contract_error(path, "its golden samples do not have its input's shape")
    return Model(
        path=path,
        graph=graph,
        digest=hashlib.sha256(graph).hexdigest(),
        spec=spec,
        height=height,
        width=width,
        channels=channels,
    )


def to_metadata(spec: ModelSpec) -> dict[str, str]:
    """Convert a spec to the ``metadata_props`` of a model."""
    return {
        "schema_version": str(SCHEMA_VERSION),
        "name": spec.name,
        "version": spec.version,
        "labels": json.dumps(spec.labels),
        "abstain": json.dumps(spec.abstain),
        "abstain_from": json.dumps(dict(spec.abstain_from)),
        "region": spec.region.value,
        "margin": str(spec.margin),
        "resize": spec.resize,
        "unsure_below": str(spec.unsure_below),
        "data_fingerprint": spec.data_fingerprint,
        "label_shares": json.dumps(dict(spec.label_shares)),
        "metrics": json.dumps(dict(spec.metrics)),
        "created": spec.created,
        "golden": pack_golden(spec.golden),
        **({"trained_on": spec.trained_on} if spec.trained_on else {}),
        **({"fusion": pack_fusion(spec.fusion)} if spec.fusion else {}),
    }


def _parse_spec(path: Path, props: Mapping[str, str]) -> ModelSpec:
    has_abstain = _parse_schema_version(path, props) >= ABSTAIN_SCHEMA
    try:
        spec = ModelSpec(
            name=props["name"],
            version=props["version"],
            labels=_parse_labels(props["labels"]),
            region=Region(props["region"]),
            margin=float(props["margin"]),
            resize=props["resize"],
            unsure_below=float(props["unsure_below"]),
            data_fingerprint=props["data_fingerprint"],
            label_shares=_parse_shares(props["label_shares"]),
            metrics=dict(json.loads(props["metrics"])),
            created=props["created"],
            golden=unpack_golden(props["golden"]),
            abstain_from=_parse_abstain_from(props) if has_abstain else {},
            trained_on=props.get("trained_on", ""),
            # In schema 1 a fusion has other weights, and none for abstain outputs.
            fusion=unpack_fusion(props["fusion"]) if has_abstain and "fusion" in props else None,
        )
    except KeyError as error:
        raise make_contract_error(path, f"its metadata lack {error.args[0]!r}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        why = printable_text(str(error))[:MAX_NAME_CHARS]
        raise make_contract_error(path, f"its metadata can't be understood ({why})") from error
    _check_values(path, spec)
    if has_abstain:
        _check_golden(path, spec)
    return spec


def _parse_labels(text: str) -> tuple[str, ...]:
    labels = json.loads(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise TypeError("the labels are not a list of texts")
    return tuple(labels)


def _parse_shares(text: str) -> dict[str, float]:
    shares = json.loads(text)
    if not isinstance(shares, dict):
        raise TypeError("label_shares is not an object")
    return {label: float(share) for label, share in shares.items()}


def _parse_abstain_from(props: Mapping[str, str]) -> dict[str, float]:
    """Read the abstain outputs' thresholds, in the order of the outputs."""
    names, thresholds = json.loads(props["abstain"]), json.loads(props["abstain_from"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("abstain is not a list of texts")
    if len(set(names)) != len(names):
        raise ValueError("abstain names an output twice")
    if not isinstance(thresholds, dict) or set(thresholds) != set(names):
        raise TypeError("abstain_from is not an object with one number for each abstain output")
    if not all(type(least) in (int, float) for least in thresholds.values()):
        raise TypeError("a threshold of abstain_from is not a number")
    return {name: float(thresholds[name]) for name in names}


def _parse_schema_version(path: Path, props: Mapping[str, str]) -> int:
    schema = props.get("schema_version")
    if schema is None:
        raise make_contract_error(
            path, "its metadata lack 'schema_version', so its labels are unknown"
        )
    if len(schema) > 9 or not schema.isdecimal() or int(schema) < 1:
        shown = repr(schema[:MAX_NAME_CHARS])
        raise make_contract_error(
            path, f"its schema_version {shown} is not a positive whole number"
        )
    if int(schema) > SCHEMA_VERSION:
        raise ModelError(
            f"model {path} has schema version {schema}, this program knows up to {SCHEMA_VERSION}",
            "install a newer batch-label",
        )
    return int(schema)


def check_labels(path: Path, labels: Sequence[str]) -> None:
    """Check that a model may have these labels.

    Raises:
        ModelError: there are too few or too many, two are alike, or one can't be shown in a report.
    """
    if len(labels) > MAX_LABELS:
        raise make_contract_error(path, f"it has {len(labels):,} labels, more than {MAX_LABELS:,}")
    if max(map(len, labels), default=0) > MAX_NAME_CHARS:
        raise make_contract_error(path, f"a label is longer than {MAX_NAME_CHARS} characters")
    # Compared as reports show them: escaping of formulas may make two labels equal.
    if len(labels) < 2 or len(set(map(label_text, labels))) != len(labels):
        shown = printable_text(str(list(labels)))[:MAX_NAME_CHARS]
        raise make_contract_error(path, f"its labels {shown} are not two or more different names")
    for label in labels:
        _check_label(path, label)


def _check_values(path: Path, spec: ModelSpec) -> None:
    check_labels(path, spec.labels)
    if max(map(len, (spec.name, spec.version))) > MAX_NAME_CHARS:
        raise make_contract_error(
            path, f"its name or its version is longer than {MAX_NAME_CHARS} characters"
        )
    unknown = [name for name in spec.abstain if name not in ABSTAIN_OUTPUTS]
    if unknown:
        shown = printable_text(unknown[0][:MAX_NAME_CHARS])
        raise make_contract_error(
            path, f"its abstain output {shown!r} is not one of {', '.join(ABSTAIN_OUTPUTS)}"
        )
    for name, least in spec.abstain_from.items():
        if not 0 <= least <= 1:
            raise make_contract_error(
                path, f"its abstain_from {least} for {name} is not between 0 and 1"
            )
    if not 0 <= spec.margin <= 10:
        raise make_contract_error(path, f"its margin {spec.margin} is not between 0 and 10")
    if not 0 <= spec.unsure_below <= 1:
        raise make_contract_error(
            path, f"its unsure_below {spec.unsure_below} is not between 0 and 1"
        )
    if spec.resize not in RESIZE_RULES:
        raise make_contract_error(
            path,
            f"its resize rule {spec.resize[:MAX_NAME_CHARS]!r} is not one of "
            f"{', '.join(RESIZE_RULES)}",
        )
    if spec.fusion and spec.region is not Region.IMAGE:
        raise make_contract_error(path, "only a whole-photo model can have a fusion")
    if spec.fusion and (
        len(spec.fusion.both.bias) != len(spec.labels) + len(spec.fusion.abstain_from)
        or tuple(spec.fusion.both.abstain) != spec.abstain
    ):
        raise make_contract_error(path, "its fusion has other outputs than the model")
    if spec.golden.outputs.shape != (len(spec.golden.inputs), len(spec.outputs)):
        raise make_contract_error(
            path, "its golden samples do not have one probability for each output"
        )


def _check_label(path: Path, label: str) -> None:
    """Reject a label that a report or a terminal can't show as it is."""
    shown = repr(printable_text(label))
    if not label or label != label.strip() or not is_printable(label):
        raise make_contract_error(
            path,
            f"its label {shown} is empty, has spaces at an end, or has characters that can't be "
            "printed",
        )
    if label in ABSTAIN_OUTPUTS:
        raise make_contract_error(path, f"{shown} is the name of an abstain output, not of a label")


def _check_golden(path: Path, spec: ModelSpec) -> None:
    """Reject golden samples that a model with a constant answer would pass."""
    spread = spec.golden.outputs.max(axis=0) - spec.golden.outputs.min(axis=0)
    # Not `<=`, which is False for NaN.
    alike = [
        name for name, far in zip(spec.outputs, spread, strict=True) if not far > MIN_GOLDEN_SPREAD
    ]
    if len(spec.outputs) - len(alike) < min(len(spec.outputs), MAX_VARIED_OUTPUTS):
        raise make_contract_error(
            path,
            f"its golden samples all have about the same probability of {printable_text(alike[0])}",
        )
