"""The command ``trainer import``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch.cli.options import RealRange
from batch.errors import InputError, UsageError
from batch.path_text import printable_text
from trainer.cli.shared_options import own_model_path, parse_abstain_names, show_progress

if TYPE_CHECKING:
    from trainer.importing.import_model import ImportedModel
    from trainer.importing.parity import Pictures
    from trainer.importing.preprocessing import Preprocessing

JSON_SUFFIX = ".json"
MAX_SHOWN_OUTPUTS = 10
RANGE_NAMES = ("0-1", "0-255", "-1-1")


@click.command("import")
@click.argument("network_file", type=click.Path(path_type=Path), metavar="FILE.onnx")
@click.option(
    "--labels",
    required=True,
    metavar="A,B,...|FILE",
    help="Names of the outputs in their order: a list; a text file, one per line; or the "
    "config.json of a Hugging Face model. The names neither and no_person are abstain outputs.",
)
@click.option(
    "--abstain",
    callback=parse_abstain_names,
    metavar="CLASS=NAME,...",
    help="Labels that are abstain outputs by another name: neither=others,no_person=empty.",
)
@click.option(
    "--region",
    type=click.Choice(["face", "image"]),
    required=True,
    help="The network looks at faces or at whole photos.",
)
@click.option(
    "--margin",
    type=RealRange(0, 10),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Margin around faces, as a share of their side.",
)
@click.option(
    "--processor",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Read the preprocessing from the preprocessor_config.json of a Hugging Face model; the "
    "options below override it.",
)
@click.option(
    "--range",
    "value_range",
    type=click.Choice(RANGE_NAMES),
    help="Range that pixels are scaled to before mean and standard deviation; needed without "
    "--processor.",
)
@click.option("--mean", metavar="N,...", help="Subtracted, one or one per channel.  [default: 0]")
@click.option("--std", metavar="N,...", help="Divides, one or one per channel.  [default: 1]")
@click.option("--bgr", is_flag=True, help="The network's channels are blue, green, red.")
@click.option(
    "--resize",
    type=click.Choice(["stretch", "crop", "letterbox"]),
    help="How a face or photo is resized to the input.  [default: stretch]",
)
@click.option(
    "--shorter-side",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="With --resize crop: resize the shorter side to this first, then cut out the input: 256 "
    "for many networks with an input of 224.",
)
@click.option(
    "--size",
    type=click.IntRange(8, 4096),
    metavar="PIXELS",
    help="Side of the input, if the file does not fix it.",
)
@click.option(
    "--layout",
    type=click.Choice(["nchw", "nhwc"]),
    help="Order of the input's axes.  [default: by the axis of 1 or 3 channels]",
)
@click.option(
    "--softmax/--no-softmax",
    default=None,
    help="The network gives logits or probabilities.  [default: by the sums of its outputs]",
)
@click.option(
    "--unsure-below",
    type=RealRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="P",
    help="Labels with a lower probability are unsure.",
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Compare model and network on these pictures.  [default: rendered ones]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.onnx",
    help="The model file; its card and SHA256SUMS are written beside it.  [default: NAME.onnx in "
    "~/.local/share/batch-label/models, where --model finds it by name]",
)
@click.option("--name", help="The model's name.  [default: the output file's]")
@click.option("--model-version", default="1", show_default=True, help="The model's version.")
@click.option("--credit", metavar="TEXT", help="Authors and licence of the network, for the card.")
@click.option(
    "--created",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The date in the file, YYYY-MM-DD.  [default: today, UTC]",
)
def import_model(
    network_file: Path,
    labels: str,
    abstain: dict[str, str],
    region: str,
    margin: float,
    processor: Path | None,
    value_range: str | None,
    mean: str | None,
    std: str | None,
    bgr: bool,
    resize: str | None,
    shorter_side: int | None,
    size: int | None,
    layout: str | None,
    softmax: bool | None,
    unsure_below: float,
    pictures: Path | None,
    output: Path | None,
    name: str | None,
    model_version: str,
    credit: str | None,
    created: datetime | None,
) -> None:
    """Import a classifier that another program exported to ONNX.

    FILE.onnx takes one batch of pictures as floats and gives logits or probabilities. The model
    takes pixels: all preprocessing but resizing becomes part of its graph. Needs no PyTorch.
    """
    from batch.records import Region
    from trainer.exporting.publish_model import publish_model
    from trainer.importing.import_card import write_import_card
    from trainer.importing.import_model import ImportOptions, rename_abstain
    from trainer.importing.import_model import import_model as import_network
    from trainer.importing.network import Layout, read_network
    from trainer.importing.parity import make_pictures_to_compare, read_pictures

    show_progress()
    if output is None:
        if name is None:
            raise UsageError("the model has no name", "give --name, or a file with --output")
        output = own_model_path(name)
        if output.exists():
            raise UsageError(
                f"there is a model {name} already: {output}",
                "choose another --name, or remove that file first",
            )
    if output.resolve() == network_file.resolve():
        raise UsageError(
            f"the model would replace the network {network_file}", "choose another --output"
        )
    prep = _build_preprocessing(processor, value_range, mean, std, bgr, resize, shorter_side)
    network = read_network(
        network_file, None if layout is None else Layout(layout), size or prep.side
    )
    compared = make_pictures_to_compare() if pictures is None else read_pictures(pictures)
    options = ImportOptions(
        name=name or output.stem,
        version=model_version,
        created=(created or datetime.now(UTC)).date().isoformat(),
        outputs=rename_abstain(_read_labels(labels), abstain),
        region=Region(region),
        margin=margin,
        unsure_below=unsure_below,
        softmax=softmax,
    )
    imported = import_network(network, prep, options, compared.pictures)
    publish_model(imported.graph, write_import_card(imported, compared.source, credit), output)
    for line in _summarise(imported, compared):
        click.echo(line)
    click.echo(f"\nThe model is {output}")


def _read_labels(labels: str) -> tuple[str, ...]:
    """Read the names of a list, a text file or a ``config.json``."""
    if "," in labels:
        return tuple(name.strip() for name in labels.split(","))
    path = Path(labels)
    if path.suffix == JSON_SUFFIX:
        from trainer.importing.hugging_face import read_id2label

        return read_id2label(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise InputError(
            f"--labels {printable_text(labels)} is neither a list of names nor a file that can be "
            f"read ({error.strerror})",
            "write the names with commas between them, or correct the path",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", "write one label per line") from error
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise InputError(
            f"line {names.index('') + 1} of {path} is empty", "write one label per line"
        )
    return names


def _build_preprocessing(
    processor: Path | None,
    value_range: str | None,
    mean: str | None,
    std: str | None,
    bgr: bool,
    resize: str | None,
    shorter_side: int | None,
) -> Preprocessing:
    """Build the preprocessing of options and a processor's file; options take precedence."""
    from trainer.importing.hugging_face import read_processor
    from trainer.importing.preprocessing import RANGES, Preprocessing

    if processor is None and value_range is None:
        raise UsageError(
            "the range of the network's input is not known",
            f"give --range {', '.join(RANGE_NAMES[:-1])} or {RANGE_NAMES[-1]}, or --processor",
        )
    prep = Preprocessing(scale=1.0) if processor is None else read_processor(processor)
    if value_range is not None:
        scale, shift = RANGES[value_range]
        prep = replace(prep, scale=scale, shift=shift)
    if mean is not None:
        prep = replace(prep, mean=_parse_numbers("--mean", mean))
    if std is not None:
        prep = replace(prep, std=_parse_numbers("--std", std))
    if resize is not None:
        prep = replace(prep, resize=resize, shorter_side=None)
    if shorter_side is not None:
        prep = replace(prep, shorter_side=shorter_side)
    return replace(prep, bgr=bgr or prep.bgr)


def _parse_numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option} {printable_text(text)} is not a list of numbers",
            f"write {option} 0.485,0.456,0.406",
        ) from error


def _summarise(imported: ImportedModel, compared: Pictures) -> list[str]:
    """Summarise what was found out about the network, and the parity."""
    network, spec, found = imported.network, imported.spec, imported.comparison
    _, height, width, channels = spec.golden.inputs.shape
    colour = "grey" if channels == 1 else "BGR" if imported.prep.bgr else "RGB"
    count = len(spec.outputs) - MAX_SHOWN_OUTPUTS
    more = f" and {count:,} more" if count > 0 else ""
    lines = [
        f"Network: {network.layout}, {network.width} x {network.height} pixels, {colour}; exported "
        f"by {network.producer}, opset {network.opset}",
        f"Outputs: {', '.join(spec.outputs[:MAX_SHOWN_OUTPUTS])}{more}"
        + (" (logits: softmax added)" if imported.head.softmax else " (probabilities)"),
        f"Resize: {spec.resize} to {width} x {height} pixels",
        f"Parity on {found.pictures:,} {compared.source}: largest difference {found.largest:.1e} "
        f"from the same pixels",
        f"With pixels resized by Pillow ({imported.prep.resample.name.lower()}) instead: largest "
        f"difference {found.resized:.1e}, another likeliest output for {found.changed:,}",
    ]
    if network.has_external_data:
        lines.append("The weights from other files are now in the model.")
    if network.fixed_batch:
        lines.append(f"The batch size was fixed at {network.fixed_batch} and is now dynamic.")
    if compared.skipped:
        name, reason = compared.skipped[0]
        lines.append(f"{len(compared.skipped):,} pictures skipped, such as {name}: {reason}")
    if compared.has_more:
        lines.append(f"Only the first {found.pictures + len(compared.skipped):,} files were used.")
    return [printable_text(line) for line in lines]
