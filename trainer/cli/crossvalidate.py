"""The command ``trainer crossvalidate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batch.log import count_text
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
    "The folder for a training run per fold, out-of-fold.csv and mistakes.csv; interrupted runs "
    "are resumed.",
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
    from trainer.evaluation.out_of_fold import MISTAKES_FILE, cross_calibrate, write_mistakes
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
        probabilities, pool = cross_calibrate(answers), labelled.get_split("all")
        file = run_folder / MISTAKES_FILE
        mistakes = write_mistakes(file, pool, probabilities, answers.labels)
    agreed = pool.certain
    evaluation = evaluate(
        probabilities[agreed], pool.targets[agreed], answers.labels, pool.groups[agreed]
    )
    click.echo(format_evaluation(evaluation))
    click.echo(f"{file} lists the {count_text(mistakes, 'mistake')}, the most certain first")
