"""The reviews file of a report: people's answers, by the photos' SHA-256 and the faces' boxes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from io import BytesIO
from itertools import count
from pathlib import Path

from batch.errors import ReportError
from batch.files.publish import is_streamed, resolve_path, sync_folder
from batch.files.regular_file import read_regular
from batch.journal.path import find_url_journal_path
from batch.location import Url, parse_location
from batch.os_errors import (
    PERMISSION_REMEDY,
    describe_failed_access,
    is_denied,
    translate_write_errors,
)
from batch.path_text import path_text
from batch.reading.reviews import (
    MAX_REVIEW_LINES,
    ReviewError,
    ReviewLine,
    read_review_lines,
    write_review_lines,
)
from batch.records import MIN_FACE_OVERLAP, Box
from batch.reports.whole_file import AtomicFile

REVIEWS_SUFFIX = ".reviews.csv"
BACKUP_SUFFIX = ".reviews.old-{}.csv"
MAX_REVIEWS_BYTES = 128 << 20
RESTORE_REMEDY = (
    "repair it or restore a backup; or run once with --forget-reviews, which sets it aside"
)
_WRITE_REMEDY = "check its folder, its permissions and the free space"
NO_SHA256 = "no SHA-256 of the photo; make the report and its page again with this version"
NO_BOX = "no box of the face"


class Addition(StrEnum):
    """What became of a line that was added to reviews."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"


class Reviews:
    """People's answers, one per photo and one per face; later ones override earlier ones.

    Attributes:
        digest: SHA-256 of the file that they were read from, in hexadecimal; empty without one.
    """

    def __init__(self) -> None:
        self._by_photo: dict[str, list[ReviewLine]] = {}
        self.digest = ""

    def __iter__(self) -> Iterator[ReviewLine]:
        """Iterate over the answers; those about the same photo are together."""
        for lines in self._by_photo.values():
            yield from lines

    def __len__(self) -> int:
        return sum(map(len, self._by_photo.values()))

    def add(self, line: ReviewLine) -> Addition:
        """Add an answer without a flaw, or override the one about the same photo or face.

        The model's answer and its box stay those of the first line: a page that is made after a
        correction shows the correction instead. A photo stays in the random sample.
        """
        lines = self._by_photo.setdefault(line.sha256, [])
        known = find_photo_line(lines) if line.face is None else find_face_line(lines, line.box)
        if known is None:
            lines.append(line)
            return Addition.NEW
        lines[lines.index(known)] = replace(
            line,
            said=known.said,
            confidence=known.confidence,
            box=known.box,
            is_random=line.is_random or known.is_random,
        )
        return Addition.SAME if line.label == known.label else Addition.CHANGED

    def find(self, sha256: str) -> list[ReviewLine] | None:
        """Find the answers about a photo with these bytes; None if there are none."""
        return self._by_photo.get(sha256)


def find_photo_line(lines: list[ReviewLine]) -> ReviewLine | None:
    """Find the answer about the photo as a whole."""
    return next((line for line in lines if line.face is None), None)


def find_face_line(lines: list[ReviewLine], box: Box | None) -> ReviewLine | None:
    """Find the answer about the face in a box: the one whose box overlaps it the most."""
    if box is None:
        return None
    overlaps = [(box.compute_overlap(line.box), line) for line in lines if line.face and line.box]
    overlap, line = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
    return line if overlap >= MIN_FACE_OVERLAP else None


def find_reviews_path(output: str, of_url: Path | None) -> Path | None:
    """Return the reviews file of a report: ``results.csv.reviews.csv`` beside ``results.csv``.

    Args:
        output: what ``-o`` names.
        of_url: the file if the report is at a URL.

    Returns:
        The path; None for standard output, pipes and devices, which have no reviews.
    """
    location = parse_location(output)
    if isinstance(location, Url):
        return of_url
    if is_streamed(output):
        return None
    report = resolve_path(location)
    return report.with_name(report.name + REVIEWS_SUFFIX)


def find_url_reviews_path(url: str, folder: Path) -> Path:
    """Return the reviews file of a report at a URL, in the folder of the default journals."""
    return find_url_journal_path(url, folder).with_suffix(REVIEWS_SUFFIX)


def read_reviews(path: Path) -> Reviews | None:
    """Read a reviews file; None if there is none.

    Raises:
        ReviewError: it is damaged, too large, or can't be read, or a line has a flaw.
    """
    name, reviews = _describe(path), Reviews()
    try:
        data = read_regular(path, MAX_REVIEWS_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        remedy = f"{PERMISSION_REMEDY}, then run again" if is_denied(error) else RESTORE_REMEDY
        raise ReviewError(describe_failed_access(name, "read", error, path), remedy) from error
    if data is None:
        raise ReviewError(
            f"{name} has more than {MAX_REVIEWS_BYTES} bytes, or is not a regular file",
            RESTORE_REMEDY,
        )
    try:
        for line in read_review_lines(BytesIO(data), name):
            if flaw := find_flaw(line):
                raise ReviewError(f"{line.where} can't be used: {flaw}", RESTORE_REMEDY)
            reviews.add(line)
    except (ReportError, ReviewError) as error:
        raise ReviewError(error.problem, RESTORE_REMEDY) from error
    reviews.digest = hashlib.sha256(data).hexdigest()
    return reviews


def write_reviews(path: Path, reviews: Reviews, report: Path | None = None) -> None:
    """Replace a reviews file in one step.

    Args:
        path: the file.
        reviews: the answers.
        report: the report, whose owner, group and mode a new file gets; None for one at a URL.

    Raises:
        OutputError: it can't be written; the earlier one stays.
        ReviewError: there are more reviews than can be read back.
    """
    data = write_review_lines(reviews).encode()
    if len(reviews) > MAX_REVIEW_LINES or len(data) > MAX_REVIEWS_BYTES:
        raise ReviewError(
            f"{_describe(path)} would have {len(reviews)} lines and {len(data)} bytes, and may "
            f"have {MAX_REVIEW_LINES} lines and {MAX_REVIEWS_BYTES} bytes",
            "split the report, or remove the reviews of photos that are gone from the file",
        )
    AtomicFile(path, "reviews file", _WRITE_REMEDY, like=report).write(data)


def set_aside(path: Path) -> Path:
    """Rename a reviews file to a free name, ``results.csv.reviews.old-1.csv``; return that name.

    Raises:
        OutputError: it can't be renamed.
    """
    stem = path.name.removesuffix(REVIEWS_SUFFIX)
    names = (path.with_name(stem + BACKUP_SUFFIX.format(number)) for number in count(1))
    with translate_write_errors(_describe(path), _WRITE_REMEDY, path):
        # The run holds the lock of the report, so the name stays free.
        backup = next(name for name in names if not os.path.lexists(name))
        path.rename(backup)
        sync_folder(path.parent)
    return backup


def list_set_aside(path: Path) -> list[Path]:
    """List the files that ``set_aside`` has made of a reviews file."""
    before, after = BACKUP_SUFFIX.split("{}")
    start = path.name.removesuffix(REVIEWS_SUFFIX) + before
    with suppress(OSError):  # there may be no such folder
        return sorted(
            file
            for file in path.parent.iterdir()
            if file.name.startswith(start)
            and file.name.endswith(after)
            and file.name[len(start) : -len(after)].isdecimal()
        )
    return []


def _describe(path: Path) -> str:
    return f"reviews file {path_text(path)}"


def find_flaw(line: ReviewLine) -> str:
    """Return what a line lacks to be applied to a report; empty if nothing."""
    if not line.sha256:
        return NO_SHA256
    return NO_BOX if line.face is not None and line.box is None else ""
