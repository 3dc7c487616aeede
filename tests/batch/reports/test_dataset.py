"""Datasets: the rows of the Parquet report in several files, and a list of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
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
from batch.reports.dataset import SUCCESS_FILE, parse_success
from batch.reports.report import check_output, open_report
from tests.support.object_store import Bucket, bucket, failing, s3_server
from tests.support.runs import Place, make_photos

__all__ = ["bucket", "s3_server"]  # fixtures

SWAPPED = ("sad", "happy")


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

    writer = dataset.DatasetWriter(place, make_columns(("happy", "sad"), per_face=False))
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
    """Read a dataset as another program does."""
    table = pyarrow.dataset.dataset(folder, filesystem=filesystem).to_table()
    return list(table.to_pylist())


def listed(folder: Path) -> set[str]:
    """Give the files that the list names, and check that they are as it says."""
    found = parse_success((folder / SUCCESS_FILE).read_bytes())
    assert found is not None
    for file in found:
        data = (folder / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
        assert pyarrow.parquet.read_metadata(folder / file.path).num_rows == file.rows
    return {file.path for file in found}


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


def test_the_command_writes_one_night_after_night(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    place = Place(tmp_path)
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
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 10)
    write(bucket.url("night"), 100)
    before = bucket.keys()
    changes = changes_of(bucket, monkeypatch, lambda: write(bucket.url("night"), 20, SWAPPED))
    kinds = [method if name != SUCCESS_FILE else name for method, name in changes]
    assert kinds == ["PUT"] * 2 + [SUCCESS_FILE] + ["DELETE"] * 10
    listed = parse_success(bucket.read(f"night/{SUCCESS_FILE}"))
    assert listed is not None
    assert bucket.keys() == {f"night/{name}" for name in (SUCCESS_FILE, *(f.path for f in listed))}
    assert bucket.keys().isdisjoint(before - {f"night/{SUCCESS_FILE}"})


def test_in_a_store_files_that_are_there_already_are_not_sent_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 10)
    write(bucket.url("night"), 25)
    changes = changes_of(bucket, monkeypatch, lambda: write(bucket.url("night"), 30))
    assert [method for method, _ in changes] == ["PUT", "PUT", "DELETE"]
    assert [name[:10] for _, name in changes] == ["part-00002", SUCCESS_FILE, "part-00002"]


def changes_of(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]
) -> list[tuple[str, str]]:
    """Give the methods and names of the objects that an action puts or deletes."""
    with failing(bucket.endpoint, lambda method, path: None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        action()
        return [(m, p.rpartition("/")[2]) for m, p in proxy.asked
                if m in ("PUT", "DELETE") and "uploadId" not in p]  # fmt: skip


def test_in_a_store_a_publication_that_failed_is_finished_by_the_next_run(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 10)
    write(bucket.url("night"), 100)
    before = bucket.read(f"night/{SUCCESS_FILE}")
    left = [3]

    def fails(method: str, path: str) -> int | None:
        left[0] -= method == "PUT"
        return 403 if method == "PUT" and left[0] < 0 else None

    with failing(bucket.endpoint, fails) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        with pytest.raises(OutputError, match="can't be written"):
            write(bucket.url("night"), 40, SWAPPED)
    # All files that the list names are still there.
    assert bucket.read(f"night/{SUCCESS_FILE}") == before
    assert len(bucket.keys()) == 11 + 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    type(bucket.store).clear_instance_cache()
    write(bucket.url("night"), 40, SWAPPED)
    assert len(bucket.keys()) == 5
    assert len(read(f"{bucket.name}/night", bucket.store)) == 40


def test_in_a_store_an_object_of_a_dataset_s_name_is_refused_unless_it_is_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket.url("night"), 20)
    name = "night/part-00007-{}.parquet"
    left, mine = b"left by an upload", b"mine"
    own = name.format(hashlib.sha256(left).hexdigest()[:12])
    bucket.write(own, left)
    check_output(bucket.url("night/"))
    bucket.write(name.format("0123456789ab"), mine)
    before = bucket.keys()
    refused = r"part-00007-0123456789ab\.parquet, which is not part"
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
    with pytest.raises(OutputError, match=r"holds photo\.jpg, which is not part of a dataset"):
        check_output(bucket.url("night/"))
    bucket.write(f"other/{SUCCESS_FILE}", b"")
    with pytest.raises(OutputError, match="holds _SUCCESS"):
        check_output(bucket.url("other/"))
    with pytest.raises(UsageError, match="whole bucket"):
        check_output(bucket.url())
    assert bucket.keys() == {"night/photo.jpg", f"other/{SUCCESS_FILE}"}
