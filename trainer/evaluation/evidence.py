"""What the face model and the whole-photo model say of the same labelled photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import batch
from batch.crop import whole
from batch.decode import decode_bytes
from batch.decoding.file_bytes import read
from batch.errors import InputError, ModelError
from batch.fusion import log_odds
from batch.options import Options, Provider
from batch.records import Failure, Photo
from trainer.data import Framing
from trainer.evaluate import canonical
from trainer.evaluation.calibrate import fit_temperature
from trainer.evaluation.folds import OutOfFold, sample_name
from trainer.evaluation.fusion import Evidence

REMEDY = "cross-validate on the same folder, with --region image"


def gather(root: Path, face_model: str, answers: OutOfFold, framing: Framing) -> Evidence:
    """Run a face model, as the runner does, over the photos of a cross-validation.

    ``framing`` is the one that was cross-validated; photos that took no part, such as
    near duplicates, are passed over.

    Raises:
        InputError: the photos are not those of the cross-validation.
        ModelError: the face model has other labels.
    """
    places = {name: n for n, name in enumerate(answers.names)}
    face = np.full(len(places), np.nan)
    seen: set[str] = set()
    samples = dict(_samples(root, framing))
    options = Options(model=face_model, provider=Provider.CPU)
    for row in batch.label([root], options):
        name = samples.get(Path(row.path), "")
        if name in places:
            seen.add(name)
            if row.answer:
                face[places[name]] = log_odds(_first(row.answer, answers.labels))
    if len(seen) < len(places):
        raise InputError(f"{len(places) - len(seen)} cross-validated photos are missing", REMEDY)
    # The exported model, whose log-odds will be fused, has its logits divided by this.
    logits = answers.logits / fit_temperature(answers.logits, answers.targets)
    return Evidence(
        face=face,
        photo=(logits[:, 0] - logits[:, 1]).astype(np.float64),
        targets=answers.targets,
        folds=answers.folds,
    )


def _samples(root: Path, framing: Framing) -> Iterator[tuple[Path, str]]:
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        data = read(path)
        photo = data if isinstance(data, Failure) else decode_bytes(path, data)
        if isinstance(photo, Photo):
            yield path, sample_name(whole(photo, framing.side, framing.side, framing.channels))


def _first(answer: batch.Answer, labels: tuple[str, ...]) -> float:
    """Probability of the first label, by its name or a synonym."""
    chances = {canonical(label): chance for label, chance in answer.probabilities.items()}
    if set(chances) != {canonical(label) for label in labels} or len(labels) != 2:
        raise ModelError(
            f"the face model answers {', '.join(answer.probabilities)}, not {', '.join(labels)}",
            "give --face a model of the same two labels",
        )
    return chances[canonical(labels[0])]
