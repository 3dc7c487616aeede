"""Validation of the values of reports that are read back, column by column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from batch.errors import ReportError
from batch.path_text import CONTROLS, UNPRINTABLE, printable_text
from batch.records import MAX_LABELS, Source, Status
from batch.reports.readers import MAX_LINE_BYTES, REMEDY, record_error
from batch.reports.tabular import RecordReader, Value
from batch.row_json import MAX_PHOTO_SIDE, Latitude, Longitude, TakenText

LAST_POSITION = 2**63 - 2

Text = Annotated[str, Meta(max_length=MAX_LINE_BYTES)]
NonEmptyText = Annotated[str, Meta(min_length=1, max_length=MAX_LINE_BYTES)]
Sha256Text = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Meta(ge=0, le=1)]
PixelNumber = Annotated[float, Meta(ge=-MAX_PHOTO_SIDE, le=MAX_PHOTO_SIDE)]
Count = Annotated[int, Meta(ge=0, le=MAX_PHOTO_SIDE)]
Ordinal = Annotated[int, Meta(ge=1, le=MAX_PHOTO_SIDE)]
Position = Annotated[int, Meta(ge=1, le=LAST_POSITION)]

_PIXELS = (PixelNumber | None, f"a number of pixels, up to {MAX_PHOTO_SIDE}")
_SHARE = (Share | None, "a number between 0 and 1")
_WHOLE = (Count | None, f"a whole number from 0 to {MAX_PHOTO_SIDE}")
# The type of each column's values, and that type in words. A report may lack some of them. The
# columns `p_<label>` have the type ``_SHARE``.
_FIELDS: dict[str, tuple[Any, str]] = {
    "path": (NonEmptyText, "a printable path"),
    "status": (Literal[*map(str, Status)], f"one of {', '.join(Status)}"),
    "label": (NonEmptyText | None, "a printable label"),
    "confidence": _SHARE,
    "source": (Literal[*map(str, Source)] | None, f"one of {', '.join(Source)}"),
    "faces": _WHOLE,
    "face": (Ordinal | None, f"a whole number from 1 to {MAX_PHOTO_SIDE}"),
    "face_left": _PIXELS,
    "face_top": _PIXELS,
    "face_width": _PIXELS,
    "face_height": _PIXELS,
    "face_score": _SHARE,
    "width": _WHOLE,
    "height": _WHOLE,
    "sha256": (Sha256Text | None, "a SHA-256 in 64 hexadecimal digits"),
    "taken": (TakenText | None, "a time such as 2026-01-31T18:04:05"),
    "camera": (NonEmptyText | None, "a printable name"),
    "latitude": (Latitude | None, "a number of degrees from -90 to 90"),
    "longitude": (Longitude | None, "a number of degrees from -180 to 180"),
    "error": (Text | None, "a printable text"),
    "position": (Position | None, f"a whole number from 1 to {LAST_POSITION}"),
}
# Characters that text may not contain.
_FORBIDDEN = {"path": re.compile(f"[{CONTROLS}]"), "label": re.compile(f"[{UNPRINTABLE}]")}
_FORBIDDEN["error"] = _FORBIDDEN["path"]
_FORBIDDEN["camera"] = _FORBIDDEN["label"]
_MAX_SHOWN_CHARS = 100  # characters of a value in a message
_INDEX = re.compile(r"\$\[(\d+)\]")

Check = Callable[[tuple[Value, ...]], tuple[Any, ...]]


def is_known_column(name: str) -> bool:
    """Return whether a column is one whose values can be checked; readers ignore others."""
    return name in _FIELDS or name.startswith("p_")


def read_checked_records(
    reader: RecordReader, wanted: Sequence[str]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Read records as ``reader.records`` does, with values converted to their columns' types.

    Raises:
        ReportError: a record is damaged, or there are more labels than a model can have.
    """
    # Not strict: other programs may write numbers as text, or floats as integers.
    check = make_checker(tuple(wanted), strict=False)
    at, labels = wanted.index("label"), set[str]()
    for number, values in reader.records(wanted):
        try:
            record = check(values)
        except ValueError as error:
            raise record_error(reader, number, str(error)) from error
        if record[at] is not None:
            labels.add(record[at])
        if len(labels) > MAX_LABELS:
            raise ReportError(f"{reader.display_name} has more than {MAX_LABELS} labels", REMEDY)
        yield number, record


@lru_cache(maxsize=64)
def make_checker(columns: tuple[str, ...], strict: bool) -> Check:
    """Make a function that converts the values of columns to their types.

    Args:
        columns: the columns' names.
        strict: whether to refuse to convert between text, integers and floats; False for CSV.

    Returns:
        A function that raises ValueError with the column and the value.
    """
    fields = [_SHARE if name.startswith("p_") else _FIELDS[name] for name in columns]
    # msgspec inspects the types of a struct once, but those of a tuple for every record.
    names = [(f"column_{number}", kind) for number, (kind, _) in enumerate(fields)]
    record = msgspec.defstruct("Record", names, array_like=True, gc=False)
    texts = [(at, _FORBIDDEN[name]) for at, name in enumerate(columns) if name in _FORBIDDEN]

    def check(values: tuple[Value, ...]) -> tuple[Any, ...]:
        try:
            checked = msgspec.structs.astuple(msgspec.convert(values, record, strict=strict))
        except (msgspec.ValidationError, RecursionError) as error:
            found = _INDEX.search(str(error))
            raise make_error(int(found[1]) if found else 0, values) from error
        for at, forbidden in texts:
            text = checked[at]
            # isprintable() is fast and true for nearly all text.
            if text is not None and not text.isprintable() and forbidden.search(text):
                raise make_error(at, values)
        return checked

    def make_error(at: int, values: tuple[Value, ...]) -> ValueError:
        shown = printable_text(str(values[at])[:_MAX_SHOWN_CHARS])
        return ValueError(f"{columns[at]} {shown} is not {fields[at][1]}")

    return check
