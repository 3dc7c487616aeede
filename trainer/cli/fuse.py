"""The command ``trainer fuse``."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import click

from batch.errors import UsageError
from batch.records import Region
from trainer.cli.shared_options import (
    abstain_option,
    framing_options,
    resolve_model,
    risk_option,
    run_option,
    show_progress,
    write_text,
)

FUSION_FILE = "fusion.json"

logger = logging.getLogger(__name__)


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="The photos of the cross-validation: a folder or a table.",
)
@run_option(
    "runs/crossvalidation", "The folder of the cross-validation; fusion.json is written there."
)
@click.option(
    "--face",
    default="happy-sad",
    show_default=True,
    metavar="MODEL",
    callback=resolve_model,
    help="The face model: the name of a shipped one or of your own, or a path.",
)
@risk_option(0.07)
@abstain_option
@framing_options
def fuse(
    data: Path,
    run_folder: Path,
    face: str,
    risk: float,
    abstain: dict[str, str],
    region: str | None,
    side: int | None,
    rgb: bool,
    margin: float | None,
) -> None:
    """Fit the fusion of two models.

    Fits the rules that fuse a face model and a whole-photo model. The metrics are from a nested
    cross-validation: each fold is predicted with rules and thresholds fitted on the other folds.
    """
    from batch.models.fusion import pack_fusion
    from trainer.datasets.sources import list_photo_files, override_framing
    from trainer.evaluation.exported_models import open_model
    from trainer.evaluation.out_of_fold import OUT_OF_FOLD_FILE, read_out_of_fold
    from trainer.evaluation.selective import measure_selective
    from trainer.evaluation.tables import format_selective
    from trainer.training.defaults import choose_framing
    from trainer.training.fit_fusion_rules import (
        choose_fusion_thresholds,
        cross_fit,
        fit_fusion,
        gather_evidence,
        set_thresholds,
    )

    show_progress()
    if region == Region.FACE:
        raise UsageError(
            "--region face: a fusion is of a face model and a cross-validation of whole photos",
            "omit --region, and give the --run of a `trainer crossvalidate --region image`",
        )
    framing = override_framing(choose_framing(Region.IMAGE, None, None), side, rgb, margin)
    logger.info("samples are %s (--side, --rgb)", framing.describe())
    answers = read_out_of_fold(run_folder / OUT_OF_FOLD_FILE)
    evidence = gather_evidence(list_photo_files(data, abstain)[1], face, answers, framing)
    face_model = open_model(face)
    name = face_model.spec.name
    held_out = cross_fit(name, evidence, risk)
    for selected, heading in (
        (evidence.weights == 1, "Photos of weight 1:"),
        (evidence.weights != 1, "Photos of other weights:"),
    ):
        if selected.any():
            found = measure_selective(
                held_out.decisions.take(selected),
                evidence.targets[selected],
                evidence.labels,
                evidence.abstain,
                evidence.kinds[selected],
            )
            click.echo(f"{heading}\n\n{format_selective(found)}\n")
    fusion = fit_fusion(name, evidence)
    chosen = choose_fusion_thresholds(fusion, evidence, risk)
    click.echo(
        f"of {chosen.answered:,} labels with status ok {chosen.wrong:,} are wrong: at most "
        f"{chosen.bound:.1%}, for a risk of {risk:.1%}, on the photos that the thresholds were "
        "chosen on"
    )
    if chosen.bound > risk:
        click.echo(f"WARNING: no thresholds keep the risk of {risk:.1%}", err=True)
    fitted = replace(set_thresholds(fusion, chosen), face_sha256=face_model.digest)
    record = pack_fusion(fitted)
    tied = {**json.loads(record), "recipe": asdict(answers.recipe)}
    write_text(run_folder / FUSION_FILE, f"{json.dumps(tied)}\n")
    click.echo(record)
