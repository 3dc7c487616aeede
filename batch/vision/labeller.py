"""From a decoded photo to its row: the order of the stages, and how closely a photo is examined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from batch.errors import BatchLabelError
from batch.models.model import Model
from batch.options import Device
from batch.records import (
    Box,
    Evidence,
    Failure,
    Photo,
    Pixels,
    Probabilities,
    Reason,
    Region,
    Row,
    Stage,
)
from batch.timings import CLASSIFY, CROP, DECODE, FACES, Timings
from batch.vision.classify import Classifier
from batch.vision.crop import crop, resize_photo
from batch.vision.decide import decide_row, is_settled, make_failed_row, needs_image_model
from batch.vision.faces import Detector, are_all_small
from batch.vision.plan import LabellingPlan


class _DetailError(Exception):
    """A photo was decoded, but not its detail."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Labeller:
    """Models and a face detector, opened on a device; safe to share between threads.

    Attributes:
        timings: time spent in each stage so far.

    Raises:
        ModelError: a model answers its golden samples wrongly.
        ProviderError: a model does not run on the device.
    """

    def __init__(self, plan: LabellingPlan, device: Device) -> None:
        self.timings = Timings()
        self._ensemble = ensemble = plan.ensemble
        self._classifiers = {
            model.spec.region: Classifier(model, device, plan.batch_size)
            for model in ensemble.models
        }
        self._detector = Detector(device, graph=plan.detector) if ensemble.face else None

    def label(self, photo: Photo) -> Row:
        """Detect a photo's faces, classify them and the whole photo, and decide its row."""
        try:
            evidence = self.collect_evidence(photo)
            if np.isfinite(evidence.faces).all() and np.isfinite(evidence.image).all():
                return decide_row(photo, evidence, self._ensemble)
            detail = "a model's output is not finite (NaN or infinite)"
        except _DetailError as error:
            return make_failed_row(error.failure)
        except BatchLabelError:  # such as a failed device: not the photo's fault
            raise
        except Exception as error:  # one photo must not end a run
            detail = f"{type(error).__name__}: {error}"
        return make_failed_row(Failure(photo.path, Stage.CLASSIFY, Reason.INTERNAL, detail))

    def collect_evidence(self, photo: Photo) -> Evidence:
        """Detect faces and run the models, no more closely than the decision needs."""
        if self._detector is None:
            return self._run_models(photo, ())
        with self.timings.of(FACES):
            glance = self._detector.glance(photo)
        image = None
        if glance.suffices(self._ensemble.per_face):
            evidence = self._run_models(photo, glance.boxes)
            if glance.is_full_size or is_settled(photo, evidence, self._ensemble):
                return evidence
            image = evidence.image
        with self.timings.of(FACES):
            boxes = self._detector.look_closely(photo, glance)
        if self._ensemble.per_face or are_all_small(photo, boxes):
            boxes = self._add_detail(photo, boxes)
        return self._run_models(photo, boxes, image)

    def crop_faces(self, photo: Photo, boxes: tuple[Box, ...]) -> Pixels:
        """Crop each face for the face model: uint8 [len(boxes), H, W, C]."""
        face = self._ensemble.face
        assert face is not None
        with self.timings.of(CROP):
            return np.stack(
                [
                    crop(photo, box, face.spec.margin, *_input_size(face), face.spec.resize)
                    for box in boxes
                ]
            )

    def resize_image(self, photo: Photo) -> Pixels:
        """Resize a photo for the whole-photo model: uint8 [1, H, W, C]."""
        model = self._ensemble.image
        assert model is not None
        with self.timings.of(CROP):
            return resize_photo(photo, *_input_size(model), model.spec.resize)[None]

    def classify(self, region: Region, crops: Pixels) -> Probabilities:
        """Run a region's model on crops, uint8 [n, H, W, C], and return float32 [n, K + A]."""
        with self.timings.of(CLASSIFY):
            return self._classifiers[region].classify(crops)

    def _add_detail(self, photo: Photo, boxes: tuple[Box, ...]) -> tuple[Box, ...]:
        """Add the faces of the photo's detail, if it has one."""
        assert self._detector is not None
        with self.timings.of(DECODE):
            detail = photo.detail
        if detail is None:
            return boxes
        if isinstance(detail, Failure):
            raise _DetailError(detail)
        with self.timings.of(FACES):
            return self._detector.search_detail(detail, boxes)

    def _run_models(
        self, photo: Photo, boxes: tuple[Box, ...], image: Probabilities | None = None
    ) -> Evidence:
        """Run the models that contribute to the decision.

        Args:
            photo: the photo.
            boxes: its faces.
            image: the whole-photo model's probabilities, if it ran already.
        """
        none = np.empty((0, 0), dtype=np.float32)
        faces = self.classify(Region.FACE, self.crop_faces(photo, boxes)) if boxes else none
        evidence = Evidence(boxes, faces, image=none)
        if self._ensemble.image is None or not needs_image_model(photo, evidence, self._ensemble):
            return evidence
        if image is None or not len(image):
            image = self.classify(Region.IMAGE, self.resize_image(photo))
        return replace(evidence, image=image)


def _input_size(model: Model) -> tuple[int, int, int]:
    return model.height, model.width, model.channels
