"""Reports read back: every value round-trips, and damage is named."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from batch.errors import ExitCode, ReportError, UsageError
from batch.reading.saved import SavedReport, SavedRow, open_saved_report
from batch.reports.formats import READABLE_FORMATS, Format
from batch.reports.readers import MAX_LINE_BYTES, CsvReader, ParquetReader
from batch.reports.tabular import ROW_GROUP_ROWS, Column
from batch.reports.writers import ParquetWriter
from tests.batch.reports.test_report import (
    ABSTAINED,
    FAILED,
    LABELLED,
    NO_FACE,
    OUTPUTS,
    many,
    written,
)

ROWS = [
    SavedRow("two.jpg", "ok", "happy", 0.75, digest=LABELLED.sha256),
    SavedRow("tree.jpg", "no_face"),
    SavedRow("bad\\n.jpg", "failed"),
]
FACES = [
    SavedRow("two.jpg", "ok", "happy", 0.9123, face=1, digest=LABELLED.sha256),
    SavedRow("two.jpg", "unsure", "sad", 0.5432, face=2, digest=LABELLED.sha256),
    *ROWS[1:],
]
HEADER = "path,status,label,confidence,p_happy,p_sad,error\n"
GOOD = HEADER + "a.jpg,ok,happy,0.9,0.9,0.1,\n"
# As written with a model without abstain outputs.
OLD_COLUMNS = (
    "path,status,label,confidence,p_happy,p_sad,source,faces,"
    "face_left,face_top,face_width,face_height,face_score,width,height,error"
)
OLD_ROWS = (
    ("a.jpg", "ok", "happy", 0.9, 0.9, 0.1, "face", 1, 1.0, 2.0, 30.0, 40.0, 0.95, 640, 480, None),
    ("b.jpg", "no_face", *[None] * 5, 0, *[None] * 5, 640, 480, None),
)
OLD_REPORTS = {
    ".csv": "\n".join(
        [
            OLD_COLUMNS,
            *(",".join("" if cell is None else str(cell) for cell in row) for row in OLD_ROWS),
            "",
        ]
    ),
    ".jsonl": "".join(
        json.dumps(dict(zip(OLD_COLUMNS.split(","), row, strict=True))) + "\n" for row in OLD_ROWS
    ),
}


def read(report: Path) -> list[SavedRow]:
    with open_saved_report(report) as saved:
        return list(saved.rows())


def saved_from(folder: Path, text: str | bytes, name: str = "r.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_every_format_round_trips(form: Format, tmp_path: Path) -> None:
    report = tmp_path / f"r{form}"
    written(report, (LABELLED, NO_FACE, FAILED))
    assert read(report) == ROWS
    with open_saved_report(report) as saved:
        assert saved.labels == ("happy", "sad")
        assert not saved.per_face
    written(report, (LABELLED, NO_FACE, FAILED), per_face=True)
    assert read(report) == FACES
    with open_saved_report(report) as saved:
        assert saved.per_face


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_a_row_without_a_label_round_trips(form: Format, tmp_path: Path) -> None:
    report = tmp_path / f"r{form}"
    written(report, ABSTAINED, outputs=OUTPUTS)
    assert read(report) == [
        SavedRow("blank.jpg", "neither", None, 0.7),
        SavedRow("cup.jpg", "no_person", None, 0.91),
    ]
    written(report, ABSTAINED, per_face=True, outputs=OUTPUTS)
    faces = [SavedRow("blank.jpg", "neither", None, 0.5, face=n) for n in (1, 2)]
    assert read(report) == [*faces, SavedRow("cup.jpg", "no_person", None, 0.91)]
    with open_saved_report(report) as saved:
        assert saved.labels == ("happy", "sad"), "abstain outputs are no labels"


@pytest.mark.parametrize("form", [".csv", ".jsonl"])
def test_a_report_of_a_model_without_abstain_outputs_is_read(form: str, tmp_path: Path) -> None:
    report = saved_from(tmp_path, OLD_REPORTS[form], f"r{form}")
    assert read(report) == [SavedRow("a.jpg", "ok", "happy", 0.9), SavedRow("b.jpg", "no_face")]
    with open_saved_report(report) as saved:
        assert saved.labels == ("happy", "sad")


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_a_report_without_rows_is_read(form: Format, tmp_path: Path) -> None:
    report = tmp_path / f"r{form}"
    written(report, ())
    assert read(report) == []
    with open_saved_report(report) as saved:
        assert saved.labels == (None if form is Format.JSONL else ("happy", "sad"))


def test_the_columns_may_come_in_any_order_and_with_others(tmp_path: Path) -> None:
    text = "camera,error,confidence,label,status,path\nEOS,,0.5,sad,unsure,a.jpg\n"
    assert read(saved_from(tmp_path, text)) == [SavedRow("a.jpg", "unsure", "sad", 0.5)]


def test_a_spreadsheet_s_csv_is_read(tmp_path: Path) -> None:
    text = "\ufeff" + GOOD.replace("\n", "\r\n").replace("a.jpg", '"a, b.jpg"')
    assert read(saved_from(tmp_path, text)) == [SavedRow("a, b.jpg", "ok", "happy", 0.9)]


def test_a_row_kept_for_a_missing_photo_is_marked(tmp_path: Path) -> None:
    text = GOOD + "b.jpg,ok,sad,0.8,0.2,0.8,missing: gone since the last run\n"
    assert [row.missing for row in read(saved_from(tmp_path, text))] == [False, True]


def test_a_pipe_is_read_as_csv(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(GOOD,))
    writer.start()
    try:
        assert read(pipe) == [SavedRow("a.jpg", "ok", "happy", 0.9)]
    finally:
        writer.join()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("b.jpg,ok,happy,0.9", "line 3 is damaged (it has 4 fields, not 7)"),
        ("", "line 3 is damaged (it has 0 fields, not 7)"),
        ("b.jpg,fine,happy,0.9,0.9,0.1,", "line 3 is damaged (status fine is not one of ok,"),
        (",ok,happy,0.9,0.9,0.1,", "line 3 is damaged (path None is not a printable path)"),
        (
            "b.jpg,ok,happy,much,0.9,0.1,",
            "line 3 is damaged (confidence much is not a number between",
        ),
        (
            "b.jpg,ok,happy,nan,0.9,0.1,",
            "line 3 is damaged (confidence nan is not a number between",
        ),
        (
            "b.jpg,ok,happy,1.5,0.9,0.1,",
            "line 3 is damaged (confidence 1.5 is not a number between",
        ),
        ('b.jpg,ok,"happy,0.9,0.9,0.1,', "line 3 is damaged (unexpected end of data)"),
    ],
)
def test_a_damaged_line_of_csv_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ReportError) as caught:
        read(saved_from(tmp_path, GOOD + line + "\n"))
    assert f"{tmp_path}/r.csv, {words}" in str(caught.value)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


def test_bytes_that_are_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"line 3 is damaged \(not UTF-8\)"):
        read(saved_from(tmp_path, GOOD.encode() + b"\xff.jpg,ok,happy,0.9,0.9,0.1,\n"))


def test_a_file_without_lines_is_not_read_whole(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    with report.open("wb") as file:
        file.write(GOOD.encode())
        file.truncate(64 * MAX_LINE_BYTES)
    tracemalloc.start()
    with pytest.raises(ReportError, match=f"line 3 is damaged .longer than {MAX_LINE_BYTES} bytes"):
        read(report)
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("face", ["0", "-1", "1.5", "first"])
def test_a_damaged_face_number_is_named(tmp_path: Path, face: str) -> None:
    text = f"path,status,label,confidence,face,error\na.jpg,ok,happy,0.9,{face},\n"
    with pytest.raises(ReportError, match="line 2"):
        read(saved_from(tmp_path, text))


RECORD = {"path": "a.jpg", "status": "ok", "label": "sad", "confidence": 0.5, "error": None}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"path": "b.j', "not JSON: "),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "not JSON: "),
        ('{"path": "b.jpg"}', "its keys are not those of the first line"),
        (json.dumps(RECORD | {"path": 7}), "path 7 is not a printable path"),
        (json.dumps(RECORD | {"path": "\ud800"}), "not JSON: "),
        (json.dumps(RECORD | {"confidence": float("nan")}), "not JSON: "),
        (json.dumps(RECORD | {"confidence": [1]}), "confidence [1] is not a number"),
        (json.dumps(RECORD | {"status": ["ok"]}), "status ['ok'] is not one of"),
    ],
)
def test_a_damaged_line_of_json_is_named(tmp_path: Path, line: str, why: str) -> None:
    text = f"{json.dumps(RECORD)}\n{line}\n"
    with pytest.raises(ReportError) as caught:
        read(saved_from(tmp_path, text, "r.jsonl"))
    assert "r.jsonl, line 2 is damaged" in str(caught.value)
    assert why in str(caught.value)


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    written(whole, many(100))
    data = whole.read_bytes()
    with pytest.raises(ReportError, match=r"cut.parquet is damaged \(not Parquet"):
        read(saved_from(tmp_path, data[:-100], "cut.parquet"))
    # Amid the first column's data: where it lies the footer tells, and that is whole.
    holed = data[:8] + bytes(len(data) // 8) + data[8 + len(data) // 8 :]
    with pytest.raises(ReportError, match=r"holed\.parquet is damaged"):
        read(saved_from(tmp_path, holed, "holed.parquet"))


def test_a_damaged_row_of_parquet_is_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [RECORD, RECORD | {"path": "b.jpg", "status": "fine"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    with pytest.raises(ReportError, match=r"r\.parquet, row 2 is damaged \(status fine"):
        read(tmp_path / "r.parquet")


def test_parquet_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "r.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"batch-label\[parquet\]"):
        read(tmp_path / "r.parquet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["has no columns in its first line"]),
        (f"\n{GOOD}", ["has no columns in its first line"]),
        ("name,size\na,1\n", ["not a report", "lacks path, status", "its columns are name, size"]),
        ("path,status,label,confidence\na,ok,x,1\n", ["lacks error"]),
        (GOOD.replace("p_sad", "path"), ["has path twice"]),
        (b"\x89PNG\r\n\x1a\n\x00", ["line 1", "not UTF-8"]),
    ],
)
def test_a_file_that_is_not_a_report_is_refused(
    tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    with pytest.raises(ReportError) as caught:
        read(saved_from(tmp_path, text))
    for word in ("r.csv", *words):
        assert word in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.csv", "No such file"),
        ("folder.csv", "is not a dataset, or was never finished: it has no _SUCCESS"),
        ("notes.txt", "no suffix that names a format"),
    ],
)
def test_a_report_that_can_t_be_opened_has_the_reason(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "notes.txt").write_text(GOOD)
    with pytest.raises(ReportError) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_reading_streams(form: Format, tmp_path: Path) -> None:
    report = tmp_path / f"r{form}"

    def peak(count: int) -> int:
        written(report, many(count))
        tracemalloc.start()
        with open_saved_report(report) as saved:
            assert sum(1 for _ in saved.rows()) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)  # what is imported and cached on the first time
    few = 2 * ROW_GROUP_ROWS  # as many as are held at the same time
    assert peak(2 * few) < peak(few) + 500_000


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    report = saved_from(tmp_path, GOOD + "damaged\n")
    with open_saved_report(report) as saved:
        assert isinstance(saved, SavedReport)
        assert next(saved.rows()).path == "a.jpg"


def test_time_grows_with_the_columns_and_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch.reports.readers.MAX_COLUMNS", 100_000)
    names = [f"p_{number}" for number in range(20_000)]
    reader = CsvReader(io.BytesIO(f"{','.join(names)}\n{',' * 19_999}\n".encode()), "it")
    started = time.process_time()
    assert len(list(reader.records(names))) == 1
    assert time.process_time() - started < 2  # which would be many times that


def test_a_small_file_that_waits_holds_its_rows_alone() -> None:
    pa = pytest.importorskip("pyarrow")
    names = [f"p_{number}" for number in range(18)]
    file = io.BytesIO()
    writer = ParquetWriter(file, [Column(name) for name in names])
    for number in range(20):
        writer.write(dict.fromkeys(names, f"{number}"))
    writer.finish()
    before, waiting = pa.total_allocated_bytes(), []
    for _ in range(20):
        records = ParquetReader(io.BytesIO(file.getvalue()), "it", 128).records(names)
        next(records)
        waiting.append(records)
    assert (pa.total_allocated_bytes() - before) / len(waiting) < 20_000
