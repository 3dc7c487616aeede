"""Reader and writer of reviews: people's answers about the rows of a report."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import BinaryIO

from batch.errors import InputError, ReportError
from batch.files.regular_file import open_regular
from batch.path_text import parse_path_text, path_text, printable_text
from batch.reading.held_out import is_held_out
from batch.records import Abstain, Box
from batch.reports.columns import BOX_COLUMNS
from batch.reports.readers import MAX_LINE_BYTES, CsvReader, translate_read_errors
from batch.row_json import MAX_PHOTO_SIDE

REVIEW_COLUMNS = ("path", "sha256", "face", *BOX_COLUMNS, "said", "confidence", "label", "sample")
# The columns of earlier versions: without the sample, and before that without the digest.
FORMER_COLUMNS = (
    REVIEW_COLUMNS[:-1],
    tuple(name for name in REVIEW_COLUMNS[:-1] if name != "sha256"),
)
RANDOM_SAMPLE = "random"
# Current names of labels that earlier versions wrote.
FORMER_ANSWERS = {"not_a_person": Abstain.NO_PERSON.value}
MAX_REVIEW_LINES = 250_000  # of a file; they take 240 MB of memory
_MAX_SHOWN_CHARACTERS = 300  # of an invalid cell, in a message
REVIEW_REMEDY = "give a review.csv as the report page saved it"
_SHA256 = re.compile("[0-9a-f]{64}")


class ReviewError(InputError):
    """A file is not a review, or is damaged."""


@dataclass(frozen=True, slots=True)
class ReviewLine:
    """A line of a review: a person's answer about a photo or a face.

    Attributes:
        path: the photo as the report names it.
        sha256: SHA-256 of the photo's bytes in hexadecimal; empty if unknown.
        face: number of the face; None if the answer is about the photo.
        box: the face that the report's answer was derived from, in pixels of the upright photo;
            None if it was derived from the whole photo.
        said: the report's label, ``neither`` or ``no_person``; empty if it had none.
        confidence: the report's confidence, 0 to 1; None if unknown.
        label: the right label as reports write it, ``neither`` or ``no_person``.
        where: file and line, for messages.
        is_random: whether the photo is in the random sample of the report.
    """

    path: str
    sha256: str
    face: int | None
    box: Box | None
    said: str
    confidence: float | None
    label: str
    where: str = ""
    is_random: bool = False


def is_review(source: Path) -> bool:
    """Tell by its first line whether a file is a review."""
    if not source.is_file():
        return False
    with source.open("rb") as file:
        line = file.readline(MAX_LINE_BYTES).decode("utf-8-sig", "replace").strip()
    return tuple(line.split(",")) in (REVIEW_COLUMNS, *FORMER_COLUMNS)


def read_review_file(file: Path) -> Iterator[ReviewLine]:
    """Read the lines of a review in their order.

    Raises:
        ReviewError: the file can't be read, has other columns, or has an invalid line.
    """
    name = path_text(file)
    try:
        with translate_read_errors(name), open_regular(file) as stream:
            yield from read_review_lines(stream, name)
    except ReportError as error:
        raise ReviewError(error.problem, REVIEW_REMEDY) from error


def read_review_lines(stream: BinaryIO, name: str) -> Iterator[ReviewLine]:
    """Read the lines of an open review; ``name`` is its name in messages.

    Raises:
        ReviewError: the file has other columns, or an invalid line.
        ReportError: it is not CSV.
    """
    reader = CsvReader(stream, name)
    if reader.columns not in (REVIEW_COLUMNS, *FORMER_COLUMNS):
        raise ReviewError(
            f"{name} does not have the columns {','.join(REVIEW_COLUMNS)}", REVIEW_REMEDY
        )
    for count, (number, cells) in enumerate(reader.records(reader.columns), start=1):
        if count > MAX_REVIEW_LINES:
            raise ReviewError(f"{name} has more than {MAX_REVIEW_LINES} lines", "split the file")
        row = {name: str(cell or "") for name, cell in zip(reader.columns, cells, strict=True)}
        yield _parse_line(row, f"{name}, line {number}")


def write_review_lines(lines: Iterable[ReviewLine]) -> str:
    """Write a review as the report page does, so that equal lines have equal bytes."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(REVIEW_COLUMNS)
    for line in lines:
        box = line.box
        sides = (box.left, box.top, box.width, box.height) if box else ()
        writer.writerow(
            (
                line.path,
                line.sha256,
                line.face or "",
                *([f"{side:.1f}" for side in sides] or [""] * len(BOX_COLUMNS)),
                line.said,
                "" if line.confidence is None else f"{line.confidence:.4f}",
                line.label,
                RANDOM_SAMPLE if line.is_random else "",
            )
        )
    return text.getvalue()


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


def _parse_line(row: Mapping[str, str], where: str) -> ReviewLine:
    if not row["path"] or not row["label"]:
        raise ReviewError(f"{where} has no {'label' if row['path'] else 'path'}", REVIEW_REMEDY)
    try:
        parse_path_text(row["path"])
        return ReviewLine(
            path=row["path"],
            sha256=_parse_sha256(row.get("sha256", "")),
            face=_parse_face(row["face"]),
            box=parse_box([float(row[name]) for name in BOX_COLUMNS if row[name]]),
            said=row["said"],
            confidence=_parse_confidence(row["confidence"]),
            label=FORMER_ANSWERS.get(row["label"], row["label"]),
            where=where,
            is_random=_parse_sample(row.get("sample", ""), row.get("sha256", "")),
        )
    except ValueError as error:
        why = printable_text(str(error))[:_MAX_SHOWN_CHARACTERS]
        raise ReviewError(f"{where} is invalid ({why})", REVIEW_REMEDY) from error


def _parse_sha256(text: str) -> str:
    if text and not _SHA256.fullmatch(text.lower()):
        raise ValueError(f"{text} is not a SHA-256 in 64 hexadecimal digits")
    return text.lower()


def _parse_sample(text: str, sha256: str) -> bool:
    if text not in ("", RANDOM_SAMPLE):
        raise ValueError(f"{text} is not a sample: it is {RANDOM_SAMPLE} or empty")
    if text and not (sha256 and is_held_out(sha256)):
        raise ValueError("a photo with this SHA-256, or without one, is in no random sample")
    return bool(text)


def _parse_face(text: str) -> int | None:
    if not text:
        return None
    if not 1 <= (face := int(text)) <= MAX_PHOTO_SIDE:
        raise ValueError(f"{text} is not the number of a face")
    return face


def _parse_confidence(text: str) -> float | None:
    if not text:
        return None
    # NaN fails too.
    if not 0 <= (confidence := float(text)) <= 1:
        raise ValueError(f"{text} is not a confidence between 0 and 1")
    return confidence
