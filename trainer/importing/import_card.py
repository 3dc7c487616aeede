"""Writes the card of an imported model: where it comes from, preprocessing and parity."""

from __future__ import annotations

from batch.models.model import ModelSpec
from batch.path_text import printable_text
from batch.records import Abstain, Region
from trainer.exporting.card_text import ABSTAIN_TEXT, REGION_TEXT, USE_HEADING, markdown_table
from trainer.importing.import_model import ImportedModel
from trainer.importing.parity import PARITY_BATCHES
from trainer.importing.preprocessing import find_input_size

USE_TEXT = """\
This project did not train the network and does not know its data. Measure the model on photos like
your own before you rely on it, and set the thresholds by what you find. Do not use labels of faces
or persons to judge, monitor, rank or select people."""


def write_import_card(imported: ImportedModel, source: str, credit: str | None) -> str:
    """Write the Markdown card of an imported model.

    Args:
        imported: the model.
        source: the pictures that it was compared on.
        credit: authors and licence of the network; None if they are not known.
    """
    sections = (
        _write_opening(imported),
        _write_facts(imported),
        _write_origin(imported, credit),
        _write_preprocessing(imported),
        _write_parity(imported, source),
        _write_thresholds(imported),
        f"## {USE_HEADING}\n\n{USE_TEXT}",
    )
    return "\n\n".join(sections) + "\n"


def _write_opening(imported: ImportedModel) -> str:
    spec = imported.spec
    reasons = "".join(f" {ABSTAIN_TEXT[Abstain(name)]}" for name in spec.abstain)
    return (
        f"# {spec.name}\n\nLooks at {REGION_TEXT[spec.region]} and gives the probability of each "
        f"of {len(spec.labels)} labels: {', '.join(spec.labels)}.{reasons} Imported, not trained "
        "by this project."
    )


def _write_facts(imported: ImportedModel) -> str:
    spec = imported.spec
    _, height, width, channels = spec.golden.inputs.shape
    colour = "grey" if channels == 1 else "RGB"
    return markdown_table(
        ("", ""),
        (
            ("Version", spec.version),
            ("Created", spec.created),
            ("Input", f"uint8 [N, {height}, {width}, {channels}], {colour}"),
            *_list_margin(spec),
            ("Output", f"float32 [N, {len(spec.outputs)}], probabilities in the order above"),
            ("Size", f"{len(imported.graph):,} bytes"),
            ("SHA-256", f"`{imported.digest}`"),
        ),
    )


def _list_margin(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    if spec.region is not Region.FACE:
        return ()
    return (("Face margin", f"{spec.margin:g} of the face's side on each side"),)


def _write_origin(imported: ImportedModel, credit: str | None) -> str:
    network = imported.network
    batch = f"fixed at {network.fixed_batch}, made dynamic" if network.fixed_batch else "dynamic"
    rows = (
        ("File", printable_text(network.path.name)),
        ("SHA-256", f"`{network.digest}`"),
        ("Exported by", network.producer),
        ("Operators", f"opset {network.opset}"),
        ("Batch size", batch),
        ("Weights", "in other files, moved inside" if network.has_external_data else "inside"),
    )
    text = credit or "The authors, the licence and the training data of the network were not given."
    return f"## Origin\n\n{text}\n\n{markdown_table(('Network', ''), rows)}"


def _write_preprocessing(imported: ImportedModel) -> str:
    prep, network = imported.prep, imported.network
    height, width = find_input_size(prep, network)
    cut = "" if prep.shorter_side is None else f", of which the centre {network.width} count"
    order = "grey" if network.channels == 1 else "BGR" if prep.bgr else "RGB"
    rows = (
        ("Resize", f"{prep.resize} to {width} x {height} pixels{cut}"),
        ("Channels", order),
        ("Layout", network.layout.upper()),
        ("Scale", f"pixel * {prep.scale:.6g} + {prep.shift:g}"),
        ("Mean", _list_numbers(prep.mean)),
        ("Standard deviation", _list_numbers(prep.std)),
        ("After the network", _describe_head(imported)),
    )
    return (
        "## Preprocessing\n\nThe runner resizes; all other steps are in the graph.\n\n"
        f"{markdown_table(('Step', 'Value'), rows)}"
    )


def _describe_head(imported: ImportedModel) -> str:
    head = imported.head
    if head.is_binary:
        what = "logistic function" if head.softmax else "nothing"
        return f"{what}; its one output is the probability of the second label"
    return "softmax" if head.softmax else "nothing: it gives probabilities"


def _write_parity(imported: ImportedModel, source: str) -> str:
    found = imported.comparison
    batches = ", ".join(map(str, PARITY_BATCHES[:-1]))
    rows = (
        (
            f"From the same pixels, in batches of {batches} and {PARITY_BATCHES[-1]}",
            f"{found.largest:.1e}",
        ),
        (
            f"From pixels that Pillow resized ({imported.prep.resample.name.lower()})",
            f"{found.resized:.1e}",
        ),
    )
    return (
        f"## Parity\n\nLargest difference of a probability from the network, fed by numpy and "
        f"Pillow, for {found.pictures:,} {source}; for {found.changed:,} of them the other "
        f"resizing changes the likeliest output.\n\n{markdown_table(('Input', 'Difference'), rows)}"
    )


def _write_thresholds(imported: ImportedModel) -> str:
    spec = imported.spec
    reasons = "".join(
        f" If `{name}` has {least:g} or more, it is the status, and there is no label."
        for name, least in spec.abstain_from.items()
    )
    return (
        f"## When a label counts\n\nA label with a probability below {spec.unsure_below:g} is "
        f"unsure.{reasons} These thresholds were given, not measured, and the probabilities are "
        "not calibrated."
    )


def _list_numbers(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
