"""Reports with known rows and real photos, and their pages."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from batch.page.make import PageJob, PageSummary, make_page
from batch.records import Abstain, Answer, Box, Failure, Reason, Row, Source, Stage, Status
from batch.reports.report import open_report

LABELS = ("happy", "sad")
OUTPUTS = (*LABELS, *Abstain)
SIZE = (512, 512)  # pixels, of scikit-image's astronaut
BOX = Box(170.0, 60.0, 110.0, 130.0, 0.9)  # roughly the face of the astronaut


def make_answered_row(
    path: str,
    happy: float,
    sure: float = 0.7,
    source: Source = Source.FACE,
    content: bytes | None = None,
) -> Row:
    """Make a row answered by one face or by the whole photo; unsure below ``sure``.

    Its digest is that of ``content``.
    """
    shares = {"happy": happy, "sad": 1 - happy}
    label = max(shares, key=lambda name: shares[name])
    box = None if source is Source.IMAGE else BOX
    status = Status.OK if shares[label] >= sure else Status.UNSURE
    answer = Answer(status, label, shares[label], shares, box)
    row = Row(Path(path), status, answer, source, (answer,) if box else (), *SIZE)
    return replace(row, sha256=sha256(content).digest()) if content else row


def make_abstained_row(
    path: str, reason: Abstain, share: float, source: Source = Source.IMAGE
) -> Row:
    """Make a row of a photo for which the model abstains."""
    shares = dict.fromkeys(OUTPUTS, (1 - share) / 3) | {reason.value: share}
    box = None if source is Source.IMAGE else BOX
    status = Status(reason.value)
    answer = Answer(status, None, share, shares, box)
    return Row(Path(path), status, answer, source, (answer,) if box else (), *SIZE)


def make_failed_row(
    path: str, reason: Reason = Reason.TRUNCATED, detail: str = "ends early"
) -> Row:
    """Make the row of a file that could not be labelled."""
    return Row(Path(path), Status.FAILED, failure=Failure(Path(path), Stage.DECODE, reason, detail))


ROWS = (
    make_answered_row("album/a.jpg", 0.95),
    make_answered_row("album/b.jpg", 0.15),
    make_answered_row("album/c.jpg", 0.55),
    make_answered_row("other/d.jpg", 0.38, source=Source.IMAGE),
    Row(Path("other/e.jpg"), Status.NO_FACE, width=SIZE[0], height=SIZE[1]),
    make_failed_row("other/f.jpg"),
    make_failed_row("other/g.jpg", Reason.EMPTY, "no bytes in the file"),
)
# Rows of every status, from models that may abstain.
EVERY_ROW = (
    *ROWS,
    make_abstained_row("album/h.jpg", Abstain.NEITHER, 0.9, Source.BOTH),
    make_abstained_row("other/i.jpg", Abstain.NO_PERSON, 0.4),
)


def write_report(
    report: Path,
    rows: Iterable[Row] = ROWS,
    labels: tuple[str, ...] = LABELS,
    per_face: bool = False,
) -> Path:
    """Write a report and return its path."""
    report.parent.mkdir(parents=True, exist_ok=True)
    with open_report(str(report), labels, per_face, io.BytesIO()) as file:
        for row in rows:
            file.add(row)
        file.publish()
    return report


def write_photos(folder: Path, rows: Iterable[Row], photo: Image.Image) -> None:
    """Write a photo for each row that did not fail."""
    for row in rows:
        if row.failure is None:
            place = folder / row.path
            place.parent.mkdir(parents=True, exist_ok=True)
            photo.save(place, quality=90)


def make_report_page(report: Path, *previous: Path, gallery: int = 500) -> tuple[Path, PageSummary]:
    """Make the page of a report next to it, with the photos in its folder."""
    page = report.with_suffix(".html")
    request = PageJob(report, str(page), report.parent, gallery, previous)
    return page, make_page(request, io.BytesIO())


def element_text(page: Path, name: str) -> str:
    """Read the text of a script element."""
    found = re.search(rf'<script[^>]* id="{name}">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return found[1]


def page_data(page: Path) -> dict[str, Any]:
    """Read the data object of the page."""
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(element_text(page, "rows"))))
    return data


def files_of(page: Path) -> list[bytes]:
    """Read the picture files of a page."""
    return [base64.b64decode(file) for file in json.loads(element_text(page, "pictures"))]
