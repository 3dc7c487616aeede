"""Datasets: the rows of the Parquet report in several files, and a list of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow.dataset
import pyarrow.parquet
import pytest

from batch.errors import ExitCode, UsageError
from batch.files.publish import exchange
from batch.reading.diff import diff
from batch.records import Failure, Reason, Row, Stage, Status
from batch.reports import dataset
from batch.reports.dataset import SUCCESS_FILE
from batch.reports.report import open_report
from tests.support.datasets import files, listed, read, rows, write
from tests.support.runs import RunFolder, make_photos


def test_its_rows_are_those_of_the_parquet_report(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    with open_report(str(tmp_path / "r.parquet"), ("happy", "sad"), False, io.BytesIO()) as report:
        for row in rows(100):
            report.add(row)
        report.publish()
    expected = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert read(tmp_path / "results") == expected


def test_it_holds_the_files_that_its_list_names(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    (name,) = listed(tmp_path / "results")
    assert name.startswith("part-00000-")
    assert set(files(tmp_path / "results")) == {name, SUCCESS_FILE}


def test_the_same_rows_give_the_same_names_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", 500)
    write(tmp_path / "other", 500)
    assert files(tmp_path / "one") == files(tmp_path / "other")


@pytest.mark.parametrize(("number", "expected"), [(9, [9]), (10, [10]), (25, [10, 10, 5])])
def test_files_are_bounded_and_keep_the_order_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: list[int]
) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 10)
    write(tmp_path / "results", number)
    parts = sorted((tmp_path / "results").glob("part-*"))
    tables = [pyarrow.parquet.read_table(part) for part in parts]
    assert [table.num_rows for table in tables] == expected
    paths = [path for table in tables for path in table.column("path").to_pylist()]
    assert paths == [str(row.path) for row in rows(number)]
    assert [row["path"] for row in read(tmp_path / "results")] == paths


@pytest.mark.parametrize("number", [0, 1])
def test_a_dataset_without_an_answer_has_its_columns(tmp_path: Path, number: int) -> None:
    failure = Failure(Path("a.jpg"), Stage.READ, Reason.EMPTY, "no bytes")
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        for _ in range(number):
            report.add(Row(Path("a.jpg"), Status.FAILED, failure=failure))
        report.publish()
    assert len(read(tmp_path / "results")) == number
    schema = pyarrow.dataset.dataset(tmp_path / "results").schema
    assert {"path", "p_happy", "status", "label"} <= set(schema.names)


def test_folders_exchange_their_names_at_once(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system exchanges no names")
    assert set(files(tmp_path)) == {"one/other", "other/one"}
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "none")


def test_only_reports_are_datasets(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("path,status,label,confidence,error\n")
    with pytest.raises(UsageError, match="has no suffix that names a format"):
        diff(str(tmp_path / "r.csv"), str(tmp_path / "r.csv"), f"{tmp_path}/d/", io.BytesIO())
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


def test_the_command_replaces_a_dataset_in_every_run(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    place = RunFolder(tmp_path)
    for reused in (0, 3):
        ran = place.run("photos", "-o", "results/")
        assert ran.returncode == ExitCode.OK, ran.stderr
        record = json.loads((tmp_path / "results.run.json").read_bytes())
        assert record["counts"]["reused"] == reused
    assert len(read(tmp_path / "results")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        "bright.onnx", "photos", "results", "results.run.json", ".results.journal"}  # fmt: skip
