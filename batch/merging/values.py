"""Values of a report that is read back, made fit for a report that is written."""

from __future__ import annotations

import math
from collections.abc import Callable

from batch.reports.formats import Kind, Value

Taker = Callable[[Value], Value]


def taker(kind: Kind, from_text: bool) -> Taker:
    """Make what turns a value of a column, as a reader gives it, into one that a writer takes.

    ``from_text`` is for CSV, where all values are texts. What it makes raises ValueError for a
    value that is not of this kind; None is of any kind.
    """
    if kind is Kind.TEXT:
        return _text
    if kind is Kind.REAL:
        return _real_of_text if from_text else _real
    return _whole_of_text if from_text else _whole


def _text(value: Value) -> Value:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{value} is no text")


def _real_of_text(value: Value) -> Value:
    return value if value is None else _finite(float(value), value)


def _whole_of_text(value: Value) -> Value:
    return value if value is None else int(value)


def _real(value: Value) -> Value:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"{value} is no number")
    return _finite(float(value), value)


def _whole(value: Value) -> Value:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{value} is no whole number")


def _finite(number: float, value: Value) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number")
    return number
