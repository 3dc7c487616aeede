"""The metadata of a model card: YAML in front of its Markdown, as the Hugging Face hub reads it.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import yaml

from batch.models.model import ModelSpec

TASK = "image-classification"
# Identifiers of https://hf.co/metrics, with the arguments that compute the same figure.
METRICS: dict[str, tuple[str, str, dict[str, str]]] = {
    "accuracy": ("accuracy", "Accuracy", {}),
    "balanced_accuracy": ("recall", "Balanced accuracy", {"average": "macro"}),
    "macro_f1": ("f1", "Macro F1", {"average": "macro"}),
}
# What the hub calls pictures that are not one of its data sets.
LOCAL_DATASET = "imagefolder"

FENCE = "---\n"
logger = logging.getLogger(__name__)
_METADATA_PATTERN = re.compile(rf"\A{FENCE}(.*?\n){FENCE}\n*", flags=re.DOTALL)


def make_metadata(spec: ModelSpec, license_id: str | None) -> dict[str, Any]:
    """Make the metadata of a model's card.

    No entry names data sets: those of the hub have identifiers there, and none was used.

    Args:
        spec: the model's metadata.
        license_id: identifier of the licence; None if it is not known.
    """
    results = _make_results(spec.metrics)
    return {
        **({"license": license_id} if license_id else {}),
        "library_name": "onnx",
        "pipeline_tag": TASK,
        "tags": ["onnx", "onnxruntime", "batch-label"],
        **({"metrics": [metric["type"] for metric in results[0]["metrics"]]} if results else {}),
        # The hub reads the index only if it has results.
        **({"model-index": [{"name": spec.name, "results": results}]} if results else {}),
    }


def _make_results(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Convert the metrics of a model, which may be any JSON values, to results of a model index."""
    found = []
    for key, (kind, name, arguments) in METRICS.items():
        estimate = metrics.get(key)
        value = estimate.get("value") if isinstance(estimate, Mapping) else None
        if isinstance(value, float | int):
            more = {"args": dict(arguments)} if arguments else {}
            found.append({"type": kind, "name": name, "value": value, **more})
    if not found:
        return []
    data, split = str(metrics.get("data", "unknown")), metrics.get("split")
    where = {"split": "test"} if split == "test" else {}
    dataset = {"type": LOCAL_DATASET, "name": data if where else f"{data} ({split})", **where}
    task = {"type": TASK, "name": "Image Classification"}
    return [{"task": task, "dataset": dataset, "metrics": found}]


def add_metadata(card: str, metadata: Mapping[str, Any]) -> str:
    """Put metadata in front of a card, instead of those that it has."""
    text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=1000)
    return f"{FENCE}{text}{FENCE}\n{split_card(card)[1]}"


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """Split a card into its metadata, empty if there are none, and its Markdown.

    Metadata that can't be read stay in the Markdown; the log says so.
    """
    match = _METADATA_PATTERN.match(card)
    if match is None:
        return {}, card
    try:
        metadata = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        logger.warning(
            "WARNING: the metadata of the card are not YAML and become text; give the licence if "
            "they have it (%s)",
            why,
        )
        return {}, card
    return (metadata, card[match.end() :]) if isinstance(metadata, dict) else ({}, card)
