"""Ensembles: the model, or the pair of models, that labels photos, and its decision rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from batch.errors import ModelError
from batch.models.fusion import Fusion
from batch.models.model import Model
from batch.options import Options
from batch.records import Region

# Hexadecimal digits of a model's SHA-256 in messages.
DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of an answer.

    Attributes:
        unsure_below: 0 to 1; a label less likely than this is unsure.
        abstain_from: 0 to 1 for each abstain output, in the model's order; an output at least as
            likely as this replaces a label. For ``neither``, the probability given a person
            counts, see ``decide``.
        always_answer: always give the likeliest label and ignore the abstain outputs.
    """

    unsure_below: float
    abstain_from: Mapping[str, float] = field(default_factory=dict)
    always_answer: bool = False


class DecisionRules(Protocol):
    """The rules of a decision; an ``Ensemble`` has them."""

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def fusion(self) -> Fusion | None: ...
    @property
    def photo_thresholds(self) -> Thresholds: ...
    @property
    def face_thresholds(self) -> Thresholds: ...
    @property
    def model_thresholds(self) -> Thresholds: ...


@dataclass(frozen=True)
class Ensemble:
    """A face model, a whole-photo model, or one of each with the fusion that joins them.

    Attributes:
        models: the models below that are not None, the face model first.
        face: the face model.
        image: the whole-photo model.
        fusion: joins the two.
        photo_thresholds: decide a photo's answer.
        face_thresholds: decide a single face's answer.
        model_thresholds: a photo's thresholds in the models' metadata, without the options; an
            answer that is close to none of them needs no close look.
        per_face: report every face, so always look closely.
    """

    models: tuple[Model, ...]
    face: Model | None
    image: Model | None
    fusion: Fusion | None
    photo_thresholds: Thresholds
    face_thresholds: Thresholds
    model_thresholds: Thresholds
    per_face: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, the same for all models."""
        return self.models[0].spec.labels

    @property
    def outputs(self) -> tuple[str, ...]:
        """The labels, then a photo's abstain outputs, as reports name them."""
        return (*self.labels, *self.photo_thresholds.abstain_from)

    def describe(self) -> str:
        """Describe the models for people: names and versions."""
        return " + ".join(f"{model.spec.name} {model.spec.version}" for model in self.models)


def load_ensemble(options: Options) -> Ensemble:
    """Load the models of the options and combine them.

    Raises:
        ModelError: a model is missing or breaks the contract, or the two do not fit together.
    """
    # Imported late: they load the package onnx, which a worker never needs.
    from batch.models.contract import load_model
    from batch.models.shipped import find_models

    models = tuple(load_model(path) for path in find_models(options.model))
    face, image, fusion = assign_roles(models)
    first = models[0].spec
    own = Thresholds(first.unsure_below, first.abstain_from)
    joined = Thresholds(fusion.unsure_below, fusion.abstain_from) if fusion else own
    return Ensemble(
        models=models,
        face=face,
        image=image,
        fusion=fusion,
        photo_thresholds=_apply_options(joined, options),
        face_thresholds=_apply_options(own, options),
        model_thresholds=joined,
        per_face=options.per_face,
    )


def _apply_options(thresholds: Thresholds, options: Options) -> Thresholds:
    least = options.min_confidence
    return replace(
        thresholds,
        unsure_below=thresholds.unsure_below if least is None else least,
        always_answer=options.always_answer,
    )


def assign_roles(models: Sequence[Model]) -> tuple[Model | None, Model | None, Fusion | None]:
    """Find the face model, the whole-photo model and their fusion among one or two models.

    Raises:
        ModelError: the two do not fit together.
    """
    face = next((model for model in models if model.spec.region is Region.FACE), None)
    image = next((model for model in models if model.spec.region is Region.IMAGE), None)
    if len(models) == 1:
        return face, image, None
    remedy = "give one model, or a face model and the whole-photo model fitted to it"
    if len(models) > 2 or face is None or image is None or models[0] is not face:
        raise ModelError(
            "only a face model and a whole-photo model can be combined, in this order", remedy
        )
    fusion = image.spec.fusion
    if fusion is None or fusion.face_model != face.spec.name:
        fitted = f"only to {fusion.face_model}" if fusion else "to no face model"
        raise ModelError(f"model {image.path} is fitted {fitted}, not {face.spec.name}", remedy)
    if face.spec.labels != image.spec.labels:
        raise ModelError(f"models {face.path} and {image.path} have different labels", remedy)
    if face.spec.abstain != fusion.face_abstain:
        raise ModelError(
            f"model {image.path} is fitted to another version of {face.spec.name}, with "
            f"the abstain outputs {', '.join(fusion.face_abstain) or 'none'}",
            remedy,
        )
    if fusion.face_sha256 not in ("", face.digest):
        raise ModelError(
            f"model {image.path} is fitted to another {face.spec.name}: one with the SHA-256 "
            f"{fusion.face_sha256[:DIGEST_DIGITS]}..., but {face.path} has "
            f"{face.digest[:DIGEST_DIGITS]}...",
            "fit it to this one with `trainer fuse` and export it again, or give one model",
        )
    return face, image, fusion
