"""Explains an answer: runs the models again with one spot of their input hidden at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from batch.discovery.fetcher import Fetcher
from batch.errors import InputError, PhotoError
from batch.explaining.explanation import Explanation
from batch.explaining.occlusion import SPOTS_PER_SIDE, Floats, View, occlude_spots
from batch.location import Url, parse_location
from batch.models.ensemble import Ensemble, load_ensemble
from batch.options import Options
from batch.path_text import path_text
from batch.records import Evidence, Failure, Photo, Pixels, Probabilities, Reason, Region, Row
from batch.vision.crop import CropFrame, find_face_square, fit_frame
from batch.vision.decide import decide_row
from batch.vision.labeller import Labeller
from batch.vision.plan import choose_ensemble_device, make_plan
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask

# Only the largest faces are explained: smaller ones hardly affect the answer of a photo.
MAX_FACES = 12
# Keeps the log-odds of a probability of 0 or 1 finite.
MIN_PROBABILITY = 1e-12

# Returns the evidence of a photo with the answer for one view replaced.
ReplaceAnswer = Callable[[Probabilities], Evidence]


def explain(path: str | PathLike[str], options: Options | None = None) -> Explanation:
    """Label a photo as a run does and measure which parts of it the answer depends on.

    Args:
        path: a file, a URL, or a member of an archive (``zip://a.jpg::photos.zip``).
        options: the options of a run; ``workers`` and ``search`` are ignored.

    Raises:
        InputError: the file does not exist.
        PhotoError: the photo can't be read, or shows no face and the model labels faces only.
        ModelError, ProviderError: the model or the provider does not work.
    """
    options = options or Options()
    location = parse_location(fspath(path))
    if isinstance(location, Path) and not location.exists():
        raise InputError(f"photo {path_text(location)} can't be found", "check the spelling")
    ensemble = load_ensemble(options)
    data = _fetch(location, options) if isinstance(location, Url) else None
    # As in a run, a worker process decodes the photo, which may crash a decoder.
    with WorkerPool(WorkerTask(options.file_limits)) as workers:
        photo = workers.process(WorkerRequest(location, data, salvage=options.salvage)).content
        if isinstance(photo, Failure):
            raise _photo_error(photo)
        assert isinstance(photo, Photo)
        labeller = _make_labeller(ensemble, options)
        row = labeller.label(photo)  # may ask the worker for the photo in full size
    if row.failure is not None:
        raise _photo_error(row.failure)
    if row.answer is None:
        raise PhotoError(
            f"photo {path_text(location)} is {row.status}: {ensemble.describe()} has no answer",
            "use a pair with a whole-photo model, such as the default model",
        )
    return _Explainer(labeller, ensemble, photo, row).explanation()


def _fetch(url: Url, options: Options) -> bytes:
    with closing(Fetcher(options.file_limits.max_file_size)) as fetcher:
        content = fetcher.fetch(url).content
    if isinstance(content, Failure):
        raise _photo_error(content, "check the spelling, and that this machine can reach it")
    return content


# What to do about a photo that failed; for the other reasons, ``_CHECK_REMEDY``.
_REMEDIES = {
    Reason.NOT_A_FILE: "give one photo, not a folder",
    Reason.VANISHED: "check its name",
    Reason.UNREADABLE: "change the owner or mode of the file or of its folder",
    Reason.UNSUPPORTED: "convert it, for example to JPEG or PNG",
    Reason.TOO_LARGE: "allow more with --max-pixels or --max-file-size",
    Reason.TIMEOUT: "allow more with --decode-timeout",
}
_CHECK_REMEDY = "check with another program whether the file is intact"


def _photo_error(failure: Failure, remedy: str | None = None) -> PhotoError:
    return PhotoError(
        f"photo {path_text(failure.path)} can't be labelled ({failure.reason}: {failure.detail})",
        remedy or _REMEDIES.get(failure.reason, _CHECK_REMEDY),
    )


def _make_labeller(ensemble: Ensemble, options: Options) -> Labeller:
    device, _ = choose_ensemble_device(ensemble, options.device)
    return Labeller(make_plan(ensemble, options.batch_size), device)


class _Explainer:
    """Measures the effect of every spot on the answer of one photo.

    The boxes of the faces stay the same; only the inputs of the models change. The answer is
    decided from their outputs by the rules of a run.
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

            def replace_face(answer: Probabilities, number: int = number) -> Evidence:
                faces = self._evidence.faces.copy()
                faces[number] = answer
                return replace(self._evidence, faces=faces)

            left, top, side = find_face_square(self._photo, boxes[number], face.spec.margin)
            frame = fit_frame(
                (left, top, left + side, top + side), face.height, face.width, face.spec.resize
            )
            importance = self._measure_importance(Region.FACE, pixels, replace_face)
            yield _make_view(Region.FACE, frame, importance)

    def _view_image(self) -> Iterator[View]:
        model = self._ensemble.image
        if len(self._evidence.image) and model is not None:
            (pixels,) = self._labeller.resize_image(self._photo)
            width, height = self._photo.image.size
            frame = fit_frame((0, 0, width, height), model.height, model.width, model.spec.resize)
            importance = self._measure_importance(
                Region.IMAGE, pixels, lambda answer: replace(self._evidence, image=answer[None])
            )
            yield _make_view(Region.IMAGE, frame, importance)

    def _measure_importance(
        self, region: Region, view: Pixels, replace_answer: ReplaceAnswer
    ) -> Floats:
        answers = np.concatenate(
            [self._labeller.classify(region, part) for part in occlude_spots(view)]
        )
        importance = [
            self._certainty - self._measure_log_odds(replace_answer(answer)) for answer in answers
        ]
        return np.asarray(importance, dtype=np.float32).reshape(SPOTS_PER_SIDE, SPOTS_PER_SIDE)

    def _measure_log_odds(self, evidence: Evidence) -> float:
        answer = decide_row(self._photo, evidence, self._ensemble).answer
        assert answer is not None
        probabilities = answer.probabilities
        if self._ensemble.photo_thresholds.always_answer:
            probabilities = {label: probabilities[label] for label in self._ensemble.labels}
        return log_odds(self._output, probabilities)


def _make_view(region: Region, frame: CropFrame, importance: Floats) -> View:
    left, top, right, bottom = frame
    return View(region, left, top, right - left, bottom - top, importance)


def log_odds(output: str, probabilities: Mapping[str, float]) -> float:
    """Compute the log-odds of one output against the sum of all others.

    The sum of the others stays precise when the probability of the output is rounded to 1.
    """
    others = sum(p for other, p in probabilities.items() if other != output)
    return math.log(max(probabilities[output], MIN_PROBABILITY)) - math.log(
        max(others, MIN_PROBABILITY)
    )
