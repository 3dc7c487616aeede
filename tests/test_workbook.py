"""Workbooks: what a spreadsheet finds in them, and what does not fit in."""

from __future__ import annotations

import gc
import io
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from batch.errors import ExitCode, OutputError
from batch.records import Answer, Box, Failure, Reason, Row, Source, Stage, Status
from batch.reports import workbook
from batch.reports.columns import columns
from batch.reports.formats import Column, Kind, Value
from batch.reports.report import open_report
from batch.reports.workbook import WorkbookWriter
from tests.conftest import Command

LABELS = ("happy", "sad")
Cell = str | float | None


def read_sheet(file: Path | io.BytesIO) -> list[dict[str, Cell]]:
    """The sheet's rows, by the letters of their columns."""
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            ElementTree.fromstring(archive.read(name))
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    space = {"m": sheet.tag[1:].partition("}")[0]}
    rows = []
    for number, row in enumerate(sheet.iterfind("m:sheetData/m:row", space), start=1):
        assert row.get("r") == str(number)
        cells: dict[str, Cell] = {}
        for cell in row:
            (value,) = cell
            assert value.tag.endswith("}is") or value.tag.endswith("}v"), "and never a formula"
            text = "".join(value.itertext())
            column = (cell.get("r") or "").removesuffix(str(number))
            cells[column] = text if cell.get("t") == "inlineStr" else float(text)
        rows.append(cells)
    return rows


def write(*rows: Row, to: Path) -> None:
    with open_report(str(to), LABELS, False, io.BytesIO()) as report:
        for row in rows:
            report.add(row)
        report.publish()


def answered(path: str) -> Row:
    answer = Answer(Status.OK, "happy", 0.9, {"happy": 0.9, "sad": 0.1}, Box(1, 2, 3, 4, 0.5))
    return Row(Path(path), Status.OK, answer, Source.FACE, (answer,), 640, 480)


def test_a_workbook_has_every_column_and_value(tmp_path: Path) -> None:
    failure = Failure(Path("leer.jpg"), Stage.READ, Reason.EMPTY, "no bytes <& no end>")
    rows = (answered("Größe/Übung 東京.jpg"), Row(failure.path, Status.FAILED, failure=failure))
    write(*rows, to=tmp_path / "r.xlsx")
    head, first, second = read_sheet(tmp_path / "r.xlsx")
    names = columns(LABELS, per_face=False)
    assert list(head.values()) == list(names)
    by_name = {str(head[column]): value for column, value in first.items()}
    assert by_name["path"] == "Größe/Übung 東京.jpg"
    assert (by_name["confidence"], by_name["p_sad"], by_name["width"]) == (0.9, 0.1, 640)
    assert [head[column] for column in second] == ["path", "status", "error"]
    assert list(second.values())[2] == "empty: no bytes <& no end>"
    before = (tmp_path / "r.xlsx").read_bytes()
    write(*rows, to=tmp_path / "r.xlsx")
    assert (tmp_path / "r.xlsx").read_bytes() == before


@pytest.mark.parametrize(
    "name", ["=1+1", "<r><t>a</t></r>", "http://a/b", "0042", "_x0041_", " a ", "\x01", "\ud800"]
)
def test_a_text_stays_a_text(name: str) -> None:
    stream = io.BytesIO()
    writer = WorkbookWriter(stream, [Column("path"), Column("n", Kind.WHOLE)])
    writer.write({"path": name, "n": None})
    writer.finish()
    _, row = read_sheet(stream)
    expected = {"_x0041_": "_x005F_x0041_", "\x01": "\ufffd", "\ud800": "\ufffd"}
    assert row == {"A": expected.get(name, name)}


def test_columns_beyond_z_have_their_names() -> None:
    stream = io.BytesIO()
    wanted = [Column(f"c{number}", Kind.REAL, 1) for number in range(1_010)]
    writer = WorkbookWriter(stream, wanted)
    writer.write({column.name: float(number) for number, column in enumerate(wanted)})
    writer.finish()
    _, row = read_sheet(stream)
    assert (row["Z"], row["AA"], row["ZZ"], row["AAA"]) == (25, 26, 701, 702)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_SHEET_ROWS", 3, "no more than 3 rows; name a .csv"),
        ("MAX_CELL_LENGTH", 10, "more than 10 characters does not fit into a cell"),
        ("MAX_SHEET_BYTES", 3000, "no more than 3,000 bytes"),
    ],
)
def test_what_does_not_fit_is_said_and_leaves_the_earlier_report(
    limit: str, value: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.xlsx"
    write(answered("a.jpg"), to=report)
    before = report.read_bytes()
    monkeypatch.setattr(workbook, limit, value)
    with pytest.raises(OutputError, match=re.escape(words)):
        write(*(answered(f"{'long' * number}.jpg") for number in range(9)), to=report)
    assert report.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.xlsx"]


def test_a_workbook_that_is_given_up_is_silent() -> None:
    stream = io.BytesIO()
    record: dict[str, Value] = {"path": "a"}
    writer = WorkbookWriter(stream, [Column("path")])
    writer.write(record)
    stream.close()
    del writer
    gc.collect()  # where zipfile writes its end; a warning would be an error of this test


def test_the_command_writes_workbooks_and_reads_none(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    ran = command("photos", "-q", "-o", "r.xlsx", "--provider", "cpu")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert [row["B"] for row in read_sheet(tmp_path / "r.xlsx")] == [
        "status", "ok", "no_person", "ok",
    ]  # fmt: skip
    refused = command("diff", "r.xlsx", "r.xlsx")
    assert refused.returncode == ExitCode.USAGE
    assert "is a workbook, which is for people and is not read back" in refused.stderr
