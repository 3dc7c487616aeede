"""The way of a photo: discover, decode, faces, classify. Only this module knows the order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batch.answer import failed_row, labelled_row
from batch.decoders import Decoders
from batch.ensemble import Ensemble, Evidence
from batch.faces import Detector
from batch.options import Options
from batch.parallel import ordered_map
from batch.records import Decoded, Failure, FileState, Finished, Photo, Reason, Row, Stage, Views
from batch.session import available_cores
from batch.timings import CLASSIFY, DECODE, FACES, READ, Timings

# Seconds that a photo waits for others before it is classified.
LONGEST_WAIT = 1.0

# Gives a file the row of another one with the same bytes (their SHA-256), if there is one.
Known = Callable[[Path, bytes], Row | None]


@dataclass(frozen=True)
class _Prepared:
    """What a worker made of a file; ``state`` is None where it could not be read."""

    content: Views | Failure | Row
    state: FileState | None = None


class Pipeline:
    """Models, a detector and a provider, opened and proved, ready for any number of photos.

    ``timings`` grow as photos pass.

    Raises:
        ModelError: a model is missing, breaks the contract or answers wrongly.
        ProviderError: the provider that was asked for does not work.
    """

    def __init__(self, options: Options) -> None:
        self.ensemble = Ensemble(options)
        self.workers = options.workers or available_cores()
        self.timings = Timings()
        self._batch_size = options.batch_size
        self._file_limits = options.file_limits
        self._detector = Detector(self.ensemble.provider) if self.ensemble.face else None

    def run(self, found: Iterable[Path | Failure]) -> Iterator[Row]:
        """Label files, one row each, in the order they come."""
        return (finished.row for finished in self.label(found))

    def label(
        self, found: Iterable[Path | Failure], known: Known | None = None
    ) -> Iterator[Finished]:
        """Label files as ``run`` does, but take over rows that are ``known``."""
        with (
            Decoders(self._file_limits) as decoders,
            closing(
                ordered_map(lambda item: self._prepared(item, known, decoders), found, self.workers)
            ) as prepared,
        ):
            for batch in _batches(prepared, self._batch_size):
                yield from self._finished(batch)

    def _prepared(
        self, found: Path | Failure, known: Known | None, decoders: Decoders
    ) -> _Prepared:
        if isinstance(found, Failure):
            return _Prepared(found)
        decoded = self._decoded(found, known is not None, decoders)
        state = decoded.state
        # A journal that fails must end the run, so this is outside of what `_views` catches.
        row = known(found, state.digest) if known and state and state.digest else None
        return _Prepared(row or self._views(decoded.content), state)

    def _decoded(self, path: Path, digest: bool, decoders: Decoders) -> Decoded:
        started = time.perf_counter()
        decoded = decoders.decode(path, digest)
        self.timings.add(READ, decoded.read_seconds)
        self.timings.add(DECODE, time.perf_counter() - started - decoded.read_seconds)
        return decoded

    def _views(self, photo: Photo | Failure) -> Views | Failure:
        try:
            with self.timings.of(FACES):
                return self._views_of(photo) if isinstance(photo, Photo) else photo
        except Exception as error:  # one photo must not end a night, whatever is wrong with it
            detail = f"{type(error).__name__}: {error}"
            return Failure(photo.path, Stage.FACES, Reason.INTERNAL, detail)

    def _views_of(self, photo: Photo) -> Views:
        boxes = self._detector.detect(photo) if self._detector else ()
        return self.ensemble.views(photo, boxes)

    def _finished(self, batch: list[_Prepared]) -> Iterator[Finished]:
        views = [item.content for item in batch if isinstance(item.content, Views)]
        with self.timings.of(CLASSIFY):
            evidence = iter(self.ensemble.ask(views) if views else ())
        for item in batch:
            if isinstance(item.content, Row):
                yield Finished(item.content, item.state, copied=True)
            elif isinstance(item.content, Failure):
                yield Finished(failed_row(item.content), item.state)
            else:
                yield Finished(self._row(item.content, next(evidence)), item.state)

    def _row(self, views: Views, evidence: Evidence) -> Row:
        if not (np.isfinite(evidence.faces).all() and np.isfinite(evidence.image).all()):
            detail = "the model's answer is not a number"
            return failed_row(Failure(views.path, Stage.CLASSIFY, Reason.INTERNAL, detail))
        return labelled_row(views, evidence, self.ensemble)


def _batches(prepared: Iterable[_Prepared], batch_size: int) -> Iterator[list[_Prepared]]:
    """Gather photos until their crops fill a batch; a photo is never split between two.

    Photos that take long do not wait for others, so that what is done is kept soon.
    """
    batch: list[_Prepared] = []
    crops, begun = 0, time.monotonic()
    for item in prepared:
        batch.append(item)
        if isinstance(item.content, Views):
            crops += len(item.content.faces) + len(item.content.images)
        full = crops >= batch_size or len(batch) >= batch_size
        if full or time.monotonic() - begun >= LONGEST_WAIT:
            yield batch
            batch, crops, begun = [], 0, time.monotonic()
    if batch:
        yield batch
