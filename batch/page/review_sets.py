"""The photos that a page asks people to review: a random sample, and photos chosen to learn from.

The sample is the photos with the highest SHA-256, up to ``SAMPLE_SIZE`` that are not reviewed yet.
Digests do not depend on what photos show, so it is a uniform random sample of the report. As all of
it is held out, it measures models. New photos join it by their own digests, and each page asks for
further ones as answers are added to the reviews file.

The other photos are chosen among those that the trainer may learn from.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import groupby

from batch.page.gather import SAMPLE_KEPT_FROM, PageRow
from batch.page.thumbnails import PagePicture
from batch.reading.held_out import TRAIN_SHARE

# Photos of the sample that are not reviewed yet: all copies and faces of a photo count as one.
SAMPLE_SIZE = 50
# Rows to learn from that are not reviewed yet.
CHOSEN_SIZE = 50
# Mean difference of the colours of two pictures, in levels of 0 to 255, up to which they count as
# shots of one series.
MAX_SERIES_DIFFERENCE = 12.0


def find_sample(
    rows: Sequence[PageRow], answered: Container[int], is_complete: bool, size: int = SAMPLE_SIZE
) -> list[int]:
    """Find the random sample of a report, the highest digest first.

    Args:
        rows: the rows of the page.
        answered: indices of the rows that are reviewed.
        is_complete: whether these are all rows of the report.
        size: the number of photos to find that still have a row to review; all copies and faces
            of a photo count as one.

    Returns:
        Indices of rows, reviewed ones included. All rows of a photo and of its copies are adjacent.
    """
    first = TRAIN_SHARE if is_complete else SAMPLE_KEPT_FROM
    places = [
        (row.sha256, index)
        for index, row in enumerate(rows)
        if row.sha256 and row.is_above(first) and row.can_review
    ]
    places.sort(key=lambda place: (place[0], -place[1]), reverse=True)
    sample: list[int] = []
    left = size
    for _, photo in groupby(places, key=lambda place: place[0]):
        if left <= 0:
            break
        indices = [index for _, index in photo]
        left -= any(index not in answered for index in indices)
        sample += indices
    return sample


def choose_to_learn_from(
    rows: Sequence[PageRow],
    pictures: Mapping[int, PagePicture],
    answered: Container[int],
    size: int = CHOSEN_SIZE,
) -> list[int]:
    """Choose rows to learn from: the least certain ones, one of each series of similar pictures.

    Args:
        rows: the rows of the page.
        pictures: pictures by row number; rows without one are not chosen.
        answered: indices of the rows that are reviewed.
        size: the largest number of rows.

    Returns:
        Indices of rows that are for training, the least certain first.
    """
    candidates = [
        (row.doubt, index)
        for index, row in enumerate(rows)
        if row.number in pictures
        and pictures[row.number].colours
        and index not in answered
        and row.sha256
        and not row.is_above(TRAIN_SHARE)
    ]
    chosen: list[int] = []
    colours: list[bytes] = []
    for _, index in sorted(candidates):
        if len(chosen) == size:
            break
        own = pictures[rows[index].number].colours
        if not any(_are_similar(own, other) for other in colours):
            chosen.append(index)
            colours.append(own)
    return chosen


def _are_similar(first: bytes, second: bytes) -> bool:
    difference = sum(abs(a - b) for a, b in zip(first, second, strict=True))
    return difference <= MAX_SERIES_DIFFERENCE * len(first)
