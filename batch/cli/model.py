"""The command ``model``: show the card of a model, or of a pair, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.cli.model_list import REGION_NAMES, format_list, list_models
from batch.cli.settings import (
    exit_with_error,
    find_model_search_path,
    parse_model_names,
    warn_of_hidden_models,
)
from batch.errors import BatchLabelError, UsageError
from batch.log import escape_line
from batch.options import DEFAULT_BATCH_SIZE, DEFAULT_MODEL, Options, Provider
from batch.path_text import path_text

if TYPE_CHECKING:
    from batch.models.ensemble import Ensemble
    from batch.models.fusion import Fusion, FusionWeights
    from batch.models.model import Model

COLOURS = {1: "grey", 3: "RGB"}
# Metrics that are tables: only the Markdown card and --json contain them.
TABLE_METRICS = ("confusion", "kinds", "outcomes")
# Longer values are shortened in the text form.
MAX_VALUE_CHARS = 300


@click.command("model")
@click.argument("name", required=False, metavar="[NAME|FILE]")
@click.option(
    "--list",
    "as_list",
    is_flag=True,
    help="List all models that have a name: shipped ones and your own.",
)
@click.option("--check", is_flag=True, help="Also run the golden samples on the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def model(name: str | None, as_list: bool, check: bool, as_json: bool) -> None:
    """Show a model card: labels, input, training data, metrics.

    NAME is a shipped model or one of your own, FILE an .onnx file, FACE+PHOTO a pair of them; the
    default is the model that runs use by default. A file that breaks the model contract is an
    error, as in a run.
    """
    try:
        if as_list:
            lines = _list(name, check, as_json)
        else:
            lines = _show(name or DEFAULT_MODEL, check, as_json)
    except BatchLabelError as error:
        exit_with_error(error)
    for line in lines:
        # Metadata may contain control characters. As bytes: UTF-8 in any encoding of the terminal.
        click.echo((line if as_json else escape_line(line)).encode())


def _list(name: str | None, check: bool, as_json: bool) -> list[str]:
    if name is not None or check:
        raise UsageError("--list takes neither a model nor --check", "omit them, or omit --list")
    search = find_model_search_path()
    return format_list(list_models(search), search, as_json)


def _show(name: str, check: bool, as_json: bool) -> list[str]:
    from batch.models.ensemble import load_ensemble

    warn_of_hidden_models(name)
    ensemble = load_ensemble(Options(model=parse_model_names(name)))
    cards = [make_card(model, check) for model in ensemble.models]
    return format_cards(ensemble, cards, as_json)


@dataclass(frozen=True)
class ModelCard:
    """The card of one model.

    Attributes:
        model: the model.
        notes: metadata entries that the model contract does not define.
        golden_difference: largest difference between the expected probabilities of the golden
            samples and those computed on the CPU; None if the samples were not run.
    """

    model: Model
    notes: Mapping[str, str]
    golden_difference: float | None

    @property
    def file(self) -> Path | None:
        """The Markdown card that the trainer writes beside a model, if it exists."""
        beside = self.model.path.with_suffix(".md")
        return beside if beside.is_file() else None

    def to_record(self) -> dict[str, Any]:
        """Convert the card to a JSON object whose keys are those of the metadata."""
        model, spec = self.model, self.model.spec
        return {
            "name": spec.name,
            "version": spec.version,
            "file": path_text(model.path),
            "card": None if self.file is None else path_text(self.file),
            "bytes": len(model.graph),
            "sha256": model.digest,
            "labels": list(spec.labels),
            "region": spec.region.value,
            "margin": spec.margin,
            "resize": spec.resize,
            "input": {"height": model.height, "width": model.width, "channels": model.channels},
            "unsure_below": spec.unsure_below,
            "abstain": list(spec.abstain),
            "abstain_from": dict(spec.abstain_from),
            "created": spec.created,
            "data_fingerprint": spec.data_fingerprint,
            "label_shares": dict(spec.label_shares),
            "metrics": dict(spec.metrics),
            "golden": {
                "samples": len(spec.golden.inputs),
                "checked": self.golden_difference is not None,
                "largest_difference": self.golden_difference,
            },
            "fusion": asdict(spec.fusion) if spec.fusion else None,
            "notes": dict(self.notes),
        }

    def format_lines(self) -> Iterator[str]:
        """Format the card as text; values from the metadata are not escaped."""
        spec, model = self.model.spec, self.model
        colour = COLOURS[model.channels]
        margin = (
            f", with a margin of {_format_number(spec.margin)} of the face on each side"
            if spec.margin
            else ""
        )
        yield f"{spec.name}, version {spec.version}"
        yield _format_line("file", f"{path_text(model.path)} ({len(model.graph):,} bytes)")
        if self.file is not None:
            yield _format_line("Markdown card", path_text(self.file))
        yield _format_line("SHA-256", model.digest)
        yield _format_line("labels", ", ".join(spec.labels))
        yield _format_line("region", f"{REGION_NAMES[spec.region]}{margin}")
        yield _format_line(
            "input", f"{model.width} x {model.height} pixels, {colour} ({spec.resize})"
        )
        yield _format_line("unsure below", _format_number(spec.unsure_below))
        for name, least in spec.abstain_from.items():
            yield _format_line(f"{name} from", _format_number(least))
        yield _format_line("created", spec.created)
        yield _format_line("training data", spec.data_fingerprint)
        shares = (f"{label} {share:.1%}" for label, share in spec.label_shares.items())
        yield _format_line("label shares", ", ".join(shares) or "unknown")
        for name, value in spec.metrics.items():
            yield from _format_metric(name.replace("_", " "), value)
        yield _format_line("golden samples", self._describe_golden())
        if spec.fusion:
            digest = spec.fusion.face_sha256 or "not recorded, any file of that name"
            yield _format_line("paired with", f"{spec.fusion.face_model} (SHA-256: {digest})")
        for name, text in self.notes.items():
            yield _format_line(name, text)

    def _describe_golden(self) -> str:
        samples = f"{len(self.model.spec.golden.inputs)}"
        if self.golden_difference is None:
            return f"{samples}, not run (use --check)"
        return f"{samples}, correct on the CPU, largest difference {self.golden_difference:.2g}"


def make_card(model: Model, check: bool) -> ModelCard:
    """Make the card of a model; with ``check``, run its golden samples on the CPU.

    Raises:
        ModelError: a golden sample gets a wrong answer.
    """
    from batch.models.graph import parse_model
    from batch.models.model import ModelSpec

    known = {"schema_version", "abstain", *(field.name for field in fields(ModelSpec))}
    props = parse_model(model.path, model.graph).metadata_props
    notes = {entry.key: entry.value for entry in props if entry.key not in known}
    return ModelCard(model, notes, _measure_golden_difference(model) if check else None)


def _measure_golden_difference(model: Model) -> float:
    # Late, as only this function needs ONNX Runtime.
    import numpy as np

    from batch.vision.classify import Classifier

    classifier = Classifier(model, Provider.CPU, DEFAULT_BATCH_SIZE)
    golden = model.spec.golden
    return float(np.abs(classifier.classify(golden.inputs) - golden.outputs).max())


def format_cards(ensemble: Ensemble, cards: Sequence[ModelCard], as_json: bool) -> list[str]:
    """Format cards, and the fusion of a pair, as lines of text or as one JSON object.

    Raises:
        ModelError: the metrics of a model are nested too deeply.
    """
    try:
        return [_format_json(ensemble, cards)] if as_json else list(_format_text(ensemble, cards))
    except RecursionError as error:
        from batch.models.graph import make_contract_error

        raise make_contract_error(
            cards[0].model.path, "its metrics are nested too deeply"
        ) from error


def _format_json(ensemble: Ensemble, cards: Sequence[ModelCard]) -> str:
    pair = asdict(ensemble.fusion) if ensemble.fusion else None
    record = {"models": [card.to_record() for card in cards], "pair": pair}
    # JSON has no NaN and infinity, which Python writes and reads: they become null.
    return json.dumps(json.loads(json.dumps(record), parse_constant=lambda _: None))


def _format_text(ensemble: Ensemble, cards: Sequence[ModelCard]) -> Iterator[str]:
    for number, card in enumerate(cards):
        if number:
            yield ""
        yield from card.format_lines()
    if ensemble.fusion:
        yield ""
        yield from _format_fusion(ensemble.fusion, ensemble.outputs)


def _format_fusion(fusion: Fusion, outputs: Sequence[str]) -> Iterator[str]:
    yield "Fusion of the pair"
    yield _format_line("face and photo", _format_weights(fusion.both, outputs))
    yield _format_line("photo only", _format_weights(fusion.photo, outputs))
    score, share, least = map(
        _format_number, (fusion.alone_score, fusion.alone_share, fusion.alone_from)
    )
    yield _format_line(
        "face only",
        f"if its score is at least {score} and either its side is at least {share} of the photo's "
        f"or a label has at least {least}",
    )
    yield _format_line("unsure below", _format_number(fusion.unsure_below))
    for name, threshold in fusion.abstain_from.items():
        yield _format_line(f"{name} from", _format_number(threshold))


def _format_weights(rule: FusionWeights, outputs: Sequence[str]) -> str:
    """Format the non-zero weights of a rule; docs/models.md has the formula."""
    weights = {
        "face": rule.face,
        "label": rule.label,
        **rule.abstain,
        "score": rule.score,
        **{f"bias of {name}": bias for name, bias in zip(outputs, rule.bias, strict=True)},
    }
    return ", ".join(
        f"{name} {_format_number(weight)}" for name, weight in weights.items() if weight
    )


def _format_metric(name: str, value: Any) -> Iterator[str]:
    """Format a metric of any form, with its interval if it has one."""
    if isinstance(value, Mapping) and value.keys() >= {"value", "low", "high"}:
        low, high = _format_number(value["low"]), _format_number(value["high"])
        yield _format_line(name, f"{_format_number(value['value'])} ({low} to {high})")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in TABLE_METRICS:
                yield from _format_metric(f"{name}, {key}", inner)
    else:
        yield _format_line(name, _format_number(value))


def _format_number(value: Any) -> str:
    """Format a float with four significant digits, other values as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _format_line(name: str, text: str) -> str:
    shown = text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."
    return f"  {name:<22}  {shown}"
