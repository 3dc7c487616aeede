"""The model, or the pair of models, that a run asks, on one provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batch.classify import Classifier
from batch.contract import Model, load_model
from batch.crop import crop, whole
from batch.errors import ModelError
from batch.fusion import Fusion
from batch.options import Options
from batch.records import Box, Photo, Pixels, Probabilities, Region, Views
from batch.session import choose_place
from batch.shipped import find_models


@dataclass(frozen=True)
class Evidence:
    """What the models say of one photo: float32 [faces, K] and [1, K], or [0, K] if not asked."""

    faces: Probabilities
    image: Probabilities


class Ensemble:
    """A face model, a whole-photo model, or one of each with the fusion that joins them.

    ``place`` is where they run, ``provider`` what runs them; ``provider_note`` says why that
    is not CUDA where it could have been, else it is empty. ``unsure_below`` and
    ``face_unsure_below`` are the thresholds for a photo and for a single face.

    Raises:
        ModelError: a model is missing, breaks the contract, answers wrongly, or the two do
            not go together.
        ProviderError: the provider that was asked for does not work.
    """

    def __init__(self, options: Options) -> None:
        models = [load_model(path) for path in find_models(options.model)]
        self.face, self.image, self.fusion = _roles(models)
        self.models = tuple(models)
        self.labels = models[0].spec.labels
        first = models[0]
        warm_up = np.zeros((1, first.height, first.width, first.channels), dtype=np.uint8)
        self.place, self.provider_note = choose_place(options.place, first.graph, warm_up)
        self.provider = self.place.provider
        least = options.min_confidence
        own = self.fusion.unsure_below if self.fusion else first.spec.unsure_below
        self.unsure_below = own if least is None else least
        self.face_unsure_below = first.spec.unsure_below if least is None else least
        self._classifiers = {
            model.spec.region: Classifier(model, self.place, options.batch_size) for model in models
        }

    def describe(self) -> str:
        """Name the models and their versions for people."""
        return " + ".join(f"{model.spec.name} {model.spec.version}" for model in self.models)

    def views(self, photo: Photo, boxes: tuple[Box, ...]) -> Views:
        """Cut out what the models will look at."""
        faces: list[Pixels] = []
        if self.face:
            margin, size = self.face.spec.margin, _size(self.face)
            faces = [crop(photo, box, margin, *size) for box in boxes]
        # A model whose answer would not count is not asked.
        spare = self.fusion is not None and self.fusion.face_first and bool(boxes)
        images = [whole(photo, *_size(self.image))] if self.image and not spare else []
        return Views(
            path=photo.path,
            width=photo.width,
            height=photo.height,
            boxes=boxes,
            faces=_stacked(faces, self.face),
            images=_stacked(images, self.image),
        )

    def ask(self, views: Sequence[Views]) -> list[Evidence]:
        """Classify the views of many photos in batches."""
        faces = self._classified(Region.FACE, [view.faces for view in views])
        images = self._classified(Region.IMAGE, [view.images for view in views])
        return [Evidence(face, image) for face, image in zip(faces, images, strict=True)]

    def _classified(self, region: Region, crops: list[Pixels]) -> list[Probabilities]:
        classifier = self._classifiers.get(region)
        if classifier is None:
            return [np.empty((0, len(self.labels)), dtype=np.float32)] * len(crops)
        together = classifier.classify(np.concatenate(crops))
        return np.split(together, np.cumsum([len(crop) for crop in crops])[:-1])


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


def _size(model: Model) -> tuple[int, int, int]:
    return model.height, model.width, model.channels


def _stacked(crops: list[Pixels], model: Model | None) -> Pixels:
    if crops:
        return np.stack(crops)
    return np.empty((0, *(_size(model) if model else (1, 1, 1))), dtype=np.uint8)
