"""What a model, or a pair of them, says of itself: for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click

from batch.cli.settings import exit_with_error, parse_model_names
from batch.errors import BatchLabelError
from batch.log import escape_line
from batch.models.ensemble import Ensemble
from batch.models.fusion import Fusion, FusionWeights
from batch.models.graph import make_contract_error, parse_model
from batch.models.model import Model, ModelSpec
from batch.options import DEFAULT_MODEL, Options
from batch.path_text import path_text
from batch.records import Region

COLOURS = {1: "grey", 3: "RGB"}
REGION_NAMES = {Region.FACE: "faces", Region.IMAGE: "whole photos"}
# Figures that are tables: the Markdown card and --json have them.
TABLE_METRICS = ("confusion", "kinds", "outcomes")
# Characters of a value that is free text or of any form.
MAX_VALUE_CHARS = 300


@dataclass(frozen=True)
class ModelCard:
    """One model's card.

    ``golden_difference`` is the largest difference between the probabilities that its golden
    samples got on the CPU and those that they must get, None where they were not run; ``notes``
    are the entries of its metadata that the contract does not know.
    """

    model: Model
    notes: Mapping[str, str]
    golden_difference: float | None

    @property
    def file(self) -> Path | None:
        """The Markdown card that the trainer writes beside a model, if it is there."""
        beside = self.model.path.with_suffix(".md")
        return beside if beside.is_file() else None

    def to_record(self) -> dict[str, Any]:
        """Give the card as JSON knows it, by the names of the metadata."""
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
        """Say it to people; what the model says of itself may be anything."""
        spec, model = self.model.spec, self.model
        yield f"{spec.name}, version {spec.version}"
        margin = (
            f", {_format_number(spec.margin)} of the face wider on each side" if spec.margin else ""
        )
        colour = COLOURS[model.channels]
        yield _format_line("file", f"{path_text(model.path)} ({len(model.graph):,} bytes)")
        if self.file is not None:
            yield _format_line("more in", path_text(self.file))
        yield _format_line("SHA-256", model.digest)
        yield _format_line("labels", ", ".join(spec.labels))
        yield _format_line("looks at", f"{REGION_NAMES[spec.region]}{margin}")
        yield _format_line(
            "input", f"{model.width} x {model.height} pixels, {colour} ({spec.resize})"
        )
        yield _format_line("unsure below", _format_number(spec.unsure_below))
        for name, least in spec.abstain_from.items():
            yield _format_line(f"{name} from", _format_number(least))
        yield _format_line("created", spec.created)
        yield _format_line("training data", spec.data_fingerprint)
        shares = (f"{label} {share:.1%}" for label, share in spec.label_shares.items())
        yield _format_line("label shares", ", ".join(shares))
        for name, value in spec.metrics.items():
            yield from _format_metric(name.replace("_", " "), value)
        yield _format_line("golden samples", self._describe_golden())
        if spec.fusion:
            yield _format_line("speaks with", f"{spec.fusion.face_model}, as a pair")
        for name, text in self.notes.items():
            yield _format_line(name, text)

    def _describe_golden(self) -> str:
        samples = f"{len(self.model.spec.golden.inputs)}"
        if self.golden_difference is None:
            return f"{samples}, not run (--check runs them)"
        return f"{samples}, right on the CPU, at most {self.golden_difference:.2g} off"


def make_card(model: Model, check: bool) -> ModelCard:
    """Make a model's card; with ``check`` its golden samples are run on the CPU.

    Raises:
        ModelError: they come out wrong.
    """
    known = {"schema_version", "abstain", *(field.name for field in fields(ModelSpec))}
    props = parse_model(model.path, model.graph).metadata_props
    notes = {entry.key: entry.value for entry in props if entry.key not in known}
    return ModelCard(model, notes, _measure_golden_difference(model) if check else None)


def format_cards(ensemble: Ensemble, cards: Sequence[ModelCard], as_object: bool) -> list[str]:
    """Write cards, and how a pair of models answers, as lines for people or as one JSON object.

    Raises:
        ModelError: a model's metrics can't be written.
    """
    try:
        return (
            [_format_json(ensemble, cards)] if as_object else list(_format_lines(ensemble, cards))
        )
    except RecursionError as error:
        raise make_contract_error(
            cards[0].model.path, "its metrics are nested too deeply"
        ) from error


def _format_json(ensemble: Ensemble, cards: Sequence[ModelCard]) -> str:
    pair = asdict(ensemble.fusion) if ensemble.fusion else None
    record = {"models": [card.to_record() for card in cards], "pair": pair}
    # JSON has no numbers that are none, though Python's reader takes them.
    return json.dumps(json.loads(json.dumps(record), parse_constant=lambda _: None))


def _format_lines(ensemble: Ensemble, cards: Sequence[ModelCard]) -> Iterator[str]:
    for number, card in enumerate(cards):
        if number:
            yield ""
        yield from card.format_lines()
    if ensemble.fusion:
        yield ""
        yield from _format_fusion(ensemble.fusion, ensemble.outputs)


def _format_fusion(fusion: Fusion, outputs: Sequence[str]) -> Iterator[str]:
    yield "The two together"
    yield _format_line("face and photo", _format_weights(fusion.both, outputs))
    yield _format_line("photo alone", _format_weights(fusion.photo, outputs))
    alone = (
        f"score {_format_number(fusion.alone_score)} and side {_format_number(fusion.alone_share)} of the "
        f"photo's, or a label at {_format_number(fusion.alone_from)}"
    )
    yield _format_line("a face alone", alone)
    yield _format_line("unsure below", _format_number(fusion.unsure_below))
    for name, least in fusion.abstain_from.items():
        yield _format_line(f"{name} from", _format_number(least))


def _format_weights(rule: FusionWeights, outputs: Sequence[str]) -> str:
    """Name the weights of a rule; docs/training.md has the formula."""
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


def _measure_golden_difference(model: Model) -> float:
    # Here, as ONNX Runtime is needed for nothing else.
    import numpy as np

    from batch.options import DEFAULT_BATCH_SIZE, Provider
    from batch.vision.classify import Classifier

    classifier = Classifier(model, Provider.CPU, DEFAULT_BATCH_SIZE)
    golden = model.spec.golden
    return float(np.abs(classifier.classify(golden.inputs) - golden.outputs).max())


def _format_metric(name: str, value: Any) -> Iterator[str]:
    """Say one of a model's figures, which may have any form; an interval if it has one."""
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
    """Write a number with as many digits as tell something, and anything else as JSON has it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _format_line(name: str, text: str) -> str:
    shown = text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."
    return f"  {name:<22}  {shown}"


# == The command `model`: what a model says of itself.


@click.command("model")
@click.argument("name", default=DEFAULT_MODEL, metavar="[NAME|FILE]")
@click.option("--check", is_flag=True, help="Run the golden samples on the CPU, too.")
@click.option("--json", "as_object", is_flag=True, help="One JSON object instead of text.")
def model(name: str, check: bool, as_object: bool) -> None:
    """Show a model's card: labels, input, data, figures.

    NAME is a shipped model's or your own, FILE an .onnx file, and FACE+PHOTO a pair of them;
    without one it is the default. A file that breaks the model contract is refused, as a run would.
    """

    from batch.models.ensemble import load_ensemble

    try:
        ensemble = load_ensemble(Options(model=parse_model_names(name)))
        cards = [make_card(model, check) for model in ensemble.models]
        lines = format_cards(ensemble, cards, as_object)
    except BatchLabelError as error:
        exit_with_error(error)
    for line in lines:
        # A model may say anything of itself. As bytes, whatever the terminal's encoding is.
        click.echo((line if as_object else escape_line(line)).encode())
