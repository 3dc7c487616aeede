"""The model, or the pair of models, that a run asks, on one provider."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batch.classify import Classifier
from batch.contract import Model, load_model
from batch.crop import crop, whole
from batch.errors import ModelError
from batch.fusion import Fusion
from batch.options import Options
from batch.records import Box, Photo, Pixels, Probabilities, Region
from batch.session import choose_place
from batch.shipped import find_models


class Ensemble:
    """A face model, a whole-photo model, or one of each with the fusion that joins them.

    ``place`` is where they run, ``provider`` what runs them; ``provider_note`` says why that
    is not CUDA where it could have been, else it is empty. ``unsure_below`` and
    ``face_unsure_below`` are the thresholds for a photo and for a single face; from
    ``settled_from`` on, the face model's own threshold, its answer counts without a closer look.

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
        self.settled_from = first.spec.unsure_below
        self.face_unsure_below = first.spec.unsure_below if least is None else least
        self._classifiers = {
            model.spec.region: Classifier(model, self.place, options.batch_size) for model in models
        }

    def describe(self) -> str:
        """Name the models and their versions for people."""
        return " + ".join(f"{model.spec.name} {model.spec.version}" for model in self.models)

    def cut_faces(self, photo: Photo, boxes: tuple[Box, ...]) -> Pixels:
        """Cut out what the face model looks at: uint8 [len(boxes), H, W, C]."""
        assert self.face is not None
        margin, size = self.face.spec.margin, _size(self.face)
        crops = [crop(photo, box, margin, *size) for box in boxes]
        return np.stack(crops) if crops else np.empty((0, *size), dtype=np.uint8)

    def cut_image(self, photo: Photo) -> Pixels:
        """Bring a photo to what the whole-photo model looks at: uint8 [1, H, W, C]."""
        assert self.image is not None
        return whole(photo, *_size(self.image))[None]

    def ask(self, region: Region, crops: Pixels) -> Probabilities:
        """Give the probability of each label, float32 [n, K], for crops made for a region."""
        return self._classifiers[region].classify(crops)


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
