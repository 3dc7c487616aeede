"""The report's columns and values, in each of its formats."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch.errors import OutputError, UsageError
from batch.path_text import parse_path_text
from batch.records import Answer, Box, Capture, Failure, Reason, Row, Source, Stage, Status
from batch.reports.columns import column_names, flatten_row
from batch.reports.formats import Format
from batch.reports.report import check_output, open_report, report_format
from batch.reports.tabular import ROW_GROUP_ROWS

LABELS = ("happy", "sad")


def answer(happy: float, sure: bool = True, left: float = 10.0) -> Answer:
    shares = {"happy": happy, "sad": 1 - happy}
    label = max(shares, key=lambda name: shares[name])
    status = Status.OK if sure else Status.UNSURE
    box = Box(left, -0.04, 20.26, 30.0, 0.98765)
    return Answer(status, label, shares[label], shares, box)


FACES = (answer(0.912345), answer(0.45678, sure=False, left=99.96))
LABELLED = Row(
    Path("two.jpg"),
    Status.OK,
    answer(0.75),
    Source.FACE,
    FACES,
    width=4032,
    height=3024,
    capture=Capture("2026-01-31T18:04:05", "=Camera", 45.75, -4.8350004),
    sha256=b"\n" * 32,
)
NO_FACE = Row(Path("tree.jpg"), Status.NO_FACE, width=640, height=480)
FAILED = Row(
    Path("bad\n.jpg"),
    Status.FAILED,
    failure=Failure(Path("bad\n.jpg"), Stage.DECODE, Reason.TRUNCATED, "ends after 12\nbytes"),
)
ROWS = (LABELLED, NO_FACE, FAILED)


OUTPUTS = (*LABELS, "neither", "no_person")


def abstained(path: str, status: Status, confidence: float, faces: int = 0) -> Row:
    """A photo without a label; its faces are ``neither``, from a model without ``no_person``."""
    rest = (1 - confidence) / 3
    shares = {name: confidence if name == status else rest for name in OUTPUTS}
    box = Box(1.0, 2.0, 30.0, 40.0, 0.9)
    face = Answer(Status.NEITHER, None, 0.5, {"happy": 0.2, "sad": 0.3, "neither": 0.5}, box)
    answer = Answer(status, None, confidence, shares, box if faces else None)
    source = Source.BOTH if faces else Source.IMAGE
    return Row(Path(path), status, answer, source, (face,) * faces, 640, 480)


ABSTAINED = (
    abstained("blank.jpg", Status.NEITHER, 0.7, faces=2),
    abstained("cup.jpg", Status.NO_PERSON, 0.91),
)


def written(
    output: Path,
    rows: Iterable[Row] = ROWS,
    per_face: bool = False,
    outputs: Sequence[str] = LABELS,
) -> bytes:
    with open_report(str(output), outputs, per_face, io.BytesIO()) as report:
        for row in rows:
            report.add(row)
        report.publish()
    return output.read_bytes()


def many(count: int) -> Iterator[Row]:
    for number in range(count):
        shown = answer(0.5 + number % 50 / 100)
        yield Row(Path(f"album/{number}.jpg"), Status.OK, shown, Source.FACE, (shown,), 640, 480)


def test_columns_stand_in_their_documented_order() -> None:
    answered = ("path", "status", "label", "confidence", "p_happy", "p_sad", "source", "faces")
    place = ("face_left", "face_top", "face_width", "face_height", "face_score")
    rest = ("width", "height", "sha256", "taken", "camera", "error")
    assert column_names(LABELS, per_face=False) == (*answered, *place, *rest)
    assert column_names(LABELS, per_face=True) == (*answered, "face", *place, *rest)


@pytest.mark.parametrize("per_face", [False, True])
@pytest.mark.parametrize("outputs", [LABELS, OUTPUTS])
@pytest.mark.parametrize("row", [*ROWS, *ABSTAINED])
def test_records_have_exactly_the_columns(
    row: Row, outputs: tuple[str, ...], per_face: bool
) -> None:
    for record in flatten_row(row, outputs, per_face):
        assert set(record) == set(column_names(outputs, per_face))


def test_a_photo_without_a_label_has_the_probability_of_its_status(tmp_path: Path) -> None:
    assert written(tmp_path / "r.csv", ABSTAINED, outputs=OUTPUTS).decode() == (
        "path,status,label,confidence,p_happy,p_sad,p_neither,p_no_person,source,faces,"
        "face_left,face_top,face_width,face_height,face_score,width,height,"
        "sha256,taken,camera,error\n"
        "blank.jpg,neither,,0.7000,0.1000,0.1000,0.7000,0.1000,both,2,"
        "1.0,2.0,30.0,40.0,0.9000,640,480,,,,\n"
        "cup.jpg,no_person,,0.9100,0.0300,0.0300,0.0300,0.9100,image,0,,,,,,640,480,,,,\n"
    )
    (line, *_) = written(tmp_path / "r.jsonl", ABSTAINED, outputs=OUTPUTS).splitlines()
    assert json.loads(line)["label"] is None


def test_a_face_has_no_probability_that_its_model_does_not_give(tmp_path: Path) -> None:
    lines = written(tmp_path / "r.csv", ABSTAINED, True, OUTPUTS).decode().splitlines()
    names = ("path", "face", "status", "label", "confidence", "p_neither", "p_no_person")
    assert [tuple(row[name] for name in names) for row in csv.DictReader(lines)] == [
        ("blank.jpg", "1", "neither", "", "0.5000", "0.5000", ""),
        ("blank.jpg", "2", "neither", "", "0.5000", "0.5000", ""),
        ("cup.jpg", "", "no_person", "", "0.9100", "0.0300", "0.9100"),
    ]


def test_csv_output_is_byte_exact(tmp_path: Path) -> None:
    assert written(tmp_path / "r.csv").decode() == (
        "path,status,label,confidence,p_happy,p_sad,source,faces,"
        "face_left,face_top,face_width,face_height,face_score,width,height,"
        "sha256,taken,camera,error\n"
        "two.jpg,ok,happy,0.7500,0.7500,0.2500,face,2,10.0,0.0,20.3,30.0,0.9877,4032,3024,"
        f"{'0a' * 32},2026-01-31T18:04:05,'=Camera,\n"
        "tree.jpg,no_face,,,,,,0,,,,,,640,480,,,,\n"
        "bad\\n.jpg,failed,,,,,,,,,,,,,,,,,truncated: ends after 12\\nbytes\n"
    )


def test_each_face_has_a_row_and_so_has_a_photo_without_faces(tmp_path: Path) -> None:
    lines = written(tmp_path / "r.csv", per_face=True).decode().splitlines()
    rows = list(csv.DictReader(lines))
    shown = [(row["path"], row["face"], row["status"], row["label"], row["p_sad"]) for row in rows]
    assert shown == [
        ("two.jpg", "1", "ok", "happy", "0.0877"),
        ("two.jpg", "2", "unsure", "sad", "0.5432"),
        ("tree.jpg", "", "no_face", "", ""),
        ("bad\\n.jpg", "", "failed", "", ""),
    ]
    assert [row["face_left"] for row in rows[:2]] == ["10.0", "100.0"]


def test_json_lines_have_the_same_values_typed(tmp_path: Path) -> None:
    lines = written(tmp_path / "r.jsonl").decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == [record for row in ROWS for record in flatten_row(row, LABELS, False)]
    assert [list(record) for record in records] == [list(column_names(LABELS, False))] * 3
    assert records[0]["face_top"] == 0.0
    assert records[0]["faces"] == 2
    assert records[1]["label"] is None


def test_text_outside_ascii_is_written_as_it_is(tmp_path: Path) -> None:
    row = Row(Path("caf\u00e9.jpg"), Status.NO_FACE)
    for name in ("r.csv", "r.jsonl"):
        assert "caf\u00e9.jpg" in written(tmp_path / name, [row]).decode()


def test_parquet_is_typed_and_equals_the_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    written(tmp_path / "r.parquet", per_face=True)
    table = parquet.read_table(tmp_path / "r.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert tuple(types) == column_names(LABELS, per_face=True)
    assert {types[name] for name in ("path", "status", "label", "source", "error")} == {"string"}
    assert {types[name] for name in ("faces", "face", "width", "height")} == {"int32"}
    assert {types[name] for name in ("confidence", "p_sad", "face_left")} == {"double"}
    expected = [record for row in ROWS for record in flatten_row(row, LABELS, True)]
    assert table.to_pylist() == expected


def test_parquet_is_written_in_groups_and_always_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    count = ROW_GROUP_ROWS * 2 + 5
    first = written(tmp_path / "a.parquet", many(count))
    assert first == written(tmp_path / "b.parquet", many(count))
    with parquet.ParquetFile(tmp_path / "a.parquet") as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        assert groups == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5]
        names = file.read(["path"]).column("path").to_pylist()
    assert names == [f"album/{number}.jpg" for number in range(count)]


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow.parquet")
    with open_report(str(tmp_path / name), LABELS, False, io.BytesIO()) as report:
        for row in many(ROW_GROUP_ROWS):
            report.add(row)
        tracemalloc.start()
        for row in many(ROW_GROUP_ROWS):
            report.add(row)
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
    # Of this project's modules alone: Python's table of interned names grows in leaps.
    ours = snapshot.filter_traces([tracemalloc.Filter(True, "*/batch/*")])
    assert sum(trace.size for trace in ours.traces) < 100_000


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet"])
def test_leaving_without_publishing_leaves_nothing(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow.parquet")
    with open_report(str(tmp_path / name), LABELS, False, io.BytesIO()) as report:
        report.add(LABELLED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["full.csv", "full.jsonl", "full.parquet"])
def test_a_full_disk_is_one_error_and_no_noise(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow.parquet")
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        written(tmp_path / name, many(ROW_GROUP_ROWS + 1))


def test_standard_output_gets_csv(tmp_path: Path) -> None:
    with (
        (tmp_path / "redirected").open("wb") as stdout,
        open_report("-", LABELS, False, stdout) as report,
    ):
        report.add(NO_FACE)
        report.publish()
    assert (tmp_path / "redirected").read_bytes() == written(tmp_path / "r.csv", [NO_FACE])


def test_labels_can_hold_anything(tmp_path: Path) -> None:
    labels = ("=SUM(A1)", 'a "b",\nc')
    shown = Answer(Status.OK, labels[0], 0.6, {labels[0]: 0.6, labels[1]: 0.4})
    output = tmp_path / "r.csv"
    with open_report(str(output), labels, False, io.BytesIO()) as report:
        report.add(Row(Path("@a.jpg"), Status.OK, shown, Source.IMAGE))
        report.publish()
    lines = output.read_text().splitlines()
    assert len(lines) == 2
    (row,) = csv.DictReader(lines)
    assert row["path"] == "./@a.jpg"
    assert row["label"] == "'=SUM(A1)"
    assert row["p_=SUM(A1)"] == "0.6000"
    assert row['p_a "b",\\nc'] == "0.4000"


def test_names_that_are_not_text_round_trip_in_every_format(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"\xff\n=\\.jpg"))
    failure = Failure(path, Stage.READ, Reason.VANISHED, f"{path} is gone")
    row = Row(path, Status.FAILED, failure=failure)
    (record,) = csv.DictReader(written(tmp_path / "r.csv", [row]).decode().splitlines())
    assert parse_path_text(record["path"]) == path
    assert record["error"].startswith("vanished: \\xFF\\n=")
    record = json.loads(written(tmp_path / "r.jsonl", [row]))
    assert parse_path_text(record["path"]) == path


@pytest.mark.parametrize(
    ("output", "form"),
    [
        ("-", Format.CSV),
        ("/dev/stdout", Format.CSV),
        ("/dev/null", Format.CSV),
        ("a.b/r.CSV", Format.CSV),
        ("r.jsonl", Format.JSONL),
        ("r.parquet", Format.PARQUET),
        ("r.xlsx", Format.XLSX),
    ],
)
def test_the_name_tells_the_format(output: str, form: Format) -> None:
    assert report_format(output) is form


@pytest.mark.parametrize("output", ["r", "r.xls", "r.csv.gz", "", ".csv", "a.csv/r"])
def test_a_name_without_a_known_suffix_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match=r"end its name in \.csv, .*\.xlsx, or in / .*, or give -"):
        check_output(output)


def test_a_missing_pyarrow_is_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_output(str(tmp_path / "r.csv"))
    with pytest.raises(UsageError, match=r"pip install 'batch-label\[parquet\]'"):
        check_output(str(tmp_path / "r.parquet"))
    with pytest.raises(UsageError, match="pyarrow"):
        open_report(str(tmp_path / "r.parquet"), LABELS, False, io.BytesIO())
    assert not list(tmp_path.iterdir())


def test_the_report_loads_nothing_heavy() -> None:
    code = "import sys, batch.reports.report, batch.tally; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "pyarrow", "onnxruntime"} & set(run.stdout.split())


def test_values_from_numpy_become_plain_numbers(tmp_path: Path) -> None:
    np: Any = pytest.importorskip("numpy")
    share = np.float32(0.1)
    shown = Answer(Status.OK, "sad", share, {"happy": share, "sad": share})
    record = json.loads(
        written(tmp_path / "r.jsonl", [Row(Path("a"), Status.OK, shown, Source.IMAGE)])
    )
    assert record["confidence"] == 0.1


def test_a_no_person_photo_has_one_row_even_with_detected_faces() -> None:
    face = answer(0.75)
    shown = abstained("cat.jpg", Status.NO_PERSON, 0.91)
    (record,) = flatten_row(replace(shown, faces=(face, face)), LABELS, per_face=True)
    assert (record["status"], record["face"], record["faces"]) == ("no_person", None, 2)


def test_the_source_of_a_face_row_is_the_face() -> None:
    face = answer(0.75)
    row = Row(Path("a.jpg"), Status.OK, answer(0.9), Source.BOTH, (face, face), 640, 480)
    assert [record["source"] for record in flatten_row(row, LABELS, per_face=True)] == ["face"] * 2
    (record,) = flatten_row(row, LABELS, per_face=False)
    assert record["source"] == "both"
