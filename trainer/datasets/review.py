"""Reader of reviews: people's verdicts on a report's labels, saved by the report page."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.errors import InputError
from batch.location import Location, Url
from batch.path_text import parse_path_text, printable_text
from batch.records import Abstain, Box
from batch.reports.readers import MAX_LINE_BYTES
from batch.row_json import MAX_PHOTO_SIDE

REVIEW_COLUMNS = tuple(
    "path,face,face_left,face_top,face_width,face_height,said,confidence,label".split(",")
)
BOX_COLUMNS = REVIEW_COLUMNS[2:6]
# Current names of labels that earlier releases wrote.
FORMER_ANSWERS = {"not_a_person": Abstain.NO_PERSON.value}
MAX_SHOWN_CHARACTERS = 300  # of an invalid cell, in a message
REVIEW_REMEDY = "give a review.csv as the report page saved it"


class ReviewError(InputError):
    """A file is not a review, or is damaged."""


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
    """

    path: Location
    face: int | None
    box: Box | None
    reported: str
    label: str
    where: str

    @property
    def confirms(self) -> bool:
        """Whether the report's label is right."""
        return self.reported == self.label

    @property
    def name(self) -> str:
        """Photo and face of the verdict, for messages."""
        photo = printable_text(str(self.path))
        return photo if self.face is None else f"{photo}, face {self.face}"


def is_review(source: Path) -> bool:
    """Tell by its first line whether a file is a review."""
    if not source.is_file():
        return False
    with source.open("rb") as file:
        return file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace").strip() == ",".join(
            REVIEW_COLUMNS
        )


def read_review(review: Review) -> list[Verdict]:
    """Read all files; the last of several verdicts on the same face or photo counts.

    Raises:
        ReviewError: a file can't be read, has other columns, or has an invalid line.
    """
    latest: dict[tuple[Location, int | None], Verdict] = {}
    for file in review.files:
        for verdict in _read_verdicts(file, review.photos):
            # Remove the earlier verdict first, so that the order is that of the last mention.
            latest.pop((verdict.path, verdict.face), None)
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


def parse_box(sides: Sequence[float]) -> Box | None:
    """Build a box from left, top, width and height in pixels; None if all are empty.

    Raises:
        ValueError: the numbers are not a box.
    """
    if not sides:
        return None
    left, top, width, height = sides
    # NaN fails too, because a comparison with NaN is false.
    if not all(abs(side) <= MAX_PHOTO_SIDE for side in sides) or min(width, height) <= 0:
        raise ValueError(f"{width:g} x {height:g} pixels are not a face")
    return Box(left, top, width, height, score=1.0)


def resolve_location(text: str, photos: Path) -> Location:
    """Resolve a path of a report, relative to the folder ``photos``.

    Raises:
        ValueError: the text is not a path in the notation of reports.
    """
    path = parse_path_text(text)
    return path if isinstance(path, Url) else photos / path


def _parse_face(text: str) -> int | None:
    if not text:
        return None
    if not 1 <= (face := int(text)) <= MAX_PHOTO_SIDE:
        raise ValueError(f"{text} is not the number of a face")
    return face


def _read_verdicts(file: Path, photos: Path) -> Iterator[Verdict]:
    try:
        # With or without the byte order mark that spreadsheets write.
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            if tuple(next(rows, ())) != REVIEW_COLUMNS:
                raise ReviewError(
                    f"{file} does not have the columns {','.join(REVIEW_COLUMNS)}", REVIEW_REMEDY
                )
            for cells in rows:
                if cells:
                    yield _parse_verdict(cells, f"{file}, line {rows.line_num}", photos)
    except OSError as error:
        raise ReviewError(f"{file} can't be read ({error.strerror})", REVIEW_REMEDY) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReviewError(f"{file} can't be read as a review ({error})", REVIEW_REMEDY) from error


def _parse_verdict(cells: Sequence[str], where: str, photos: Path) -> Verdict:
    if len(cells) != len(REVIEW_COLUMNS):
        raise ReviewError(
            f"{where} has {len(cells)} cells, not {len(REVIEW_COLUMNS)}", REVIEW_REMEDY
        )
    row = dict(zip(REVIEW_COLUMNS, cells, strict=True))
    if not row["path"] or not row["label"]:
        raise ReviewError(f"{where} has no {'label' if row['path'] else 'path'}", REVIEW_REMEDY)
    try:
        return Verdict(
            path=resolve_location(row["path"], photos),
            face=_parse_face(row["face"]),
            box=parse_box([float(row[name]) for name in BOX_COLUMNS if row[name]]),
            reported=row["said"],
            label=FORMER_ANSWERS.get(row["label"], row["label"]),
            where=where,
        )
    except ValueError as error:
        why = printable_text(str(error))[:MAX_SHOWN_CHARACTERS]
        raise ReviewError(f"{where} is invalid ({why})", REVIEW_REMEDY) from error
