"""What the face model and the whole-photo model say of the same labelled photos."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from batch.errors import InputError, ModelError
from batch.models.ensemble import Ensemble, load_ensemble
from batch.options import DEFAULT_BATCH_SIZE, Device, Options, Provider
from batch.records import Failure, Photo, Probabilities
from batch.vision.crop import resize_photo
from batch.vision.decide import average_faces, measure_main_face
from batch.vision.decode import decode_bytes
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from batch.vision.read_file import read_file
from trainer.data import Framing, abstain_classes
from trainer.datasets.samples import Labelled
from trainer.evaluate import canonical
from trainer.evaluation.calibrate import fit_temperature, softmax
from trainer.evaluation.folds import OutOfFold, sample_name
from trainer.evaluation.fusion import Evidence

REMEDY = "cross-validate on the same photos, with --region image"


@dataclass(frozen=True)
class Seen:
    """The faces of one photo: their mean, float32 [outputs], and the main one's score and share.

    ``weight`` and ``kind`` are the photo's in its data set.
    """

    face: Probabilities | None
    score: float
    share: float
    weight: float
    kind: str


def gather(
    files: Sequence[Labelled], face_model: str, answers: OutOfFold, framing: Framing
) -> Evidence:
    """Run a face model, as the runner does, over the photos of a cross-validation.

    ``framing`` is the one that was cross-validated; photos that took no part, such as
    near duplicates, are passed over.

    Raises:
        InputError: the photos are not those of the cross-validation.
        ModelError: the face model has other labels.
    """
    ensemble = load_ensemble(Options(model=face_model, provider=Provider.CPU))
    labels, abstain = _outputs(answers)
    spec = _face_spec(ensemble, labels, abstain)
    labeller = Labeller(make_plan(ensemble, DEFAULT_BATCH_SIZE), Device(Provider.CPU))

    def look(file: Labelled) -> tuple[str, Seen] | None:
        data = read_file(file.path)
        photo = data if isinstance(data, Failure) else decode_bytes(file.path, data)
        if not isinstance(photo, Photo):
            return None
        name = sample_name(resize_photo(photo, framing.side, framing.side, framing.channels))
        return name, _seen(labeller, photo, file)

    with ThreadPoolExecutor() as pool:
        seen = dict(filter(None, pool.map(look, files)))
    missing = [name for name in answers.names if name not in seen]
    if missing:
        raise InputError(f"{len(missing)} cross-validated photos are missing", REMEDY)
    photos = [seen[name] for name in answers.names]
    nothing = np.full(len(spec), np.nan, dtype=np.float32)
    return Evidence(
        labels=labels,
        abstain=abstain,
        face_abstain=spec[len(labels) :],
        face=np.stack([nothing if photo.face is None else photo.face for photo in photos]),
        score=np.asarray([photo.score for photo in photos]),
        share=np.asarray([photo.share for photo in photos]),
        # The exported model, whose probabilities will be fused, has its logits divided by this.
        photo=softmax(answers.logits, fit_temperature(answers.logits, answers.targets)),
        targets=answers.targets,
        folds=answers.folds,
        weights=np.asarray([photo.weight for photo in photos], dtype=np.float32),
        kinds=np.asarray([photo.kind for photo in photos], dtype=np.str_),
    )


def _seen(labeller: Labeller, photo: Photo, file: Labelled) -> Seen:
    evidence = labeller.collect_evidence(photo)
    if not evidence.boxes:
        return Seen(None, 0.0, 0.0, file.weight, file.kind)
    return Seen(
        average_faces(evidence), *measure_main_face(photo, evidence), file.weight, file.kind
    )


def _outputs(answers: OutOfFold) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part the classes of a cross-validation into labels and abstain outputs."""
    abstain = abstain_classes(answers.labels)
    return answers.labels[: len(answers.labels) - len(abstain)], abstain


def _face_spec(
    ensemble: Ensemble, labels: tuple[str, ...], abstain: tuple[str, ...]
) -> tuple[str, ...]:
    """Give the face model's outputs: the labels, then its abstain outputs."""
    face = ensemble.face
    if face is None or ensemble.image is not None:
        raise ModelError("the fusion needs a face model", "give --face the name of one")
    if tuple(map(canonical, face.spec.labels)) != tuple(map(canonical, labels)):
        raise ModelError(
            f"the face model answers {', '.join(face.spec.labels)}, not {', '.join(labels)}",
            "give --face a model of the same labels in the same order",
        )
    if not set(face.spec.abstain) <= set(abstain):
        raise ModelError(
            f"the face model has the outputs {', '.join(face.spec.abstain)}, the data have no "
            "photos of them all",
            "add a folder of such photos to the data",
        )
    return face.spec.outputs
