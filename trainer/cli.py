"""The command line of the trainer; the one module here that prints."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.errors import BatchLabelError, UsageError

if TYPE_CHECKING:  # the heavy modules are imported where they are needed, so that help is fast
    from trainer.evaluate import Evaluation

PROGRAM = "trainer"
CURVES = "curves.png"
# Modules of the extra `train`, and what to do where one of them is missing.
EXTRA = ("matplotlib", "onnxscript", "tensorboard", "torch", "tqdm")
EXTRA_REMEDY = "run `pip install 'batch-label[train]'`"


class MissingExtra(BatchLabelError):
    """A module that only training needs is not installed."""


class Commands(click.Group):
    """Commands whose expected errors are one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            module = (error.name or "").split(".")[0]
            if module not in EXTRA:
                raise
            return _fail(MissingExtra(f"{module} is not installed", EXTRA_REMEDY))
        except BatchLabelError as error:
            return _fail(error)


def _data_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        default=Path("data/ferplus"),
        show_default=True,
        metavar="PATH",
        help="FER+ (folder or zip file), or a folder with a sub-folder of photos for each class.",
    )(command)


@click.group(
    PROGRAM,
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Fit, evaluate and export the networks that batch-label runs."""


@cli.command()
@_data_option
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings as TOML; docs/training.md lists them.",
)
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    default=Path("runs/face"),
    show_default=True,
    metavar="DIR",
    help="Where checkpoint, figures and logs go; a training that was cut off goes on from there.",
)
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the data.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Start of all random numbers.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of PyTorch.")
@click.option(
    "--region",
    type=click.Choice(["face", "image"]),
    help="Learn from the largest face (default) or the whole photo; for folders of photos.",
)
@click.option(
    "--side",
    type=click.IntRange(16, 512),
    metavar="PIXELS",
    help="Size of a sample, 48 by default; for folders of photos.",
)
@click.option("--rgb", is_flag=True, help="Learn from colours, not grey; for folders of photos.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 10),
    metavar="SHARE",
    help="Widen faces by this share of their side, 0 by default; for folders of photos.",
)
def train(
    data: Path,
    config_file: Path | None,
    run_folder: Path,
    epochs: int | None,
    seed: int | None,
    threads: int | None,
    **framing: Any,
) -> None:
    """Fit a network to labelled pictures."""
    from trainer.config import load_config
    from trainer.plots import curves
    from trainer.sources import framing_of, load_data
    from trainer.train import train as fit

    _show_progress()
    settings = {"epochs": epochs, "seed": seed, "threads": threads}
    config = load_config(config_file, settings)
    history = fit(load_data(data, framing_of(**framing)), config, run_folder)
    curves(history, run_folder / CURVES)


@cli.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@_data_option
@click.option(
    "--split",
    type=click.Choice(["test", "validation", "all"]),
    default="test",
    show_default=True,
    help="The part to use; all suits data that the model never saw.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Also as JSON."
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also draw confusion.png and reliability.png there.",
)
def evaluate(
    model: Path, data: Path, split: str, json_file: Path | None, plots: Path | None
) -> None:
    """Run a model file on labelled pictures and print how right it is."""
    import json

    from batch.contract import load_model
    from trainer.data import Framing
    from trainer.evaluate import evaluate_model, figures, table
    from trainer.sources import load_data

    _show_progress()
    loaded = load_model(model)
    framing = Framing(loaded.spec.region, loaded.spec.margin, loaded.width, loaded.channels)
    labelled = load_data(data, framing)
    evaluation = evaluate_model(loaded, labelled.part(split), labelled.labels)
    click.echo(table(evaluation))
    if json_file is not None:
        _write(json_file, json.dumps(figures(evaluation), indent=2) + "\n")
    if plots is not None:
        _draw(evaluation, plots)


@cli.command()
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    default=Path("runs/face"),
    show_default=True,
    metavar="DIR",
    help="The folder of a training.",
)
@_data_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.onnx",
    help="The model file; its card and SHA256SUMS are written beside it.",
)
@click.option("--name", help="The model's name.  [default: the output file's]")
@click.option("--model-version", default="1", show_default=True, help="The model's version.")
@click.option(
    "--labels",
    metavar="NEW=OLD,...",
    help="Only these labels of the training, under new names: happy=happiness,sad=sadness.",
)
@click.option(
    "--sure-accuracy",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    metavar="SHARE",
    help="Share of the sure answers that shall be right on the validation part.",
)
@click.option(
    "--weights",
    type=click.Choice(["auto", "float16", "float32"]),
    default="auto",
    show_default=True,
    help="How weights are stored; auto takes float16 where it costs no right answer.",
)
@click.option(
    "--created",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The date in the file, YYYY-MM-DD.  [default: today, UTC]",
)
def export(
    run_folder: Path,
    data: Path,
    output: Path,
    name: str | None,
    model_version: str,
    labels: str | None,
    sure_accuracy: float,
    weights: str,
    created: datetime | None,
) -> None:
    """Write a trained network as a model file for batch-label."""
    from trainer.card import card
    from trainer.checkpoint import load_trained
    from trainer.evaluate import table
    from trainer.export import ExportOptions, Weights
    from trainer.export import export as build
    from trainer.publish import publish
    from trainer.sources import load_data

    _show_progress()
    options = ExportOptions(
        name=name or output.stem,
        created=(created or datetime.now(UTC)).date().isoformat(),
        version=model_version,
        labels=_renamed(labels),
        sure_accuracy=sure_accuracy,
        weights=Weights(weights),
    )
    trained = load_trained(run_folder)
    labelled = load_data(data, trained.framing)
    exported = build(trained, labelled, options)
    publish(exported, card(exported, trained, labelled), output)
    click.echo(table(exported.test))


def main() -> None:
    """Run the program and end the process with the exit code of what happened."""
    cli.main(prog_name=PROGRAM)


def _renamed(labels: str | None) -> dict[str, str] | None:
    """Read ``new=old,...``; a name by itself stays as it is."""
    if labels is None:
        return None
    pairs = [pair.partition("=") for pair in labels.split(",")]
    renamed = {new.strip(): (old or new).strip() for new, _, old in pairs}
    if len(renamed) < len(pairs) or "" in renamed:
        raise UsageError(f"--labels {labels!r} has an empty or repeated name", "write NEW=OLD,...")
    return renamed


def _draw(evaluation: Evaluation, folder: Path) -> None:
    from trainer.plots import confusion, reliability

    folder.mkdir(parents=True, exist_ok=True)
    confusion(evaluation, folder / "confusion.png")
    reliability(evaluation.reliability, folder / "reliability.png")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror})", "choose another file"
        ) from error


def _show_progress() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger(PROGRAM).setLevel(logging.INFO)


def _fail(error: BatchLabelError) -> None:
    click.echo(f"{PROGRAM}: {error}", err=True)
    sys.exit(error.exit_code)
