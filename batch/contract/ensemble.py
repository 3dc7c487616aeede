"""The model, or the pair of models, that answer for a photo, and the rules by which they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batch.contract.model import Model
from batch.errors import ModelError
from batch.fusion import Fusion
from batch.options import Options
from batch.records import Region


@dataclass(frozen=True)
class Ensemble:
    """A face model, a whole-photo model, or one of each with the fusion that joins them.

    ``unsure_below`` and ``face_unsure_below`` are the thresholds for a photo and for a single
    face; from ``settled_from`` on, the face model's own threshold, its answer counts without a
    closer look. ``every_face`` asks for that look in any case.
    """

    models: tuple[Model, ...]
    face: Model | None
    image: Model | None
    fusion: Fusion | None
    unsure_below: float
    face_unsure_below: float
    settled_from: float
    every_face: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, which all models have."""
        return self.models[0].spec.labels

    def describe(self) -> str:
        """Name the models and their versions for people."""
        return " + ".join(f"{model.spec.name} {model.spec.version}" for model in self.models)


def load_ensemble(options: Options) -> Ensemble:
    """Read the models that are asked for and see how they go together.

    Raises:
        ModelError: a model is missing or breaks the contract, or the two do not go together.
    """
    # Here, as a process that labels is given its models and has no use for the package onnx.
    from batch.contract.contract import load_model
    from batch.contract.shipped import find_models

    models = tuple(load_model(path) for path in find_models(options.model))
    face, image, fusion = _roles(models)
    least, own = options.min_confidence, models[0].spec.unsure_below
    return Ensemble(
        models=models,
        face=face,
        image=image,
        fusion=fusion,
        unsure_below=(fusion.unsure_below if fusion else own) if least is None else least,
        face_unsure_below=own if least is None else least,
        settled_from=own,
        every_face=options.every_face,
    )


def _roles(models: Sequence[Model]) -> tuple[Model | None, Model | None, Fusion | None]:
    face = next((model for model in models if model.spec.region is Region.FACE), None)
    image = next((model for model in models if model.spec.region is Region.IMAGE), None)
    if len(models) == 1:
        return face, image, None
    remedy = "give one model, or a face model and the whole-photo model fitted to it"
    if len(models) > 2 or face is None or image is None or models[0] is not face:
        raise ModelError("only a face model and a whole-photo model go together", remedy)
    fusion = image.spec.fusion
    if fusion is None or fusion.face_model != face.spec.name:
        fitted = f"only to {fusion.face_model}" if fusion else "to no face model"
        raise ModelError(f"model {image.path} is fitted {fitted}, not {face.spec.name}", remedy)
    if face.spec.labels != image.spec.labels:
        raise ModelError(f"models {face.path} and {image.path} have different labels", remedy)
    return face, image, fusion
