"""Rows of a page as columns, and their digests, in as few bytes as possible.

``data.js`` reads them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from batch.page.gather import PageRow
from batch.records import Source, Status
from batch.reports.columns import PIXEL_DECIMALS, PROBABILITY_DECIMALS

# Length of a SHA-256 in base64 without its padding.
DIGEST_CHARS = 43
_TIME_CHARS = len("2026-01-31T18:04:05")


def split_path(row: PageRow) -> tuple[str, str]:
    """Split the path of a row into the folder, up to its last slash, and the name."""
    folder, slash, name = row.saved.path.rpartition("/")
    return f"{folder}{slash}", name


def list_folders(rows: Iterable[PageRow]) -> list[str]:
    """List the different folders of rows in the order in which they appear."""
    return list(dict.fromkeys(split_path(row)[0] for row in rows))


def pack_columns(rows: Sequence[PageRow], labels: Sequence[str]) -> dict[str, Any]:
    """Convert rows to columns; -1, 0 or an empty value means that a row has none."""
    numbers = {label: number for number, label in enumerate(labels)}
    split = [split_path(row) for row in rows]
    folders = {folder: number for number, folder in enumerate(list_folders(rows))}
    cameras, camera = _number_texts(row.camera for row in rows)
    offsets, offset = _number_texts((row.taken or "")[_TIME_CHARS:] for row in rows)
    return {
        "folder": [folders[folder] for folder, _ in split],
        "folders": list(folders),
        "name": [name for _, name in split],
        "status": [list(Status).index(Status(row.saved.status)) for row in rows],
        "label": [-1 if row.saved.label is None else numbers[row.saved.label] for row in rows],
        "confidence": [pack_confidence(row.saved.confidence) for row in rows],
        "source": [
            -1 if row.source is None else list(Source).index(Source(row.source)) for row in rows
        ],
        "face": [row.saved.face or 0 for row in rows],
        "faces": [row.faces or 0 for row in rows],
        "box": [
            [] if row.box is None else [round(side * 10**PIXEL_DECIMALS) for side in row.box]
            for row in rows
        ],
        "taken": _pack_times(rows),
        "offset": offset,
        "offsets": offsets,
        "camera": camera,
        "cameras": cameras,
        "missing": [index for index, row in enumerate(rows) if row.saved.missing],
        "error": [[index, row.error] for index, row in enumerate(rows) if row.error],
    }


def pack_confidence(confidence: float | None) -> int:
    """Convert a confidence to an integer; -1 means none."""
    return -1 if confidence is None else round(confidence * 10**PROBABILITY_DECIMALS)


def pack_digests(rows: Sequence[PageRow]) -> str:
    """Join the digests of the photos in base64, without padding; empty if no row has one.

    Adjacent rows with the same path are faces of one photo and share a digest. Digests do not
    compress, so they are not among the columns: the script reads one only when it needs it.
    """
    if not any(row.sha256 for row in rows):
        return ""
    return "".join(
        b64encode(row.sha256).decode().rstrip("=") if row.sha256 else "." * DIGEST_CHARS
        for index, row in enumerate(rows)
        if not index or rows[index - 1].saved.path != row.saved.path
    )


def _number_texts(texts: Iterable[str | None]) -> tuple[list[str], list[int]]:
    """List the different texts, the empty one first, and the number of each row's text."""
    numbers = {"": 0}
    column = [numbers.setdefault(text or "", len(numbers)) for text in texts]
    return list(numbers), column


def _pack_times(rows: Sequence[PageRow]) -> list[int | None]:
    """List when photos were taken, in seconds since the last row with a time; None if unknown."""
    column: list[int | None] = []
    last = 0
    for row in rows:
        seconds = _parse_seconds(row.taken)
        column.append(None if seconds is None else seconds - last)
        last = last if seconds is None else seconds
    return column


def _parse_seconds(taken: str | None) -> int | None:
    """Parse the local time of a camera into seconds since 1970; None if it is not a date."""
    try:
        moment = datetime.fromisoformat((taken or "")[:_TIME_CHARS])
    except ValueError:
        return None
    return round(moment.replace(tzinfo=UTC).timestamp())
