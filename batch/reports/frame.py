"""Rows as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from batch.records import Row
from batch.reports.columns import columns, records_of


def frame_of(rows: Iterable[Row], per_face: bool) -> pd.DataFrame:
    """Collect rows; labels and abstain outputs are those of the first row that has an answer."""
    rows = list(rows)
    answers = (row.answer for row in rows if row.answer is not None)
    outputs = tuple(next((answer.probabilities for answer in answers), ()))
    records = (record for row in rows for record in records_of(row, outputs, per_face))
    return pd.DataFrame.from_records(records, columns=list(columns(outputs, per_face)))
