"""The command ``trainer train``."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.errors import UsageError
from batch.limits import format_duration
from trainer.cli.shared_options import (
    abstain_option,
    beside_option,
    config_option,
    find_crop_cache,
    framing_options,
    make_review,
    optional_data_option,
    read_given_settings,
    review_options,
    run_option,
    show_progress,
)
from trainer.training.tracking import DEFAULT_TRACKERS, TRACKERS, Trackers, import_trackers

if TYPE_CHECKING:  # imports PyTorch
    from trainer.training.preparation import Preparation

CURVES_FILE = "curves.png"
# The files of a run that trackers keep.
RESULT_FILES = ("checkpoint.pt", "history.csv", CURVES_FILE, "source.txt", "left-out.csv")

logger = logging.getLogger(__name__)


def _parse_tracker_names(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Parse repeated ``NAME,...`` into names of trackers."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in TRACKERS:
            raise UsageError(
                f"--track: there is no tracker {name!r}", f"give {', '.join(TRACKERS)}"
            )
    return tuple(names)


@click.command()
@optional_data_option("data/ferplus, downloaded if missing; drawn faces if that fails")
@beside_option
@review_options("Also train on reviewed answers")
@config_option
@run_option(
    "runs/face",
    "The folder for checkpoint, metrics and logs. An interrupted training resumes; one on other "
    "data or with other settings goes to DIR-2, DIR-3, ... beside it.",
)
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Passes over the data.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of all random numbers.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of PyTorch.")
@click.option(
    "--track",
    "tracker_names",
    multiple=True,
    default=DEFAULT_TRACKERS,
    show_default=True,
    callback=_parse_tracker_names,
    metavar="NAME,...",
    help=f"Experiment trackers: {', '.join(TRACKERS)}; repeatable.",
)
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
    tracker_names: tuple[str, ...],
    abstain: dict[str, str],
    **framing: Any,
) -> None:
    """Train a network on labelled pictures.

    Settings and framing that are not given are chosen from the photos.
    """
    from trainer.cli.plots import plot_curves
    from trainer.datasets.sources import choose_source, record_source
    from trainer.training.checkpoint import CHECKPOINT_FILE, read_last_epoch
    from trainer.training.loop import evaluate_test_split
    from trainer.training.loop import train as train_network
    from trainer.training.preparation import prepare_training
    from trainer.training.run_folder import choose_run, find_latest_run, lock_run

    show_progress()
    import_trackers(tracker_names)  # before the data are read
    settings = {"epochs": epochs, "seed": seed, "threads": threads}
    given = read_given_settings(config_file, settings)
    source = choose_source(data, find_latest_run(run_folder))
    review = make_review(review_files, photos)
    prepared = prepare_training(source, framing, given, beside, review, abstain, find_crop_cache())
    labelled, config = prepared.data, prepared.config
    with lock_run(run_folder):
        folder = choose_run(run_folder, labelled, config)
        if not (folder / CHECKPOINT_FILE).exists():  # a resumed run keeps its record
            record_source(folder, source, labelled)
        before, started = read_last_epoch(folder), time.monotonic()
        with Trackers(tracker_names, folder) as trackers:
            history = train_network(labelled, config, folder, trackers)
            duration = format_duration(math.ceil(time.monotonic() - started))
            if len(history) > 1:
                plot_curves(history, folder / CURVES_FILE)
            files = [folder / name for name in RESULT_FILES]
            trackers.log_result(
                history,
                evaluate_test_split(labelled, config, folder),
                [path for path in files if path.is_file()],
            )
        if before >= 0:
            duration = f"{duration} from epoch {before + 1}, where the training was resumed"
        if not history or history[-1].epoch == before:  # the run was finished
            duration = ""
        page = _make_page(folder, prepared, duration)
    if page:
        click.echo(f"Its page is {page}")
    click.echo(f"The run is {folder}")


def _make_page(folder: Path, prepared: Preparation, duration: str) -> Path | None:
    """Make the page of a run, unless it is there; a failure is a warning, the training is done."""
    try:
        from trainer.page.make import find_current_page, make_training_page

        return find_current_page(folder) or make_training_page(
            folder, prepared.data, prepared.config, duration, prepared.reason
        )
    except Exception as error:
        logger.warning("WARNING: the page of the training could not be made (%s)", error)
        logger.debug("the page", exc_info=True)
        return None
