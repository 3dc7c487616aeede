"""The way of a photo: discover, decode, faces, classify. Only this module knows the order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from batch.answer import failed_row, labelled_row
from batch.decode import decode_bytes, read
from batch.ensemble import Ensemble, Evidence
from batch.faces import Detector
from batch.options import Options
from batch.parallel import ordered_map
from batch.records import Failure, Photo, Reason, Row, Stage, Views
from batch.session import available_cores


class Pipeline:
    """Models, a detector and a provider, opened and proved, ready for any number of photos.

    Raises:
        ModelError: a model is missing, breaks the contract or answers wrongly.
        ProviderError: the provider that was asked for does not work.
    """

    def __init__(self, options: Options) -> None:
        self.ensemble = Ensemble(options)
        self.workers = options.workers or available_cores()
        self._batch_size = options.batch_size
        self._detector = Detector(self.ensemble.provider) if self.ensemble.face else None

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
        boxes = self._detector.detect(photo) if self._detector else ()
        return self.ensemble.views(photo, boxes)

    def _rows(self, batch: list[Views | Failure]) -> Iterator[Row]:
        views = [item for item in batch if isinstance(item, Views)]
        evidence = iter(self.ensemble.ask(views) if views else ())
        for item in batch:
            if isinstance(item, Failure):
                yield failed_row(item)
            else:
                yield self._row(item, next(evidence))

    def _row(self, views: Views, evidence: Evidence) -> Row:
        if not (np.isfinite(evidence.faces).all() and np.isfinite(evidence.image).all()):
            detail = "the model's answer is not a number"
            return failed_row(Failure(views.path, Stage.CLASSIFY, Reason.INTERNAL, detail))
        return labelled_row(views, evidence, self.ensemble)


def _batches(views: Iterable[Views | Failure], batch_size: int) -> Iterator[list[Views | Failure]]:
    """Gather photos until their crops fill a batch; a photo is never split between two."""
    batch: list[Views | Failure] = []
    crops = 0
    for item in views:
        batch.append(item)
        crops += len(item.faces) + len(item.images) if isinstance(item, Views) else 0
        if crops >= batch_size or len(batch) >= batch_size:
            yield batch
            batch, crops = [], 0
    if batch:
        yield batch
