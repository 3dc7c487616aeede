"""Reviews as training data: people's verdicts on a report's labels, per face or per photo."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from batch.errors import BatchLabelError, ReportError
from batch.location import Location, Url
from batch.path_text import parse_path_text, printable_text
from batch.reading.reviews import ReviewLine, read_review_file
from batch.reading.saved import open_reader
from batch.records import Abstain, Box
from batch.reports.readers import record_error
from batch.reviewing.reviews_file import REVIEWS_SUFFIX

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Review:
    """Review files.

    Attributes:
        files: the files; verdicts of later ones override those of earlier ones.
        photos: the folder that relative paths in them start from.
    """

    files: tuple[Path, ...]
    photos: Path


@dataclass(frozen=True)
class Verdict:
    """A person's verdict on one label of a report.

    Attributes:
        path: location of the photo, a file or a URL, such as that of an archive's member.
        face: number of the face, None for a label of the photo.
        box: the face that the label was derived from, in pixels of the upright photo; None if it
            was derived from the whole photo.
        reported: the report's label, ``neither`` or ``no_person``; empty if it had none.
        label: the right label, ``neither`` or ``no_person``.
        where: file and line of the verdict, for messages.
        sha256: SHA-256 of the photo that was reviewed, in hexadecimal; empty if unknown.
        is_random: whether the photo is in the random sample of the report.
    """

    path: Location
    face: int | None
    box: Box | None
    reported: str
    label: str
    where: str
    sha256: str = ""
    is_random: bool = False

    @property
    def confirms(self) -> bool:
        """Whether the report's label is right."""
        return self.reported == self.label

    @property
    def name(self) -> str:
        """Photo and face of the verdict, for messages."""
        photo = printable_text(str(self.path))
        return photo if self.face is None else f"{photo}, face {self.face}"


def read_review(review: Review) -> list[Verdict]:
    """Read all files; the last of several verdicts on the same face or photo counts.

    A photo that was in the random sample stays in it. A photo that is not at its path any more is
    looked up by its SHA-256 in the reports beside the files.

    Raises:
        ReviewError: a file can't be read, has other columns, or has an invalid line.
    """
    latest: dict[tuple[Location, int | None], Verdict] = {}
    verdicts = [
        _make_verdict(line, review.photos)
        for file in review.files
        for line in read_review_file(file)
    ]
    # Before verdicts are compared, so that one given after a move overrides one given before.
    for verdict in _follow_moves(verdicts, review):
        # Remove the earlier verdict first, so that the order is that of the last mention.
        earlier = latest.pop((verdict.path, verdict.face), None)
        if earlier and earlier.is_random and earlier.sha256 == verdict.sha256:
            verdict = replace(verdict, is_random=True)
        latest[verdict.path, verdict.face] = verdict
    return list(latest.values())


def select_photo_verdicts(
    verdicts: Sequence[Verdict],
) -> tuple[list[Verdict], list[tuple[str, str]]]:
    """Select one verdict per photo.

    This is the verdict on the whole photo if there is one. Otherwise it is the verdict on face 1,
    the main face, if all reviewed faces have the same label. ``no_person`` for a face means that
    the box is not a face; such verdicts are ignored.

    Returns:
        The verdicts, and each photo without one, with the reason.
    """
    photos: dict[Location, list[Verdict]] = {}
    for verdict in verdicts:
        photos.setdefault(verdict.path, []).append(verdict)
    kept: list[Verdict] = []
    skipped: list[tuple[str, str]] = []
    for of_photo in photos.values():
        shown = [v for v in of_photo if v.face is None or v.label != Abstain.NO_PERSON]
        if not shown:
            skipped.append(
                (of_photo[0].name, "a box that is not a face says nothing about the photo")
            )
            continue
        first = min(shown, key=lambda verdict: verdict.face or 0)
        labels = {verdict.label for verdict in shown}
        if first.face is not None and first.face > 1:
            skipped.append((first.name, "the photo's main face was not reviewed"))
        elif first.face is not None and len(labels) > 1:
            skipped.append((first.name, "the photo's faces have different labels"))
        else:
            kept.append(first)
    return kept, skipped


def resolve_location(text: str, photos: Path) -> Location:
    """Resolve a path of a report, relative to the folder ``photos``.

    Raises:
        ValueError: the text is not a path in the notation of reports.
    """
    path = parse_path_text(text)
    return path if isinstance(path, Url) else photos / path


def _make_verdict(line: ReviewLine, photos: Path) -> Verdict:
    return Verdict(
        path=resolve_location(line.path, photos),
        face=line.face,
        box=line.box,
        reported=line.said,
        label=line.label,
        where=line.where,
        sha256=line.sha256,
        is_random=line.is_random,
    )


def _follow_moves(verdicts: list[Verdict], review: Review) -> list[Verdict]:
    """Give verdicts on photos that were moved their new paths, as far as reports tell them."""
    paths = {verdict.path for verdict in verdicts if verdict.sha256}
    gone = {path for path in paths if isinstance(path, Path) and not os.path.lexists(path)}
    wanted = {verdict.sha256 for verdict in verdicts if verdict.path in gone} - {""}
    places: dict[str, Path] = {}
    # Reports are read only if a photo is gone, because that takes as long as they have rows.
    for report in _list_reports(review) if wanted else ():
        try:
            places.update(_find_places(report, wanted - places.keys(), review.photos))
        except BatchLabelError as error:
            logger.warning("WARNING: moved photos can't be looked up: %s", error)
    moved = [v.path in gone and v.sha256 in places for v in verdicts]
    if any(moved):
        logger.info(
            "%d reviewed photos were moved, and are found by their SHA-256 in the report",
            len({verdict.path for verdict in compress(verdicts, moved)}),
        )
    return [
        replace(verdict, path=places[verdict.sha256]) if is_moved else verdict
        for verdict, is_moved in zip(verdicts, moved, strict=True)
    ]


def _list_reports(review: Review) -> Iterator[Path]:
    """List the reports that have one of the files as their reviews file."""
    for file in review.files:
        report = file.with_name(file.name.removesuffix(REVIEWS_SUFFIX) or file.name)
        if report != file and os.path.lexists(report):
            yield report


def _find_places(report: Path, wanted: set[str], photos: Path) -> dict[str, Path]:
    """Find existing files by the SHA-256 that a report has for them.

    Raises:
        ReportError: the report can't be read, or is damaged.
        UsageError: a package that its format needs is not installed.
    """
    places: dict[str, Path] = {}
    with open_reader(report) as reader:
        if not {"path", "sha256"} <= set(reader.columns):
            raise ReportError(
                f"{reader.display_name} has no column sha256", "make it again with this version"
            )
        for number, (path, sha256) in reader.records(("path", "sha256")):
            if sha256 not in wanted or sha256 in places:
                continue
            try:
                place = resolve_location(str(path), photos)
            except ValueError as error:
                raise record_error(reader, number, str(error)) from error
            if isinstance(place, Path) and os.path.lexists(place):
                places[str(sha256)] = place
    return places
