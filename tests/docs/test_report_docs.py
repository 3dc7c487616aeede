"""docs/report.md says what the code does: its tables and its example are checked."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest

from batch.errors import EXIT_MEANINGS
from batch.records import Abstain, Reason, Row, Status
from batch.reports.columns import column_names
from batch.reports.dataset import DATASET_SUFFIX, MAX_ROWS_PER_FILE, is_dataset_name
from batch.reports.formats import Format
from batch.reports.report import open_report
from batch.reports.tabular import ROW_GROUP_ROWS
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs" / "report.md"
TEXT = DOCS.read_text(encoding="utf-8")


def section(title: str) -> str:
    _, found, rest = TEXT.partition(f"\n## {title}\n")
    assert found, f"no section {title}"
    return rest.partition("\n## ")[0]


def table(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    return cells[2:]


def test_the_columns() -> None:
    shown = tuple(row[0] for row in table("Columns"))
    every = column_names(("<label>", *Abstain), per_face=True, numbered=True, located=True)
    assert shown == every
    usual = set(column_names((), per_face=False))
    per_face = set(column_names((), per_face=True)) - usual
    numbered = set(column_names((), per_face=False, numbered=True)) - usual
    located = set(column_names((), per_face=False, located=True)) - usual
    options = (("--per-face", per_face), ("--shard", numbered), ("--with-location", located))
    for option, alone in options:
        marked = {row[0] for row in table("Columns") if f"Only with `{option}`" in row[2]}
        assert marked == alone


def test_the_statuses() -> None:
    assert [row[0] for row in table("Statuses")] == [status.value for status in Status]


def test_the_reasons() -> None:
    assert [row[0] for row in table("Reasons")] == [reason.value for reason in Reason]


def test_the_formats() -> None:
    assert [row[0] for row in table("Formats")] == [
        *(form.value for form in Format),
        DATASET_SUFFIX,
    ]
    assert f"row groups of {ROW_GROUP_ROWS} rows" in section("Formats")


def test_datasets() -> None:
    text = " ".join(section("Datasets").split())
    assert f"at most {MAX_ROWS_PER_FILE} rows" in text
    shown = re.findall(r"^ +results/(\S+)$", section("Datasets"), re.MULTILINE)
    assert len(shown) == 3
    assert all(is_dataset_name(name) for name in shown)


def test_the_exit_codes() -> None:
    codes = {int(code): meaning for code, meaning in table("Exit codes")}
    assert codes == {int(code): meaning for code, meaning in EXIT_MEANINGS.items()}


def test_no_cell_is_empty() -> None:
    for title in ("Columns", "Statuses", "Reasons", "Paths", "Formats", "Exit codes"):
        assert all(all(row) for row in table(title)), title


def test_the_example_reads_a_real_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [Path("a.jpg"), Path(os.fsdecode(b"=\xff\n\\.jpg"))]
    monkeypatch.chdir(tmp_path)
    with open_report("results.csv", ("happy", "sad"), False, io.BytesIO()) as report:
        for path in paths:
            report.add(Row(path, Status.NO_FACE))
        report.publish()
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(examples[0], names)
    assert names["paths"] == paths
    report_of_labels = Path("results.csv").read_text().replace("no_face,,", "ok,NA,")
    Path("results.csv").write_text(report_of_labels)
    exec(examples[1], names)
    frame = names["frame"]
    assert list(frame["label"]) == ["NA", "NA"]
    assert frame["confidence"].isna().all()
    assert frame["error"].isna().all()
