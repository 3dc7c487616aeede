"""The command ``trainer crossvalidate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.cli.shared_options import (
    abstain_option,
    beside_option,
    config_option,
    data_option,
    find_crop_cache,
    framing_options,
    make_review,
    read_given_settings,
    review_options,
    run_option,
    show_progress,
)


@click.command()
@data_option
@beside_option
@review_options("Also train on reviewed answers")
@config_option
@run_option(
    "runs/crossvalidation",
    "The folder for a training run per fold and out-of-fold.csv; interrupted runs are resumed.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of folds.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    help="Seed of all random numbers, including the assignment to folds.",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of PyTorch.")
@framing_options
@abstain_option
def crossvalidate(
    data: Path,
    beside: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    config_file: Path | None,
    run_folder: Path,
    folds: int,
    seed: int | None,
    threads: int | None,
    abstain: dict[str, str],
    **framing: Any,
) -> None:
    """Evaluate settings by cross-validation.

    Each photo of a small data set is held out once; near duplicates are held out together.
    """
    from trainer.evaluation.evaluate import evaluate
    from trainer.evaluation.out_of_fold import cross_calibrate
    from trainer.evaluation.tables import format_evaluation
    from trainer.training.cross_validation import cross_validate
    from trainer.training.preparation import prepare_training
    from trainer.training.run_folder import lock_run

    show_progress()
    given = read_given_settings(config_file, {"seed": seed, "threads": threads})
    review = make_review(review_files, photos)
    prepared = prepare_training(data, framing, given, beside, review, abstain, find_crop_cache())
    labelled, config = prepared.data, prepared.config
    with lock_run(run_folder):
        answers = cross_validate(labelled, config, run_folder, folds, config.seed)
    click.echo(
        format_evaluation(
            evaluate(
                cross_calibrate(answers),
                answers.targets,
                answers.labels,
                labelled.get_split("all").groups,
            )
        )
    )
