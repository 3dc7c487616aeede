"""A report as a dataset: the rows of the Parquet report, laid out as Hive does."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
import pytest

from batch.errors import ExitCode, OutputError, UsageError
from batch.files.drafts import exchange
from batch.reading.diff import diff
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from batch.reports import dataset, dataset_store
from batch.reports.dataset import NULL_PARTITION, SUCCESS_FILE, parse_success, partition_path
from batch.reports.report import check_output, open_report
from tests.batch.reports.test_report import ABSTAINED, OUTPUTS
from tests.support.object_store import Bucket, bucket, run_failing_proxy, s3_server
from tests.support.runs import RunFolder, make_photos

__all__ = ["bucket", "s3_server"]  # fixtures


def rows(number: int, labels: tuple[str, ...] = ("happy", "sad")) -> Iterator[Row]:
    """Rows of every status, with each label."""
    for n in range(number):
        path = Path(f"photos/{n:06}.jpg")
        if n % 10 == 9:
            failure = Failure(path, Stage.READ, Reason.EMPTY, "no bytes")
            yield Row(path, Status.FAILED, failure=failure)
            continue
        label = labels[n % len(labels)]
        shares = {name: float(name == label) for name in labels}
        status = Status.OK if n % 7 < 4 else Status.UNSURE
        answer = Answer(status, label, 1 - n % 7 / 10, shares)
        yield Row(path, status, answer, Source.IMAGE, (), 640, 480)


def fill(place: Any, number: int) -> Any:
    from batch.reports.columns import flatten_row, make_columns

    typical = {"status": "ok", "label": "happy"}
    writer = dataset.DatasetWriter(place, make_columns(("happy", "sad"), per_face=False), typical)
    for row in rows(number):
        for record in flatten_row(row, ("happy", "sad"), per_face=False):
            writer.write(record)
    writer.finish()
    return place


def write(output: str | Path, number: int, labels: tuple[str, ...] = ("happy", "sad")) -> None:
    with open_report(f"{output}/", labels, False, io.BytesIO()) as report:
        for row in rows(number, labels):
            report.add(row)
        report.publish()


def files(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder by their names in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def read(folder: str | Path, filesystem: Any = None) -> list[dict[str, Any]]:
    """Read a dataset as anybody would, and give its rows in the order of their paths."""
    table = pyarrow.dataset.dataset(folder, partitioning="hive", filesystem=filesystem).to_table()
    return sorted(table.to_pylist(), key=lambda row: str(row["path"]))


def listed(folder: Path) -> set[str]:
    """Give the files that the list names, after a look whether they are as it says."""
    contents = parse_success((folder / SUCCESS_FILE).read_bytes())
    assert contents is not None
    for part in contents.files:
        data = (folder / part.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part.bytes, part.sha256)
        assert pyarrow.parquet.read_metadata(folder / part.path).num_rows == part.rows
    return {part.path for part in contents.files}


def test_its_rows_are_those_of_the_parquet_report(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    with open_report(str(tmp_path / "r.parquet"), ("happy", "sad"), False, io.BytesIO()) as report:
        for row in rows(100):
            report.add(row)
        report.publish()
    expected = pyarrow.parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert read(tmp_path / "results") == expected


def test_it_is_laid_out_by_status_and_label(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    folders = {name.rpartition("/")[0] for name in listed(tmp_path / "results")}
    assert folders == {
        "",  # the order
        "status=ok/label=happy",
        "status=ok/label=sad",
        "status=unsure/label=happy",
        "status=unsure/label=sad",
        f"status=failed/label={NULL_PARTITION}",
    }
    assert set(files(tmp_path / "results")) == listed(tmp_path / "results") | {SUCCESS_FILE}


def test_what_has_no_label_lies_under_its_status(tmp_path: Path) -> None:
    with open_report(f"{tmp_path}/results/", OUTPUTS, False, io.BytesIO()) as report:
        for row in ABSTAINED:
            report.add(row)
        report.publish()
    folders = {name.rpartition("/")[0] for name in listed(tmp_path / "results")}
    # The one of the first label has no rows, but the columns' types.
    statuses = {f"status={status}/label={NULL_PARTITION}" for status in ("neither", "no_person")}
    assert folders == {"", "status=ok/label=happy", *statuses}
    found = read(tmp_path / "results")
    assert [(row["status"], row["label"], row["p_no_person"]) for row in found] == [
        ("neither", None, 0.1),
        ("no_person", None, 0.91),
    ]


def test_the_same_rows_give_the_same_names_and_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", 500)
    write(tmp_path / "other", 500)
    assert files(tmp_path / "one") == files(tmp_path / "other")


def test_files_are_bounded_and_keep_the_order_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 10)
    write(tmp_path / "results", 100)
    folder = tmp_path / "results" / "status=ok" / "label=happy"
    paths = []
    for part in sorted(folder.iterdir()):
        # A file alone, for its folder's name is a column as well.
        table = pyarrow.parquet.ParquetFile(part).read()
        assert table.num_rows <= 10
        paths += table.column("path").to_pylist()
    happy = (row for row in rows(100) if row.answer and row.answer.label == "happy")
    assert paths == [str(row.path) for row in happy if row.status is Status.OK]
    assert len(paths) > 10
    assert len(read(tmp_path / "results")) == 100


def test_rows_in_memory_and_open_files_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MAX_BUFFERED_ROWS", 50)
    monkeypatch.setattr(dataset, "MAX_OPEN_FILES", 8)
    labels = tuple(f"label {n}" for n in range(20))
    write(tmp_path / "results", 500, labels)
    assert {row["path"] for row in read(tmp_path / "results")} == {
        str(row.path) for row in rows(500)
    }
    names = [name for name in listed(tmp_path / "results") if "label=label 3/" in name]
    assert len(names) > 2  # it was closed for others, and begun anew


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("a b", "a b"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a=b:c", "a%3Db%3Ac"),
        ("größer 微笑", "größer 微笑"),
        (None, NULL_PARTITION),
    ],
)
def test_labels_are_escaped_as_hive_does_and_read_back(
    tmp_path: Path, label: str | None, folder: str
) -> None:
    assert partition_path({"status": "ok", "label": label}) == f"status=ok/label={folder}"
    if label is not None:
        write(tmp_path / "results", 3, (label, "other"))
        assert {row["label"] for row in read(tmp_path / "results")} == {label, "other"}


@pytest.mark.parametrize("number", [0, 1])
def test_a_dataset_without_an_answer_has_its_columns(tmp_path: Path, number: int) -> None:
    failure = Failure(Path("a.jpg"), Stage.READ, Reason.EMPTY, "no bytes")
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        for _ in range(number):
            report.add(Row(Path("a.jpg"), Status.FAILED, failure=failure))
        report.publish()
    assert len(read(tmp_path / "results")) == number
    schema = pyarrow.dataset.dataset(tmp_path / "results", partitioning="hive").schema
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


def test_the_command_writes_one_night_after_night(tmp_path: Path) -> None:
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


def test_in_a_store_it_is_the_same_to_the_byte(tmp_path: Path, bucket: Bucket) -> None:
    write(tmp_path / "results", 100)
    write(bucket.url("night"), 100)
    expected = files(tmp_path / "results")
    found = sorted(bucket.keys())
    assert {name.removeprefix("night/"): bucket.read(name) for name in found} == expected
    assert read(f"{bucket.name}/night", bucket.store) == read(tmp_path / "results")


def test_in_a_store_the_old_files_go_last(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    write(bucket.url("night"), 100)
    before = bucket.keys()
    with run_failing_proxy(bucket.endpoint, lambda method, path: None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        write(bucket.url("night"), 20)
        changes = [(m, p.rpartition("/")[2]) for m, p in proxy.asked
                   if m in ("PUT", "DELETE") and "uploadId" not in p]  # fmt: skip
    kinds = [method if name != SUCCESS_FILE else name for method, name in changes]
    assert kinds == ["PUT"] * 6 + [SUCCESS_FILE] + ["DELETE"] * 6
    contents = parse_success(bucket.read(f"night/{SUCCESS_FILE}"))
    assert contents is not None
    expected = {f"night/{part.path}" for part in contents.files} | {f"night/{SUCCESS_FILE}"}
    assert bucket.keys() == expected
    assert bucket.keys().isdisjoint(before - {f"night/{SUCCESS_FILE}"})


def test_in_a_store_a_publication_that_failed_is_finished_by_the_next_run(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket.url("night"), 100)
    before = bucket.read(f"night/{SUCCESS_FILE}")
    left = [3]

    def fails(method: str, path: str) -> int | None:
        left[0] -= method == "PUT"
        return 403 if method == "PUT" and left[0] < 0 else None

    with run_failing_proxy(bucket.endpoint, fails) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        with pytest.raises(OutputError, match="can't be written"):
            write(bucket.url("night"), 20)
    # What the list names is all there, whatever lies beside it.
    assert bucket.read(f"night/{SUCCESS_FILE}") == before
    assert len(bucket.keys()) == 7 + 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    type(bucket.store).clear_instance_cache()
    write(bucket.url("night"), 20)
    assert len(bucket.keys()) == 7
    assert len(read(f"{bucket.name}/night", bucket.store)) == 20


def test_in_a_store_an_object_of_a_dataset_s_name_is_refused_unless_it_is_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket.url("night"), 20)
    name = "night/status=ok/label=sad/part-00007-{}.parquet"
    left, mine = b"left by an upload", b"mine"
    own = name.format(hashlib.sha256(left).hexdigest()[:12])
    bucket.write(own, left)
    check_output(bucket.url("night/"))
    bucket.write(name.format("0123456789ab"), mine)
    before = bucket.keys()
    refused = r"part-00007-0123456789ab\.parquet, which is no part"
    with pytest.raises(OutputError, match=refused):
        check_output(bucket.url("night/"))
    with pytest.raises(OutputError, match=refused):
        write(bucket.url("night"), 9)
    assert bucket.keys() == before
    monkeypatch.setattr(dataset_store, "MAX_SUCCESS_BYTES", 10)
    with pytest.raises(OutputError, match="holds _SUCCESS"):
        check_output(bucket.url("night/"))


def test_in_a_store_other_objects_are_refused(bucket: Bucket) -> None:
    bucket.write("night/photo.jpg", b"mine")
    with pytest.raises(OutputError, match=r"holds photo\.jpg, which is no part of a dataset"):
        check_output(bucket.url("night/"))
    bucket.write(f"other/{SUCCESS_FILE}", b"")
    with pytest.raises(OutputError, match="holds _SUCCESS"):
        check_output(bucket.url("other/"))
    with pytest.raises(UsageError, match="whole bucket"):
        check_output(bucket.url())
    assert bucket.keys() == {"night/photo.jpg", f"other/{SUCCESS_FILE}"}
