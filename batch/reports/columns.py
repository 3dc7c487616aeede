"""The columns of a report, and the conversion of rows to flat, rounded records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from batch.path_text import cell_text, label_text, path_text
from batch.records import MAX_LABELS, Answer, Reason, Row, Source, Status
from batch.reports.tabular import Column, ColumnKind, Value

if TYPE_CHECKING:
    import pandas as pd

PROBABILITY_DECIMALS = 4
PIXEL_DECIMALS = 1
DEGREE_DECIMALS = 6  # a tenth of a metre
BOX_COLUMNS = ("face_left", "face_top", "face_width", "face_height")
# Start of the column `error` in a row that is kept for a file that no longer exists.
MISSING_PREFIX = "missing:"
# The text in `error`, after the reason, of a truncated photo that was labelled.
SALVAGED_NOTE = "labelled from what is there"


def column_names(
    outputs: Sequence[str], per_face: bool, numbered: bool = False, *, located: bool = False
) -> tuple[str, ...]:
    """List the names of a report's columns; the arguments are those of ``make_columns``."""
    columns = make_columns(outputs, per_face, numbered, located=located)
    return tuple(column.name for column in columns)


def make_columns(
    outputs: Sequence[str], per_face: bool, numbered: bool = False, *, located: bool = False
) -> tuple[Column, ...]:
    """List the columns of a report.

    Args:
        outputs: the model's labels, then its abstain outputs, in the model's order.
        per_face: whether the report has one row per face.
        numbered: whether the report is of a shard, which has the column `position`.
        located: whether the report has the photos' coordinates.
    """
    place = ("latitude", "longitude") if located else ()
    return (
        Column("path"),
        Column("status"),
        Column("label"),
        Column("confidence", ColumnKind.FLOAT, PROBABILITY_DECIMALS),
        *(
            Column(name, ColumnKind.FLOAT, PROBABILITY_DECIMALS)
            for name in map(_probability_column, outputs)
        ),
        Column("source"),
        Column("faces", ColumnKind.INT32),
        *((Column("face", ColumnKind.INT32),) if per_face else ()),
        *(Column(name, ColumnKind.FLOAT, PIXEL_DECIMALS) for name in BOX_COLUMNS),
        Column("face_score", ColumnKind.FLOAT, PROBABILITY_DECIMALS),
        Column("width", ColumnKind.INT32),
        Column("height", ColumnKind.INT32),
        Column("sha256"),
        Column("taken"),
        Column("camera"),
        *(Column(name, ColumnKind.FLOAT, DEGREE_DECIMALS) for name in place),
        Column("error"),
        *((Column("position", ColumnKind.INT64),) if numbered else ()),
    )


def flatten_row(
    row: Row,
    outputs: Sequence[str],
    per_face: bool,
    numbered: bool = False,
    *,
    located: bool = False,
) -> Iterator[dict[str, Value]]:
    """Flatten a row into one record, or one per face, with the keys of ``column_names``.

    Confidence, probabilities and score have 4 decimals, boxes (pixels) have 1, coordinates 6. With
    ``per_face`` each face has its own status, by the face model alone. A photo without faces has
    one record, and so has one with the status `no_person`, whose detected faces are false
    positives.
    """
    for record in _flatten(row, outputs, per_face):
        if located:
            latitude, longitude = row.capture.latitude, row.capture.longitude
            record["latitude"] = None if latitude is None else _round(latitude, DEGREE_DECIMALS)
            record["longitude"] = None if longitude is None else _round(longitude, DEGREE_DECIMALS)
        if numbered:
            record["position"] = row.position
        yield record


def _flatten(row: Row, outputs: Sequence[str], per_face: bool) -> Iterator[dict[str, Value]]:
    if not has_face_records(row, per_face):
        record = _to_record(row, row.status, row.answer, outputs)
        yield record | {"face": None} if per_face else record
        return
    for number, answer in enumerate(row.faces, start=1):
        source = Source.REVIEW if answer.reviewed else Source.FACE
        record = _to_record(row, answer.status, answer, outputs)
        yield record | {"source": source.value, "face": number}


def has_face_records(row: Row, per_face: bool) -> bool:
    """Tell whether a row becomes one record per face instead of one about the photo."""
    # A review may have changed the status `no_person`, but the faces stay false positives.
    about_photo = row.status is Status.NO_PERSON or row.source is Source.REVIEW
    return per_face and bool(row.faces) and not about_photo


@lru_cache(maxsize=2 * MAX_LABELS)
def _probability_column(output: str) -> str:
    return f"p_{cell_text(output)}"


@lru_cache(maxsize=2 * MAX_LABELS)
def _label_cell(label: str) -> str:
    return label_text(label)


def _to_record(
    row: Row, status: Status, answer: Answer | None, outputs: Sequence[str]
) -> dict[str, Value]:
    box = answer.box if answer else None
    share, pixel = PROBABILITY_DECIMALS, PIXEL_DECIMALS
    record: dict[str, Value] = {
        "path": path_text(row.path),
        "status": status.value,
        "label": _label_cell(answer.label) if answer and answer.label is not None else None,
        "confidence": _round(answer.confidence, share) if answer else None,
        "source": row.source.value if row.source else None,
        # The faces of a file that failed are not counted.
        "faces": None if row.failure else len(row.faces),
        "face_left": _round(box.left, pixel) if box else None,
        "face_top": _round(box.top, pixel) if box else None,
        "face_width": _round(box.width, pixel) if box else None,
        "face_height": _round(box.height, pixel) if box else None,
        "face_score": _round(box.score, share) if box else None,
        "width": row.width,
        "height": row.height,
        "sha256": row.sha256.hex() if row.sha256 else None,
        "taken": row.capture.taken,
        "camera": label_text(row.capture.camera) if row.capture.camera else None,
        "error": _error_text(row),
    }
    # A face model may lack outputs of the whole-photo model.
    probabilities = answer.probabilities if answer else {}
    for name in outputs:
        value = probabilities.get(name)
        record[_probability_column(name)] = None if value is None else _round(value, share)
    return record


def _round(value: float, decimals: int) -> float:
    # Adding zero turns -0.0 into 0.0.
    return round(float(value), decimals) + 0.0


def _error_text(row: Row) -> str | None:
    if not (row.missing or row.failure or row.salvaged):
        return None
    parts = [f"{MISSING_PREFIX} not found in this run"] if row.missing else []
    if row.failure:
        parts.append(f"{row.failure.reason}: {row.failure.detail}")
    elif row.salvaged:
        parts.append(f"{Reason.TRUNCATED}: {SALVAGED_NOTE} ({row.salvaged})")
    return cell_text("; ".join(parts)) or None


def is_missing(error: str | None) -> bool:
    """Tell from the column `error` of a row whether it was kept for a missing photo."""
    return error is not None and error.startswith(MISSING_PREFIX)


def is_salvaged(error: str | None) -> bool:
    """Tell from the column `error` of a row that did not fail whether its photo was truncated."""
    return error is not None and SALVAGED_NOTE in error


def parse_reason(error: str | None) -> str:
    """Read the reason from the column `error` of a row that failed."""
    text = error or ""
    if is_missing(error):
        text = text.partition("; ")[2]
    return text.partition(":")[0]


def make_frame(rows: Iterable[Row], per_face: bool) -> pd.DataFrame:
    """Collect rows in a data frame with the columns of a report.

    Args:
        rows: the rows; the first one with an answer names the labels and abstain outputs.
        per_face: whether to make one record per face instead of one per photo.
    """
    import pandas as pd

    rows = list(rows)
    answers = (row.answer for row in rows if row.answer is not None)
    outputs = tuple(next((answer.probabilities for answer in answers), ()))
    records = (record for row in rows for record in flatten_row(row, outputs, per_face))
    return pd.DataFrame.from_records(records, columns=list(column_names(outputs, per_face)))
