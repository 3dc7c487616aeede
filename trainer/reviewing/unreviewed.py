"""Photos of a report that nobody reviewed, as samples: what a model is to hold on to."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batch.errors import InputError
from batch.location import Location
from batch.reading.fields import read_checked_records
from batch.reading.saved import open_reader
from batch.records import ABSTAIN_OUTPUTS, Region
from batch.reports.readers import REMEDY, record_error
from trainer.data import Pixels
from trainer.datasets.duplicates import twins
from trainer.reviewing.review import BOX, Review, Verdict, box_of, placed, read_review
from trainer.reviewing.review_samples import read_samples
from trainer.reviewing.reviewed import Reviewed

# So many a reviewed sample are taken, as many as it was measured with: all of a large report
# would outweigh what was reviewed.
OTHERS = 5
# So many more are read, since some are gone, or near to what was reviewed.
SPARE = 2

logger = logging.getLogger(__name__)


def read_unreviewed(report: Path, review: Review, reviewed: Reviewed) -> Pixels:
    """Cut some of a report's answers out of their photos: uint8 [n, side, side, channels].

    They are cut as ``reviewed`` was, ``OTHERS`` times as many; which depends on their paths
    alone. What is gone, or nearly the same as anything reviewed, is passed over.

    Raises:
        ReportError, InputError: it is no report, or damaged.
    """
    said = {verdict.path for verdict in read_review(review)}
    answers = [v for v in _answers(report, review.photos) if v.path not in said]
    if reviewed.framing.region is Region.FACE:
        answers = [answer for answer in answers if answer.box]
    else:
        answers = list(
            {answer.path: answer for answer in answers if answer.face in (None, 1)}.values()
        )
    wanted = OTHERS * len(reviewed.learn)
    chosen = sorted(answers, key=_draw)[: SPARE * wanted]
    samples, _ = read_samples(chosen, reviewed.labels, reviewed.framing)
    pixels = reviewed.part(samples).pixels
    known = reviewed.part((*reviewed.learn, *reviewed.held)).pixels
    others = pixels[twins(pixels, known) < 0][:wanted]
    logger.info("%s: %d answers to hold on to", report, len(others))
    return others


def _answers(report: Path, photos: Path) -> Iterator[Verdict]:
    """Read a report's answers as if each had been confirmed."""
    with open_reader(report) as reader:
        wanted = ["path", "status", "label", *BOX]
        wanted += ["face"] if "face" in reader.columns else []
        absent = [name for name in wanted if name not in reader.columns]
        if absent:
            raise InputError(f"{reader.display_name} lacks {', '.join(absent)}", REMEDY)
        for number, (path, status, label, *place) in read_checked_records(reader, wanted):
            answer = status if label is None and status in ABSTAIN_OUTPUTS else label
            try:
                if answer is not None:
                    yield _confirmed(placed(path, photos), answer, place)
            except ValueError as error:
                raise record_error(reader, number, str(error)) from error


def _confirmed(path: Location, label: str, place: list[Any]) -> Verdict:
    sides, face = place[: len(BOX)], place[len(BOX) :]
    box = box_of([side for side in sides if side is not None])
    return Verdict(path, face[0] if face else None, box, said=label, label=label, where="")


def _draw(answer: Verdict) -> bytes:
    return hashlib.sha256(answer.name.encode()).digest()
