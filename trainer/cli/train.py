"""The command ``trainer train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.cli.shared_options import (
    abstain_option,
    beside_option,
    config_option,
    framing_options,
    make_review,
    optional_data_option,
    review_options,
    run_option,
    show_progress,
)

CURVES_FILE = "curves.png"


@click.command()
@optional_data_option("data/ferplus, downloaded if missing; drawn faces if that fails")
@beside_option
@review_options("Also train on reviewed answers")
@config_option
@run_option(
    "runs/face",
    "The folder for checkpoint, metrics and logs; an interrupted run is resumed from it.",
)
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the data.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of all random numbers.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of PyTorch.")
@framing_options
@abstain_option
def train(
    data: Path | None,
    beside: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    config_file: Path | None,
    run_folder: Path,
    epochs: int | None,
    seed: int | None,
    threads: int | None,
    abstain: dict[str, str],
    **framing: Any,
) -> None:
    """Train a network on labelled pictures."""
    from trainer.cli.plots import plot_curves
    from trainer.datasets.sources import choose_source, load_dataset, make_framing, record_source
    from trainer.training.checkpoint import CHECKPOINT_FILE
    from trainer.training.config import load_config
    from trainer.training.loop import train as train_network

    show_progress()
    settings = {"epochs": epochs, "seed": seed, "threads": threads}
    config = load_config(config_file, settings)
    source = choose_source(data, run_folder)
    review = make_review(review_files, photos)
    labelled = load_dataset(source, make_framing(**framing), beside, review, abstain)
    if not (run_folder / CHECKPOINT_FILE).exists():  # a resumed run keeps its record
        record_source(run_folder, source, labelled)
    history = train_network(labelled, config, run_folder)
    if history:
        plot_curves(history, run_folder / CURVES_FILE)
