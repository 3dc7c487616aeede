"""Each column of a report has its own check."""

from __future__ import annotations

import pytest

from batch.reading.fields import make_checker
from batch.reports.columns import column_names


def test_every_column_of_a_report_has_a_check() -> None:
    make_checker(column_names(("happy",), per_face=True, numbered=True), strict=True)


def test_a_column_without_a_check_is_not_taken_for_a_probability() -> None:
    with pytest.raises(KeyError, match="megapixels"):
        make_checker(("path", "megapixels"), strict=True)
