"""The way of a photo: discover, decode, faces, classify. Only this module knows the order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.answer import failed_row, is_settled, labelled_row
from batch.cores import available_cores
from batch.decoders import Decoders
from batch.ensemble import Ensemble
from batch.errors import BatchLabelError
from batch.faces import Detector
from batch.options import Options, Place
from batch.parallel import ordered_map
from batch.records import (
    Box,
    Decoded,
    Evidence,
    Failure,
    Finished,
    Photo,
    Pixels,
    Probabilities,
    Reason,
    Region,
    Row,
    Stage,
)
from batch.timings import CLASSIFY, CROP, DECODE, FACES, READ, Timings

WORKERS_A_CORE_ON_DEVICES = 2

# Gives a file the row of another one with the same bytes (their SHA-256), if there is one.
Known = Callable[[Path, bytes], Row | None]


class Pipeline:
    """Models, a detector and a provider, opened and proved, ready for any number of photos.

    ``timings`` grow as photos pass.

    Raises:
        ModelError: a model is missing, breaks the contract or answers wrongly.
        ProviderError: the provider that was asked for does not work.
    """

    def __init__(self, options: Options) -> None:
        self.ensemble = Ensemble(options)
        self.workers = options.workers or available_cores() * _threads_a_core(self.ensemble.place)
        self.timings = Timings()
        self._options = options
        self._detector = Detector(self.ensemble.place) if self.ensemble.face else None

    def run(self, found: Iterable[Path | Failure]) -> Iterator[Row]:
        """Label files, one row each, in the order they come."""
        return (finished.row for finished in self.label(found))

    def label(
        self, found: Iterable[Path | Failure], known: Known | None = None
    ) -> Iterator[Finished]:
        """Label files as ``run`` does, but take over rows that are ``known``.

        A worker takes one photo all the way: then all cores are busy whatever stage is slow,
        and no photo waits for others.
        """
        with (
            Decoders(self._options.file_limits) as decoders,
            closing(
                ordered_map(lambda item: self._finished(item, known, decoders), found, self.workers)
            ) as finished,
        ):
            yield from finished

    def _finished(self, found: Path | Failure, known: Known | None, decoders: Decoders) -> Finished:
        if isinstance(found, Failure):
            return Finished(failed_row(found))
        decoded = self._decoded(found, known is not None, decoders)
        state = decoded.state
        if known and state and state.digest:
            # Outside of what is caught below: a journal that fails must end the run.
            row = known(found, state.digest)
            if row is not None:
                return Finished(row, state, copied=True)
        return Finished(self.row(decoded.content), state)

    def _decoded(self, path: Path, digest: bool, decoders: Decoders) -> Decoded:
        started = time.perf_counter()
        decoded = decoders.decode(path, digest, self._options.salvage)
        self.timings.add(READ, decoded.read_seconds)
        self.timings.add(DECODE, time.perf_counter() - started - decoded.read_seconds)
        return decoded

    def row(self, photo: Photo | Failure) -> Row:
        """Find a decoded photo's faces, classify what there is to see and conclude its label."""
        if isinstance(photo, Failure):
            return failed_row(photo)
        try:
            evidence = self._evidence(photo)
            if np.isfinite(evidence.faces).all() and np.isfinite(evidence.image).all():
                return labelled_row(photo, evidence, self.ensemble)
            detail = "the model's answer is not a number"
        except BatchLabelError:  # such as a device that has failed, whatever the photo
            raise
        except Exception as error:  # one photo must not end a night, whatever is wrong with it
            detail = f"{type(error).__name__}: {error}"
        return failed_row(Failure(photo.path, Stage.CLASSIFY, Reason.INTERNAL, detail))

    def _evidence(self, photo: Photo) -> Evidence:
        """Look no closer at a photo than its answer needs."""
        evidence = self._seen_in_faces(photo)
        if self.ensemble.image is None or is_settled(evidence, self.ensemble):
            return evidence
        with self.timings.of(CROP):
            small = self.ensemble.cut_image(photo)
        return replace(evidence, image=self._asked(Region.IMAGE, small))

    def _seen_in_faces(self, photo: Photo) -> Evidence:
        if self._detector is None:
            return self._classified(photo, ())
        with self.timings.of(FACES):
            glance = self._detector.glance(photo)
        if glance.is_all or (glance.is_clear and not self._options.every_face):
            evidence = self._classified(photo, glance.boxes)
            if glance.is_all or is_settled(evidence, self.ensemble):
                return evidence
        with self.timings.of(FACES):
            boxes = self._detector.look_closely(photo, glance)
        return self._classified(photo, boxes)

    def _classified(self, photo: Photo, boxes: tuple[Box, ...]) -> Evidence:
        none = np.empty((0, len(self.ensemble.labels)), dtype=np.float32)
        if not boxes:
            return Evidence((), faces=none, image=none)
        with self.timings.of(CROP):
            crops = self.ensemble.cut_faces(photo, boxes)
        return Evidence(boxes, faces=self._asked(Region.FACE, crops), image=none)

    def _asked(self, region: Region, crops: Pixels) -> Probabilities:
        with self.timings.of(CLASSIFY):
            return self.ensemble.ask(region, crops)


def _threads_a_core(place: Place) -> int:
    """One, but more on devices, as a worker leaves its core alone while a device works for it."""
    return WORKERS_A_CORE_ON_DEVICES if place.devices else 1
