"""The command ``trainer adjust``."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from batch.cli.options import RealRange
from batch.errors import UsageError
from trainer.cli.shared_options import make_review, resolve_model, review_options, show_progress

ADJUSTED_SUFFIX = ", adjusted"


@click.command()
@click.argument("model", metavar="MODEL", callback=resolve_model)
@review_options("Train on reviewed answers")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    required=True,
    metavar="REPORT",
    help="The report that was reviewed; the model keeps its answers on the other photos in it.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.onnx",
    help="The new model file; its card and SHA256SUMS are written beside it.",
)
@click.option(
    "--decay",
    type=RealRange(0, min_open=True),
    default=0.3,
    show_default=True,
    metavar="NUMBER",
    help="Weight decay towards the old weights.",
)
@click.option(
    "--model-version", metavar="TEXT", help="The new version.  [default: the old one, adjusted]"
)
@click.option(
    "--created",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The date in the file, YYYY-MM-DD.  [default: today, UTC]",
)
def adjust(
    model: str,
    review_files: tuple[Path, ...],
    photos: Path,
    report: Path,
    output: Path,
    decay: float,
    model_version: str | None,
    created: datetime | None,
) -> None:
    """Adjust a model to a review, without its training data.

    MODEL is the path of an .onnx file, or the name of a shipped model or of your own. Only the last
    layer changes, so the training data are not needed.
    """
    from trainer.datasets.reviewed_samples import read_reviewed
    from trainer.evaluation.exported_models import derive_framing, open_model
    from trainer.evaluation.tables import format_evaluation, note_sample
    from trainer.exporting.adjust import adjust_model, read_unreviewed, write_adjusted_card
    from trainer.exporting.publish_model import publish_model, read_card

    show_progress()
    review = make_review(review_files, photos)
    if review is None:
        raise UsageError("there is no review", "give --review REVIEW.csv")
    old = open_model(model)
    card = read_card(old)
    reviewed = read_reviewed(review, old.spec.outputs, derive_framing(old))
    adjusted = adjust_model(
        old,
        reviewed.get_split(reviewed.learn),
        reviewed.get_held(),
        read_unreviewed(report, review, reviewed),
        version=model_version
        or f"{old.spec.version.removesuffix(ADJUSTED_SUFFIX)}{ADJUSTED_SUFFIX}",
        created=(created or datetime.now(UTC)).date().isoformat(),
        decay=decay,
    )
    missing = Counter(reason for _, reason in reviewed.missing)
    note = note_sample(reviewed.is_random, len(reviewed.held), missing)
    publish_model(adjusted.graph, write_adjusted_card(adjusted, old, card, note), output)
    click.echo(format_evaluation(adjusted.test))
