"""The command ``trainer evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.errors import UsageError
from trainer.cli.shared_options import (
    FERPLUS_FOLDER,
    abstain_option,
    find_crop_cache,
    make_review,
    optional_data_option,
    resolve_model,
    review_options,
    show_progress,
    split_option,
    write_text,
)

if TYPE_CHECKING:
    from trainer.datasets.review import Review
    from trainer.evaluation.evaluate import Evaluation


@click.command()
@click.argument("model", metavar="MODEL", callback=resolve_model)
@optional_data_option(f"{FERPLUS_FOLDER}, or none with --review")
@review_options("Evaluate on reviewed answers")
@abstain_option
@split_option("The split to use; samples that the model was trained on are excluded.")
@click.option(
    "--end-to-end",
    is_flag=True,
    help="Label whole photos as batch-label does; DATA has a sub-folder for each class.",
)
@click.option(
    "--corrupted",
    is_flag=True,
    help="Also evaluate on corrupted samples: light, blur, resolution, noise, JPEG, rotation.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Also write JSON."
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also draw confusion.png and reliability.png there.",
)
def evaluate(
    model: str,
    data: Path | None,
    review_files: tuple[Path, ...],
    photos: Path,
    abstain: dict[str, str],
    split: str,
    end_to_end: bool,
    corrupted: bool,
    json_file: Path | None,
    plots: Path | None,
) -> None:
    """Run a model on labelled pictures and print its metrics.

    MODEL is the path of an .onnx file, the name of a shipped model or of your own, or "default".
    """
    show_progress()
    review = make_review(review_files, photos)
    if review and (data or plots):
        raise UsageError(
            "--review can't be combined with --data or --plots",
            "omit --data and --plots, or evaluate twice",
        )
    if corrupted and (review or end_to_end):
        raise UsageError(
            "--corrupted can't be combined with --review or --end-to-end",
            "it corrupts the samples of --data; omit the other, or evaluate twice",
        )
    values: dict[str, Any]
    if review:
        text, values = _evaluate_review(model, review, split, end_to_end)
        evaluation = None
    elif end_to_end:
        evaluation, text, values = _evaluate_end_to_end(model, data or FERPLUS_FOLDER, abstain)
    else:
        evaluation, text, values = _evaluate_split(
            model, data or FERPLUS_FOLDER, split, abstain, corrupted
        )
    click.echo(text)
    if json_file is not None:
        write_text(json_file, json.dumps(values, indent=2, allow_nan=False) + "\n")
    if plots is not None and evaluation is not None:
        _save_plots(evaluation, plots)


def _evaluate_split(
    model: str, data: Path, split: str, abstain: dict[str, str], corrupted: bool
) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.datasets.sources import load_dataset
    from trainer.evaluation.corruptions import corruptions_to_json, measure_model
    from trainer.evaluation.evaluate import evaluate_model, evaluation_to_json
    from trainer.evaluation.exported_models import derive_framing, open_model
    from trainer.evaluation.tables import format_corruptions, format_evaluation
    from trainer.evaluation.trained_on import find_trained_on, keep_unseen

    loaded = open_model(model)
    labelled = load_dataset(data, derive_framing(loaded), abstain=abstain, cache=find_crop_cache())
    known = [find_trained_on(loaded.spec, str(loaded.path), labelled)]
    chosen = labelled.get_split(split)
    part = keep_unseen(chosen, known)
    evaluation = evaluate_model(loaded, part, labelled.labels)
    text = format_evaluation(evaluation)
    values = evaluation_to_json(evaluation) | {"trained_on": len(chosen) - len(part)}
    if corrupted:
        found = measure_model(loaded, part, labelled.labels)
        text = f"{text}\n\n{format_corruptions(found)}"
        values["corrupted"] = corruptions_to_json(found)
    return evaluation, text, values


def _evaluate_end_to_end(
    model: str, data: Path, abstain: dict[str, str]
) -> tuple[Evaluation, str, dict[str, Any]]:
    from trainer.evaluation.end_to_end import end_to_end_to_json, run_end_to_end
    from trainer.evaluation.tables import format_end_to_end

    found = run_end_to_end(data, model, abstain)
    return found.answered, format_end_to_end(found), end_to_end_to_json(found)


def _evaluate_review(
    model: str, review: Review, split: str, end_to_end: bool
) -> tuple[str, dict[str, Any]]:
    from trainer.evaluation.exported_models import open_model
    from trainer.evaluation.review_evaluation import (
        evaluate_review,
        evaluate_review_end_to_end,
        review_evaluation_to_json,
    )
    from trainer.evaluation.tables import format_review_evaluation

    if end_to_end:
        found = evaluate_review_end_to_end(model, review, split)
    else:
        found = evaluate_review(open_model(model), review, split)
    return format_review_evaluation(found), review_evaluation_to_json(found)


def _save_plots(evaluation: Evaluation, folder: Path) -> None:
    from trainer.cli.plots import plot_confusion, plot_reliability

    folder.mkdir(parents=True, exist_ok=True)
    plot_confusion(evaluation, folder / "confusion.png")
    plot_reliability(evaluation.reliability, folder / "reliability.png")
