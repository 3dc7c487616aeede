"""``trainer fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainer.commands.options import framing_options, run_option, show_progress, write_text

FUSION_FILE = "fusion.json"


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PATH",
    help="The folder of photos that was cross-validated.",
)
@run_option("runs/crossvalidation", "The folder of the cross-validation; fusion.json goes there.")
@click.option(
    "--face",
    default="happy-sad",
    show_default=True,
    metavar="MODEL",
    help="The face model: the name of a shipped one or a path.",
)
@click.option(
    "--face-first",
    is_flag=True,
    help="Mix nothing: the face answers where there is one, else the whole photo.",
)
@framing_options
def fuse(data: Path, run_folder: Path, face: str, face_first: bool, **framing: Any) -> None:
    """Fit how far to trust face and whole photo, and print how right both are together.

    The figures are nested: each fold is fused by numbers fitted on the other folds.
    """
    from batch.fusion import pack_fusion
    from trainer.data import Framing
    from trainer.datasets.sources import framing_of
    from trainer.evaluate import evaluate
    from trainer.evaluation.evidence import gather
    from trainer.evaluation.folds import OUT_OF_FOLD, read_out_of_fold
    from trainer.evaluation.fusion import face_or_photo, fusion_for, nested
    from trainer.evaluation.tables import table
    from trainer.exporting.models import open_model

    show_progress()
    answers = read_out_of_fold(run_folder / OUT_OF_FOLD)
    evidence = gather(data, face, answers, framing_of(**framing) or Framing())
    joined = face_or_photo(evidence) if face_first else nested(evidence)
    click.echo(table(evaluate(joined, evidence.targets, answers.labels)))
    record = pack_fusion(fusion_for(open_model(face).spec.name, evidence, face_first))
    write_text(run_folder / FUSION_FILE, f"{record}\n")
    click.echo(record)
