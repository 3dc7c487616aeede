"""Workbooks: their cells, and reports that do not fit into one."""

from __future__ import annotations

import gc
import io
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from batch.errors import ExitCode, OutputError, UsageError
from batch.records import Answer, Box, Failure, Reason, Row, Source, Stage, Status
from batch.reports import workbook
from batch.reports.columns import column_names
from batch.reports.formats import Format, open_writer
from batch.reports.report import check_output, open_report
from batch.reports.tabular import Column, ColumnKind, Value
from batch.reports.workbook import WorkbookWriter
from tests.conftest import REPOSITORY, Command

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
    names = column_names(LABELS, per_face=False)
    assert list(head.values()) == list(names)
    by_name = {str(head[column]): value for column, value in first.items()}
    assert by_name["path"] == "Größe/Übung 東京.jpg"
    assert (by_name["confidence"], by_name["p_sad"], by_name["width"]) == (0.9, 0.1, 640)
    assert [head[column] for column in second] == ["path", "status", "error"]
    assert list(second.values())[2] == "empty: no bytes <& no end>"
    before = (tmp_path / "r.xlsx").read_bytes()
    write(*rows, to=tmp_path / "r.xlsx")
    assert (tmp_path / "r.xlsx").read_bytes() == before
    with zipfile.ZipFile(tmp_path / "r.xlsx") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert b"1980-01-01" in archive.read("docProps/core.xml")


@pytest.mark.parametrize(
    "name",
    [
        *("=1+1", "http://a/b", "0042", " a ", "_x0041_", "\x01", "\ud800", "\uffff"),
        *("<r><t>a</t></r>", "<r></r>", "<r>&_x0041__x0042_</r>"),  # XlsxWriter's markup
    ],
)
def test_a_text_stays_a_text(name: str) -> None:
    stream = io.BytesIO()
    writer = WorkbookWriter(stream, [Column("path"), Column("n", ColumnKind.INT32)])
    writer.write({"path": name, "n": None})
    writer.finish()
    _, row = read_sheet(stream)
    expected = {"_x0041_": "_x005F_x0041_", **dict.fromkeys("\x01\ud800\uffff", "\ufffd")}
    assert row == {"A": expected.get(name, name)}


def test_columns_beyond_z_have_their_names() -> None:
    stream = io.BytesIO()
    wanted = [Column(f"c{number}", ColumnKind.FLOAT, 1) for number in range(1_010)]
    writer = WorkbookWriter(stream, wanted)
    writer.write({column.name: float(number) for number, column in enumerate(wanted)})
    writer.finish()
    _, row = read_sheet(stream)
    assert (row["Z"], row["AA"], row["ZZ"], row["AAA"]) == (25, 26, 701, 702)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("batch.reports.workbook.MAX_SHEET_ROWS", 3, "no more than 3 rows; name a .csv"),
        ("batch.reports.workbook.MAX_CELL_LENGTH", 10, "more than 10 characters does not fit into"),
        ("zipfile.ZIP64_LIMIT", 3000, f"no more than {workbook.MAX_SHEET_BYTES:,} bytes"),
    ],
)
def test_a_report_that_does_not_fit_is_an_error_and_leaves_the_earlier_one(
    limit: str, value: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.xlsx"
    write(answered("a.jpg"), to=report)
    before = report.read_bytes()
    monkeypatch.setattr(limit, value)
    with pytest.raises(OutputError, match=re.escape(words)):
        write(*(answered(f"{'long' * number}.jpg") for number in range(9)), to=report)
    assert report.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.xlsx"]


def test_a_discarded_workbook_is_silent_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stream = io.BytesIO()
    record: dict[str, Value] = {"path": "a"}
    writer = WorkbookWriter(stream, [Column("path")])
    writer.write(record)
    (temporary,) = tmp_path.iterdir()
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    stream.close()
    del writer
    gc.collect()  # a warning would be an error of this test
    assert not list(tmp_path.iterdir())


# A limit on the size of files stands for a full disk: both refuse what is written.
LIMITED = """
import io, resource, sys
from batch.errors import OutputError
from batch.reports.tabular import Column
from batch.reports.workbook import WorkbookWriter
writer = WorkbookWriter(io.BytesIO(), [Column("path")])
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    for _ in range(int(sys.argv[1])):
        writer.write({"path": "a"})
    print("rows are written")
    writer.finish()
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("rows", [10, 2_000])
def test_a_full_temporary_folder_is_named(rows: int, tmp_path: Path) -> None:
    """The disk is full while rows are written, or when the sheet is assembled."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(rows)],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ("rows are written" in ran.stdout) == (rows == 10)
    assert re.search(r"temporary folder .* can't be written .* TMPDIR at another disk", ran.stdout)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_under_the_report_raises_an_os_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open("/dev/full", "wb", buffering=0) as full:
        writer = WorkbookWriter(full, [Column("path")])
        with pytest.raises(OSError, match="No space left"):
            writer.finish()
    del writer
    gc.collect()  # where zipfile writes its end
    assert not list(tmp_path.iterdir())


def test_a_missing_xlsxwriter_is_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(UsageError, match=r"pip install 'batch-label\[xlsx\]', or name a .csv"):
        check_output(str(tmp_path / "r.xlsx"))
    with pytest.raises(UsageError, match="XlsxWriter"):
        open_writer(Format.XLSX, io.BytesIO(), [Column("path")])


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
    assert "has the format .xlsx, which is only written" in refused.stderr
