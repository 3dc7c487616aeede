"""The way of a photo: discover, decode, faces, classify. Only this module knows the order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from batch.answer import failed_row, labelled_row
from batch.classify import Classifier, Probabilities
from batch.contract import load_model
from batch.crop import crop, whole
from batch.decode import decode_bytes, read
from batch.faces import Detector
from batch.options import Options
from batch.parallel import ordered_map
from batch.records import Failure, Photo, Reason, Region, Row, Stage, Views
from batch.session import available_cores, choose_provider
from batch.shipped import find_model


class Pipeline:
    """A model, a detector and a provider, opened and proved, ready for any number of photos.

    ``provider`` is the one that runs; ``provider_note`` says why it is not CUDA where that
    was not asked for, else it is empty.

    Raises:
        ModelError: the model is missing, breaks the contract or answers wrongly.
        ProviderError: the provider that was asked for does not work.
    """

    def __init__(self, options: Options) -> None:
        self.model = load_model(find_model(options.model))
        spec = self.model.spec
        warm_up = np.zeros((1, *spec.golden.inputs.shape[1:]), dtype=np.uint8)
        self.provider, self.provider_note = choose_provider(
            options.provider, self.model.graph, warm_up
        )
        self.unsure_below = (
            spec.unsure_below if options.min_confidence is None else options.min_confidence
        )
        self.workers = options.workers or available_cores()
        self._batch_size = options.batch_size
        self._classifier = Classifier(self.model, self.provider, options.batch_size)
        self._detector = Detector(self.provider) if spec.region is Region.FACE else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that an answer can have, in the model's order."""
        return self.model.spec.labels

    def describe(self) -> str:
        """Name the model and its version for people."""
        return f"{self.model.spec.name} {self.model.spec.version}"

    def run(self, found: Iterable[Path | Failure]) -> Iterator[Row]:
        """Label files, one row each, in the order they come."""
        views = ordered_map(self._views, found, self.workers)
        for batch in _batches(views, self._batch_size):
            yield from self._rows(batch)

    def _views(self, found: Path | Failure) -> Views | Failure:
        if isinstance(found, Failure):
            return found
        try:
            data = read(found)
            photo = decode_bytes(found, data) if isinstance(data, bytes) else data
            return self._views_of(photo) if isinstance(photo, Photo) else photo
        except Exception as error:  # one photo must not end a night, whatever is wrong with it
            detail = f"{type(error).__name__}: {error}"
            return Failure(found, Stage.FACES, Reason.INTERNAL, detail)

    def _views_of(self, photo: Photo) -> Views:
        size = (self.model.height, self.model.width, self.model.channels)
        boxes = self._detector.detect(photo) if self._detector else ()
        if self._detector:
            crops = [crop(photo, box, self.model.spec.margin, *size) for box in boxes]
        else:
            crops = [whole(photo, *size)]
        return Views(
            path=photo.path,
            width=photo.width,
            height=photo.height,
            region=self.model.spec.region,
            boxes=boxes,
            crops=np.stack(crops) if crops else np.empty((0, *size), dtype=np.uint8),
        )

    def _rows(self, batch: list[Views | Failure]) -> Iterator[Row]:
        views = [item for item in batch if isinstance(item, Views)]
        probabilities: Iterator[Probabilities] = iter(())
        if views:
            together = self._classifier.classify(np.concatenate([v.crops for v in views]))
            ends = np.cumsum([len(v.crops) for v in views])[:-1]
            probabilities = iter(np.split(together, ends))
        for item in batch:
            yield (
                failed_row(item)
                if isinstance(item, Failure)
                else self._row(item, next(probabilities))
            )

    def _row(self, views: Views, probabilities: Probabilities) -> Row:
        if not np.isfinite(probabilities).all():
            detail = "the model's answer is not a number"
            return failed_row(Failure(views.path, Stage.CLASSIFY, Reason.INTERNAL, detail))
        return labelled_row(views, probabilities, self.model.spec.labels, self.unsure_below)


def _batches(views: Iterable[Views | Failure], batch_size: int) -> Iterator[list[Views | Failure]]:
    """Gather photos until their crops fill a batch; a photo is never split between two."""
    batch: list[Views | Failure] = []
    crops = 0
    for item in views:
        batch.append(item)
        crops += len(item.crops) if isinstance(item, Views) else 0
        if crops >= batch_size or len(batch) >= batch_size:
            yield batch
            batch, crops = [], 0
    if batch:
        yield batch
