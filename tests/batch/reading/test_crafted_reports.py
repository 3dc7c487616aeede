"""Crafted reports: refused in one line, in bounded memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from batch.errors import BatchLabelError, ExitCode, ReportError
from batch.merging.shard_report import open_shard_report
from batch.models.contract import MAX_NAME_CHARS
from batch.page.make import PageJob, make_page
from batch.path_text import path_text
from batch.reading.saved import SavedRow, open_saved_report
from batch.records import (
    MAX_DETAIL_CHARS,
    MAX_LABELS,
    Answer,
    Box,
    Failure,
    Reason,
    Row,
    Source,
    Stage,
    Status,
)
from batch.reports import readers
from batch.reports.formats import READABLE_FORMATS, Format
from batch.reports.readers import MAX_COLUMNS, MAX_LINE_BYTES
from batch.reports.report import open_report
from tests.batch.reports.test_report import written
from tests.conftest import REPOSITORY, Command

COLUMNS = (
    *("path", "status", "label", "confidence", "p_happy", "p_sad", "source", "faces", "face"),
    *("face_left", "face_top", "face_width", "face_height", "face_score", "width", "height"),
    *("sha256", "taken", "camera", "error", "position"),
)
VALUES = (
    *("a.jpg", "ok", "happy", 0.9, 0.9, 0.1, "face", 1, 1),
    *(1.5, 2.5, 30.0, 40.0, 0.95, 640, 480),
    *("0f" * 32, "2026-01-31T18:04:05+01:00", "Canon EOS R5", None, 1),
)
GOOD = dict(zip(COLUMNS, VALUES, strict=True))
LABELLED = "path,status,label,confidence,error\n"


def refusal(report: Path) -> str:
    with pytest.raises(ReportError) as caught, open_saved_report(report) as saved:
        for _ in saved.rows():
            pass
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert said.isprintable()
    assert len(said) < 2000
    return said


@pytest.fixture
def memory() -> Iterator[None]:
    """Fail if Python or Arrow takes more than 256 MB."""
    tracemalloc.start()
    before = pyarrow.total_allocated_bytes()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pyarrow.total_allocated_bytes() - before < 1 << 26
    assert peak < 1 << 28


@pytest.mark.parametrize("form", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("face", 10**20),
        ("face", 0),
        ("faces", -1),
        ("face_left", 1e308),
        ("face_top", -1e308),
        ("face_width", 1e10),
        ("face_height", 1e300),
        ("width", 1e300),
        ("height", 2**31),
        ("face_score", 2),
        ("source", "=cmd"),
        ("label", "happy\x1b[31m"),
        ("label", "happy\ufffe"),
        ("label", "happy\U0010ffff"),
        ("label", "happy\u200e"),
        ("path", "a\x1b.jpg"),
        ("path", "a\u202egpj.exe"),
        ("error", "x\u2028y"),
        ("position", 2**64),
    ],
)
def test_a_value_that_no_run_writes_ends_page_and_merge(
    column: str, value: object, form: str, tmp_path: Path
) -> None:
    record = GOOD | {column: value}
    report = tmp_path / f"r{form}"
    if form == ".csv":
        cells = ("" if cell is None else str(cell) for cell in record.values())
        report.write_text(f"{','.join(COLUMNS)}\n{','.join(cells)}\n")
    else:
        report.write_text(json.dumps(record) + "\n")
    if column not in ("faces", "face_score", "position"):  # which a page does not read
        with pytest.raises(BatchLabelError) as caught, open(os.devnull, "wb") as nothing:
            make_page(PageJob(report, "-", tmp_path, 0), nothing)
        assert "is damaged" in str(caught.value)
        assert str(caught.value).isprintable()
    with pytest.raises(ReportError), open_shard_report(str(report), 0, 1) as part:
        list(part.rows(as_text=True))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", "=cmd"),
        ("path", "a;=cmd"),
        ("label", "@cmd"),
        ("error", " +cmd"),
        ("label", "x;-1"),
    ],
)
def test_merge_takes_no_cell_that_a_spreadsheet_would_run(
    column: str, value: str, tmp_path: Path
) -> None:
    report = tmp_path / "r.jsonl"
    report.write_text(json.dumps(GOOD | {column: value}) + "\n")
    with (
        open_shard_report(str(report), 0, 1) as part,
        pytest.raises(ReportError, match="starts a formula"),
    ):
        list(part.rows(as_text=True))


def test_a_good_record_is_read_by_both(tmp_path: Path) -> None:
    report = tmp_path / "r.jsonl"
    report.write_text(json.dumps(GOOD) + "\n")
    with open_saved_report(report) as saved:
        digest = bytes.fromhex(str(GOOD["sha256"]))
        assert list(saved.rows()) == [SavedRow("a.jpg", "ok", "happy", 0.9, face=1, digest=digest)]
    with open_shard_report(str(report), 0, 1) as part:
        assert [row.values for row in part.rows(as_text=False)] == [VALUES[:-1]]


@pytest.mark.usefixtures("memory")
def test_a_text_that_a_dictionary_repeats_is_not_unfolded(tmp_path: Path) -> None:
    rows, text = 2 * 8192, "a" * (MAX_LINE_BYTES - 1)
    report = tmp_path / "r.parquet"
    once = pyarrow.array([0] * rows, pyarrow.int32())
    columns = {
        "path": pyarrow.DictionaryArray.from_arrays(once, pyarrow.array([text])),
        "status": ["no_face"] * rows,
        **{name: pyarrow.nulls(rows, pyarrow.string()) for name in ("label", "error")},
        "confidence": pyarrow.nulls(rows, pyarrow.float64()),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), report, store_schema=False)
    assert report.stat().st_size < 100_000
    with open_saved_report(report) as saved:
        read = saved.rows()
        assert all(next(read).path == text for _ in range(64))


def _parquet(report: Path, paths: list[str], **options: object) -> None:
    none = [None] * len(paths)
    columns: dict[str, object] = {"path": paths, "status": ["no_face"] * len(paths)}
    columns |= dict.fromkeys(("label", "confidence", "error"), none)
    pyarrow.parquet.write_table(pyarrow.table(columns), report, **options)


def test_texts_in_deltas_are_refused(tmp_path: Path) -> None:
    report = tmp_path / "r.parquet"
    deltas = {"path": "DELTA_BYTE_ARRAY"}
    paths = [f"{'a' * 10_000}{n}" for n in range(100)]
    _parquet(report, paths, use_dictionary=False, column_encoding=deltas)
    assert "DELTA_BYTE_ARRAY has no bound" in refusal(report)


def test_a_row_group_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "r.parquet"
    _parquet(report, [f"{'a' * 1000}{n}" for n in range(100)])
    monkeypatch.setattr(readers, "MAX_ROW_GROUP_BYTES", 50_000)
    assert "row group 0 has 1" in refusal(report)


@pytest.mark.parametrize("large", [False, True])
def test_texts_of_other_programs_are_read(large: bool, tmp_path: Path) -> None:
    report = tmp_path / "r.parquet"
    kind = pyarrow.large_string() if large else pyarrow.string()
    paths = [f"album/{number:06}.jpg" for number in range(120_000)]  # more than a dictionary takes
    columns = {
        "path": pyarrow.array(paths, kind),
        "status": pyarrow.array(["no_face"] * len(paths)).dictionary_encode(),
        **{name: pyarrow.nulls(len(paths), kind) for name in ("label", "error")},
        "confidence": pyarrow.nulls(len(paths)),
        "face": [1.0] * len(paths),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), report)
    with open_saved_report(report) as saved:
        assert [row.path for row in saved.rows()] == paths


def test_values_that_are_neither_text_nor_numbers_are_refused(tmp_path: Path) -> None:
    report = tmp_path / "r.parquet"
    columns = {name: [[1]] for name in ("path", "status", "label", "confidence", "error")}
    pyarrow.parquet.write_table(pyarrow.table(columns), report)
    assert "its column path has the type list<" in refusal(report)


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_too_many_columns_are_refused_at_once(form: Format, tmp_path: Path) -> None:
    names = [f"p_{number}" for number in range(130_000 if form is Format.CSV else 20_000)]
    names = [*LABELLED.strip().split(","), *names]
    report = tmp_path / f"r{form}"
    if form is Format.PARQUET:
        pyarrow.parquet.write_table(pyarrow.table({name: [1.0] for name in names}), report)
    elif form is Format.CSV:
        report.write_text(",".join(name.removeprefix("p_") for name in names) + "\n")
    else:
        report.write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    started = time.monotonic()
    said = refusal(report)
    assert f"columns, more than {MAX_COLUMNS}" in said
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("memory")
def test_a_record_of_many_lines_is_not_read_whole(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    with report.open("w") as file:
        file.write(f'{LABELLED}"')
        file.writelines('\n","' for _ in range(800_000))
    assert f"a record is longer than {MAX_LINE_BYTES} bytes" in refusal(report)


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    report = tmp_path / "r.jsonl"
    line = json.dumps({"path": "a", "status": "failed", "label": None, "confidence": None})
    report.write_text(
        f'{line[:-1]}, "error": "x: a"}}\n{line[:-1]}, "error": null, "path": "b"}}\n'
    )
    assert "line 2 is damaged (it has a duplicate key)" in refusal(report)


def test_more_labels_than_a_model_has_are_refused(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    rows = (f"{number}.jpg,ok,label {number},0.5,\n" for number in range(MAX_LABELS + 1))
    report.write_text(LABELLED + "".join(rows))
    assert f"more than {MAX_LABELS} labels" in refusal(report)
    names = ",".join(f"p_{number}" for number in range(MAX_LABELS + 3))
    report.write_text(f"{names},{LABELLED}")
    assert f"it names {MAX_LABELS + 3} labels" in refusal(report)
    report.write_text(f"p_a\x1b[31m,{LABELLED}")
    assert "can't be printed" in refusal(report)


@pytest.mark.parametrize("form", READABLE_FORMATS)
@pytest.mark.parametrize("char", ["\\", "\U0001f600", '"'])
def test_the_longest_rows_that_a_run_writes_are_read(
    char: str, form: Format, tmp_path: Path
) -> None:
    labels = tuple(f"{number:03}{char * (MAX_NAME_CHARS - 3)}" for number in range(MAX_LABELS))
    outputs = (*labels, "neither", "no_person")
    box = Box(-12345.6, 12345.6, 12345.6, 12345.6, 0.9876)
    shown = Answer(Status.OK, labels[-1], 0.1234, dict.fromkeys(outputs, 0.1234), box)
    path = Path(os.fsdecode(b"\xff" * 65_536))
    failure = Failure(path, Stage.READ, Reason.UNREADABLE, "\x85" * 1_000_000)
    rows = (
        Row(path, Status.OK, shown, Source.FACE, (shown,) * 2, 99_999, 99_999),
        Row(path, Status.FAILED, failure=failure, missing=True),
    )
    report = tmp_path / f"r{form}"
    written(report, rows, per_face=True, outputs=outputs)
    with open_saved_report(report) as saved:
        assert [row.path for row in saved.rows()] == [path_text(path)] * 3


def test_the_detail_of_a_failure_is_cut_off() -> None:
    failure = Failure(Path("a"), Stage.READ, Reason.UNREADABLE, "x" * 1_000_000)
    assert len(failure.detail) == MAX_DETAIL_CHARS
    assert failure.detail.endswith("x...")
    assert (
        Failure(Path("a"), Stage.READ, Reason.EMPTY, "x" * MAX_DETAIL_CHARS).detail
        == "x" * MAX_DETAIL_CHARS
    )


def test_commands_refuse_such_a_report_in_one_line(command: Command, tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    values = GOOD | {"face_left": 1e308}
    report.write_text(f"{','.join(values)}\n{','.join(str(v or '') for v in values.values())}\n")
    ran = command("report", "r.csv", "-o", "r.html")
    assert ran.returncode == ExitCode.USAGE
    assert "face_left 1e+308 is not a number of pixels" in ran.stderr
    assert "Traceback" not in ran.stderr


# Reads a report of Parquet with one bit flipped, for each byte of a part of its footer.
FLIPPING = """
import sys
from pathlib import Path
from batch.errors import ReportError
from batch.reading.saved import open_saved_report

path = Path(sys.argv[1])
sound = path.read_bytes()
for place in range(len(sound) - int(sys.argv[2]), len(sound) - int(sys.argv[3])):
    path.write_bytes(sound[:place] + bytes([sound[place] ^ 16]) + sound[place + 1 :])
    try:
        with open_saved_report(str(path)) as report:
            list(report.rows())
    except ReportError:
        pass
"""
FOOTER = (1_600, 1_000)  # bytes before the end, with what is told of columns


def test_no_damage_to_parquet_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    with open_report(str(path), ("happy", "sad"), False, BytesIO()) as report:
        report.add(Row(Path("a.jpg"), Status.NO_FACE, width=1, height=1))
        failure = Failure(Path("b.jpg"), Stage.READ, Reason.EMPTY, "x")
        report.add(Row(Path("b.jpg"), Status.FAILED, failure=failure))
        report.publish()
    command = [sys.executable, "-c", FLIPPING, str(path), *map(str, FOOTER)]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
