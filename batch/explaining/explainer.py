"""Explains an answer: asks the models again with one spot hidden at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from batch.discovery.fetching import Fetcher
from batch.errors import InputError, PhotoError
from batch.explaining.explanation import Explanation, View
from batch.explaining.occlusion import SPOTS_PER_SIDE, Floats, occlude_spots
from batch.inference.placement import choose_device
from batch.location import Url, parse_location
from batch.models.ensemble import Ensemble, LabellingPlan, load_ensemble
from batch.options import Options
from batch.path_text import path_text
from batch.records import Evidence, Failure, Photo, Pixels, Probabilities, Region, Row
from batch.vision.crop import find_face_square
from batch.vision.decide import decide_row
from batch.vision.labeller import Labeller
from batch.vision.yunet_graph import build_detector_graph
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask

# Of a crowd, the largest faces: those behind them hardly weigh in the photo's answer.
MAX_FACES = 12
# Keeps the log-odds of a probability of 0 or 1 finite.
MIN_PROBABILITY = 1e-12

# Puts a model's answer for one view in the place of the one that it gave.
ReplaceAnswer = Callable[[Probabilities], Evidence]


def explain(path: str | PathLike[str], options: Options | None = None) -> Explanation:
    """Label a photo as a run does and find out which parts of it its answer rests on.

    It may be at a URL or in an archive (``zip://a.jpg::photos.zip``).

    Raises:
        InputError: there is no such file.
        PhotoError: it can't be read, or shows no face where faces alone count.
        ModelError, ProviderError: the model or the provider does not work.
    """
    options = options or Options()
    place = parse_location(fspath(path))
    if isinstance(place, Path) and not place.exists():
        raise InputError(f"photo {path_text(place)} can't be found", "check the spelling")
    ensemble = load_ensemble(options)
    data = _fetch(place, options) if isinstance(place, Url) else None
    # In a process of its own, as a run does, whatever becomes of it there.
    with WorkerPool(WorkerTask(options.file_limits)) as workers:
        photo = workers.process(WorkerRequest(place, data, salvage=options.salvage)).content
        if isinstance(photo, Failure):
            raise _photo_error(photo)
        assert isinstance(photo, Photo)
        labeller = _make_labeller(ensemble, options)
        row = labeller.label(photo)  # which may ask the process for the photo's detail
    if row.failure is not None:
        raise _photo_error(row.failure)
    if row.answer is None:
        raise PhotoError(
            f"photo {path_text(place)} shows no face, so {ensemble.describe()} has no answer",
            "ask a model of whole photos too, as the default model does",
        )
    return _Explainer(labeller, ensemble, photo, row).explanation()


def _fetch(url: Url, options: Options) -> bytes:
    with closing(Fetcher(options.file_limits.max_file_size)) as fetcher:
        content = fetcher.fetch(url).content
    if isinstance(content, Failure):
        raise _photo_error(content, "check the spelling, and that it can be reached from here")
    return content


def _photo_error(
    failure: Failure, remedy: str = "open it with another program to see whether it is whole"
) -> PhotoError:
    return PhotoError(
        f"photo {path_text(failure.path)} can't be labelled ({failure.reason}: {failure.detail})",
        remedy,
    )


def _make_labeller(ensemble: Ensemble, options: Options) -> Labeller:
    first = ensemble.models[0]
    warm_up = np.zeros((1, first.height, first.width, first.channels), dtype=np.uint8)
    device, _ = choose_device(options.device, first.graph, warm_up)
    detector = build_detector_graph() if ensemble.face else b""
    return Labeller(LabellingPlan(ensemble, detector, options.batch_size), device)


class _Explainer:
    """One photo, its answer, and what to ask about it.

    Boxes stay where they are and no look is closer than the run's was: only what the models see
    changes. The answer is made of it by the rules of a run.
    """

    def __init__(self, labeller: Labeller, ensemble: Ensemble, photo: Photo, row: Row) -> None:
        assert row.answer is not None
        self._labeller = labeller
        self._ensemble = ensemble
        self._photo = photo
        self._row = row
        self._output = row.answer.label or row.answer.status.value
        self._evidence = labeller.collect_evidence(photo)
        self._certainty = self._measure_log_odds(self._evidence)

    def explanation(self) -> Explanation:
        return Explanation(
            photo=self._photo,
            row=self._row,
            labels=self._ensemble.labels,
            views=(*self._view_faces(), *self._view_image()),
            certainty=self._certainty,
        )

    def _view_faces(self) -> Iterator[View]:
        boxes, face = self._evidence.boxes[:MAX_FACES], self._ensemble.face
        if not boxes or face is None:
            return
        for number, pixels in enumerate(self._labeller.crop_faces(self._photo, boxes)):

            def replaced(answer: Probabilities, number: int = number) -> Evidence:
                faces = self._evidence.faces.copy()
                faces[number] = answer
                return replace(self._evidence, faces=faces)

            left, top, side = find_face_square(self._photo, boxes[number], face.spec.margin)
            worth = self._measure_worth(Region.FACE, pixels, replaced)
            yield View(Region.FACE, left, top, side, side, worth)

    def _view_image(self) -> Iterator[View]:
        if len(self._evidence.image):
            (pixels,) = self._labeller.resize_image(self._photo)
            width, height = self._photo.image.size
            worth = self._measure_worth(
                Region.IMAGE, pixels, lambda answer: replace(self._evidence, image=answer[None])
            )
            yield View(Region.IMAGE, 0, 0, width, height, worth)

    def _measure_worth(self, region: Region, view: Pixels, replaced: ReplaceAnswer) -> Floats:
        answers = np.concatenate(
            [self._labeller.classify(region, part) for part in occlude_spots(view)]
        )
        worth = [self._certainty - self._measure_log_odds(replaced(answer)) for answer in answers]
        return np.asarray(worth, dtype=np.float32).reshape(SPOTS_PER_SIDE, SPOTS_PER_SIDE)

    def _measure_log_odds(self, evidence: Evidence) -> float:
        answer = decide_row(self._photo, evidence, self._ensemble).answer
        assert answer is not None
        probabilities = answer.probabilities
        if self._ensemble.photo_thresholds.always_answer:
            probabilities = {label: probabilities[label] for label in self._ensemble.labels}
        return log_odds(self._output, probabilities)


def log_odds(output: str, probabilities: Mapping[str, float]) -> float:
    """Give the log-odds of one output against all others together.

    By the others' sum, which has digits left where the label's own probability is rounded to 1.
    """
    others = sum(p for other, p in probabilities.items() if other != output)
    return math.log(max(probabilities[output], MIN_PROBABILITY)) - math.log(
        max(others, MIN_PROBABILITY)
    )
