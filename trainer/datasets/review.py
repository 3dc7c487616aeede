"""A review: what people said of a report's answers, as the report page's ``review.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.errors import InputError
from batch.location import Location, Url
from batch.path_text import parse_path_text, printable_text
from batch.reading.readers import MAX_LINE_BYTES
from batch.records import Abstain, Box
from batch.row_json import MAX_PHOTO_SIDE

REVIEW_COLUMNS = tuple(
    "path,face,face_left,face_top,face_width,face_height,said,confidence,label".split(",")
)
BOX_COLUMNS = REVIEW_COLUMNS[2:6]
# Answers of earlier releases, and what they are called now.
FORMER_ANSWERS = {"not_a_person": Abstain.NO_PERSON.value}
MAX_SHOWN_CHARACTERS = 300  # characters of what is wrong with a cell
REVIEW_REMEDY = "give the review.csv that the report page saved, as it is"


class ReviewError(InputError):
    """A file is no review, or damaged."""


@dataclass(frozen=True)
class Review:
    """Review files, the later ones said later, and the folder that their paths start from."""

    files: tuple[Path, ...]
    photos: Path


@dataclass(frozen=True)
class Verdict:
    """What a person said of one answer of a report.

    Attributes:
        path: where the photo lies: a file, or a URL, also that of an archive's member.
        face: the face's number, None if the answer is the photo's.
        box: the face that the answer rests on, in pixels of the upright photo; None if it rests on
            the whole photo.
        reported: the report's answer, a label, ``neither`` or ``no_person``; empty if it had none.
        label: the right answer, likewise.
        where: names the file and line.
    """

    path: Location
    face: int | None
    box: Box | None
    reported: str
    label: str
    where: str

    @property
    def confirms(self) -> bool:
        """Whether the report was right."""
        return self.reported == self.label

    @property
    def name(self) -> str:
        """What the verdict is about, for people."""
        photo = printable_text(str(self.path))
        return photo if self.face is None else f"{photo}, face {self.face}"


def is_review(source: Path) -> bool:
    """Tell a review from other tables by its first line."""
    if not source.is_file():
        return False
    with source.open("rb") as file:
        return file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace").strip() == ",".join(
            REVIEW_COLUMNS
        )


def read_review(review: Review) -> list[Verdict]:
    """Read all files; of several verdicts on the same face or photo the last one counts.

    Raises:
        BadReview: a file can't be read, has other columns, or a line can't be understood.
    """
    latest: dict[tuple[Location, int | None], Verdict] = {}
    for file in review.files:
        for verdict in _read_verdicts(file, review.photos):
            # Taken out first, so that it goes to where it was said last.
            latest.pop((verdict.path, verdict.face), None)
            latest[verdict.path, verdict.face] = verdict
    return list(latest.values())


def select_photo_verdicts(
    verdicts: Sequence[Verdict],
) -> tuple[list[Verdict], list[tuple[str, str]]]:
    """Give one verdict for each photo, and the photos without one, each with the reason.

    What was said of the photo counts; where its faces were reviewed one by one, what was said of
    the first, which is the main one, if nothing else was said of the others. That a box is no
    face does not tell what the photo shows, and counts for nothing.
    """
    photos: dict[Location, list[Verdict]] = {}
    for verdict in verdicts:
        photos.setdefault(verdict.path, []).append(verdict)
    kept: list[Verdict] = []
    left_out: list[tuple[str, str]] = []
    for of_photo in photos.values():
        shown = [v for v in of_photo if v.face is None or v.label != Abstain.NO_PERSON]
        if not shown:
            left_out.append((of_photo[0].name, "a box that is no face says nothing of the photo"))
            continue
        first = min(shown, key=lambda verdict: verdict.face or 0)
        labels = {verdict.label for verdict in shown}
        if first.face is not None and first.face > 1:
            left_out.append((first.name, "the photo's main face was not reviewed"))
        elif first.face is not None and len(labels) > 1:
            left_out.append((first.name, "the photo's faces have different labels"))
        else:
            kept.append(first)
    return kept, left_out


def parse_box(sides: Sequence[float]) -> Box | None:
    """Make a box of its left, top, width and height in pixels; None of nothing.

    Raises:
        ValueError: they are no box.
    """
    if not sides:
        return None
    left, top, width, height = sides
    # False for what is no number.
    if not all(abs(side) <= MAX_PHOTO_SIDE for side in sides) or min(width, height) <= 0:
        raise ValueError(f"{width:g} x {height:g} pixels are no face")
    return Box(left, top, width, height, score=1.0)


def resolve_location(text: str, photos: Path) -> Location:
    """Tell where a photo of a report lies whose relative paths start in the folder ``photos``.

    Raises:
        ValueError: the text is no path of a report.
    """
    path = parse_path_text(text)
    return path if isinstance(path, Url) else photos / path


def _parse_face(text: str) -> int | None:
    if not text:
        return None
    if not 1 <= (face := int(text)) <= MAX_PHOTO_SIDE:
        raise ValueError(f"{text} is no number of a face")
    return face


def _read_verdicts(file: Path, photos: Path) -> Iterator[Verdict]:
    try:
        # With or without the mark that spreadsheets put in front.
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            if tuple(next(rows, ())) != REVIEW_COLUMNS:
                raise ReviewError(
                    f"{file} has not the columns {','.join(REVIEW_COLUMNS)}", REVIEW_REMEDY
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
        raise ReviewError(f"{where} can't be understood ({why})", REVIEW_REMEDY) from error
