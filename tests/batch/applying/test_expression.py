"""SQL expressions over the columns of a report."""

from __future__ import annotations

import pytest

from batch.applying.expression import Condition
from batch.errors import UsageError

COLUMNS = ("path", "label", "confidence", 'p_it\'s "x"')
ROW = ("2026/a.jpg", "happy", 0.9, 0.25)


@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("confidence > 0.8", True),
        ("confidence > 0.95", False),
        ("label = 'happy' AND path LIKE '2026/%'", True),
        ("LABEL GLOB 'h*'", True),
        ('"p_it\'s ""x""" < 0.5', True),
        ("label IN ('sad', 'happy') -- a comment", True),
        ("NULL", False),
        ("label", False),  # a text that is no number is false in SQL
        ("CASE WHEN confidence IS NULL THEN 1 ELSE 0 END", False),
    ],
)
def test_an_expression_is_true_or_not(text: str, is_true: bool) -> None:
    assert Condition(text, COLUMNS).matches(ROW) is is_true


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lable = 'happy'", "no such column: lable"),
        # SQLite takes an unknown name in double quotes for text.
        ("\"lable\" = 'happy'", 'no such column: "lable"'),
        ("confidence >", "syntax error"),
        ("1); DROP TABLE x; --", "one statement|syntax error"),
        ("ATTACH 'x.db' AS y", "syntax error"),
        ("load_extension('x')", "not authorized"),
        (
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT max(i) FROM n)",
            "not authorized",
        ),
        ("zeroblob(100000000)", "too big"),
        ("abs(-9223372036854775807 - 1)", "overflow"),
        ("", "syntax error"),
    ],
)
def test_an_expression_that_fails_is_refused_with_columns_and_an_example(
    text: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        Condition(text, COLUMNS)
    assert "--where" in refused.value.problem
    assert "confidence > 0.95" in refused.value.remedy
    assert "path, label, confidence" in refused.value.remedy


def test_an_expression_that_fails_for_a_row_is_refused() -> None:
    condition = Condition("json_extract(label, '$.x') = 1", COLUMNS)

    with pytest.raises(UsageError, match="malformed JSON"):
        condition.matches(ROW)


def test_an_expression_can_write_no_file(tmp_path: object) -> None:
    with pytest.raises(UsageError):
        Condition(f"(SELECT 1) INTO OUTFILE '{tmp_path}'", COLUMNS)
    with pytest.raises(UsageError):
        Condition(f"1) FROM (SELECT 1); VACUUM INTO '{tmp_path}/x'; --", COLUMNS)


@pytest.mark.parametrize("text", ["label = happy", 'label = "happy"'])
def test_text_without_single_quotes_gets_a_hint(text: str) -> None:
    with pytest.raises(UsageError, match="no such column") as refused:
        Condition(text, ("path", "label"))
    assert "text stands in single quotes ('happy')" in refused.value.remedy
    with pytest.raises(UsageError, match="syntax error") as refused:
        Condition("label =", ("path", "label"))
    assert "single quotes" not in refused.value.remedy
