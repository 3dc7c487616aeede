"""A report as a dataset: the rows of the Parquet report, laid out as Hive does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
import pytest

from batch.errors import ExitCode, OutputError, UsageError
from batch.reading.diff import diff
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from batch.reports import dataset
from batch.reports.dataset_files import NULL, SUCCESS, contents_of, partition_of
from batch.reports.exchange import exchange
from batch.reports.report import check_output, open_report
from tests.conftest import REPOSITORY
from tests.object_store import Bucket, bucket, failing, s3_server
from tests.runs import Place, make_photos
from tests.test_report import ABSTAINED, OUTPUTS

__all__ = ["bucket", "s3_server"]  # fixtures

# A publication that stops where it is told to, as if it were killed there.
CUT_OFF = """
import os, sys
from pathlib import Path
from batch.reports import dataset_folder
from batch.reports.dataset_folder import LocalDataset
from tests.test_dataset import fill
dataset_folder.exchange = lambda one, other: False
rename, left = Path.rename, int(sys.argv[2])
def cut_off(self, target):
    global left
    if self.name.startswith(".results") or self.name == "results":
        left -= 1
        if left < 0:
            os._exit(9)
    return rename(self, target)
Path.rename = cut_off
fill(LocalDataset(Path(sys.argv[1])), 20).publish()
"""


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
    from batch.reports.columns import layout, records_of

    typical = {"status": "ok", "label": "happy"}
    writer = dataset.DatasetWriter(place, layout(("happy", "sad"), per_face=False), typical)
    for row in rows(number):
        for record in records_of(row, ("happy", "sad"), per_face=False):
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
    contents = contents_of((folder / SUCCESS).read_bytes())
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
        f"status=failed/label={NULL}",
    }
    assert set(files(tmp_path / "results")) == listed(tmp_path / "results") | {SUCCESS}


def test_what_has_no_label_lies_under_its_status(tmp_path: Path) -> None:
    with open_report(f"{tmp_path}/results/", OUTPUTS, False, io.BytesIO()) as report:
        for row in ABSTAINED:
            report.add(row)
        report.publish()
    folders = {name.rpartition("/")[0] for name in listed(tmp_path / "results")}
    # The one of the first label has no rows, but the columns' types.
    statuses = {f"status={status}/label={NULL}" for status in ("neither", "no_person")}
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
    monkeypatch.setattr(dataset, "MAX_ROWS_A_FILE", 10)
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
    monkeypatch.setattr(dataset, "MAX_ROWS_WAITING", 50)
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
        (None, NULL),
    ],
)
def test_labels_are_escaped_as_hive_does_and_read_back(
    tmp_path: Path, label: str | None, folder: str
) -> None:
    assert partition_of({"status": "ok", "label": label}) == f"status=ok/label={folder}"
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


def test_it_replaces_an_earlier_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    (tmp_path / "results").chmod(0o750)
    write(tmp_path / "results", 20)
    assert len(read(tmp_path / "results")) == 20
    assert set(files(tmp_path / "results")) == listed(tmp_path / "results") | {SUCCESS}
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_one_that_is_discarded_leaves_no_trace(tmp_path: Path) -> None:
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        report.add(next(rows(1)))
        assert not (tmp_path / "results").exists()
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_a_link_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "there")
    write(tmp_path / "results", 20)
    assert (tmp_path / "results").is_symlink()
    assert len(read(tmp_path / "there")) == 20


def spoil_with_a_note(folder: Path) -> None:
    write(folder, 20)
    (folder / "status=ok" / "notes.txt").write_text("mine")


def spoil_without_a_list(folder: Path) -> None:
    write(folder, 20)
    (folder / SUCCESS).unlink()


def spoil_with_another_s_list(folder: Path) -> None:
    write(folder, 20)
    (folder / SUCCESS).write_bytes(b"")  # as Spark leaves it


def photos_of_mine(folder: Path) -> None:
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"mine")


def a_link_in_it(folder: Path) -> None:
    write(folder, 20)
    (folder / "link").symlink_to("/tmp")


@pytest.mark.parametrize(
    "spoil",
    [spoil_with_a_note, spoil_without_a_list, spoil_with_another_s_list, photos_of_mine,
     a_link_in_it],
)  # fmt: skip
def test_what_is_no_dataset_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "results")
    before = files(tmp_path)
    with pytest.raises(OutputError, match=r"is no part of a dataset .*; name another folder"):
        check_output(f"{tmp_path}/results/")
    assert files(tmp_path) == before


def test_what_comes_to_lie_there_during_the_run_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "results", 20)
    with open_report(f"{tmp_path}/results/", ("happy", "sad"), False, io.BytesIO()) as report:
        (tmp_path / "results" / "notes.txt").write_text("mine")
        before = files(tmp_path / "results")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            report.publish()
    assert files(tmp_path / "results") == before
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_a_file_in_its_place_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        check_output(f"{tmp_path}/results/")
    with pytest.raises(OutputError, match=r"no folder .*create its folder first"):
        check_output(f"{tmp_path}/none/results/")


def test_a_mount_point_is_refused() -> None:
    with pytest.raises(OutputError, match="/proc"):
        check_output("/proc/")


@pytest.mark.parametrize("steps", range(4))
def test_a_swap_that_is_cut_off_is_put_right_by_the_next_run(tmp_path: Path, steps: int) -> None:
    write(tmp_path / "results", 100)
    before = files(tmp_path / "results")
    ran = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(tmp_path / "results"), str(steps)],
        cwd=REPOSITORY,
        capture_output=True,
    )
    assert ran.returncode == (9 if steps < 3 else 0), ran.stderr
    check_output(f"{tmp_path}/results/")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert (files(tmp_path / "results") == before) is (steps < 2)
    assert len(read(tmp_path / "results")) == (100 if steps < 2 else 20)


def test_a_draft_in_the_making_is_left_alone_while_its_run_lives(tmp_path: Path) -> None:
    parent = os.getppid()  # some process that is alive, and not this one
    draft = tmp_path / f".results.{parent}.tmp"
    dead = tmp_path / ".results.999999999.tmp"
    for folder in (draft, dead):
        (folder / "status=ok" / "label=sad").mkdir(parents=True)
        (folder / "status=ok" / "label=sad" / "part-00000").touch()
    write(tmp_path / "results", 20)
    assert {path.name for path in tmp_path.iterdir()} == {"results", draft.name}


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
    write(bucket.url("night"), 100)
    before = bucket.keys()
    with failing(bucket.endpoint, lambda method, path: None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        write(bucket.url("night"), 20)
        changes = [(m, p.rpartition("/")[2]) for m, p in proxy.asked
                   if m in ("PUT", "DELETE") and "uploadId" not in p]  # fmt: skip
    kinds = [method if name != SUCCESS else name for method, name in changes]
    assert kinds == ["PUT"] * 6 + [SUCCESS] + ["DELETE"] * 6
    contents = contents_of(bucket.read(f"night/{SUCCESS}"))
    assert contents is not None
    expected = {f"night/{part.path}" for part in contents.files} | {f"night/{SUCCESS}"}
    assert bucket.keys() == expected
    assert bucket.keys().isdisjoint(before - {f"night/{SUCCESS}"})


def test_in_a_store_a_publication_that_failed_is_finished_by_the_next_run(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bucket.url("night"), 100)
    before = bucket.read(f"night/{SUCCESS}")
    left = [3]

    def fails(method: str, path: str) -> int | None:
        left[0] -= method == "PUT"
        return 403 if method == "PUT" and left[0] < 0 else None

    with failing(bucket.endpoint, fails) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        type(bucket.store).clear_instance_cache()
        with pytest.raises(OutputError, match="can't be written"):
            write(bucket.url("night"), 20)
    # What the list names is all there, whatever lies beside it.
    assert bucket.read(f"night/{SUCCESS}") == before
    assert len(bucket.keys()) == 7 + 3
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    type(bucket.store).clear_instance_cache()
    write(bucket.url("night"), 20)
    assert len(bucket.keys()) == 7
    assert len(read(f"{bucket.name}/night", bucket.store)) == 20


def test_in_a_store_other_objects_are_refused(bucket: Bucket) -> None:
    bucket.write("night/photo.jpg", b"mine")
    with pytest.raises(OutputError, match=r"holds photo\.jpg, which is no part of a dataset"):
        check_output(bucket.url("night/"))
    bucket.write(f"other/{SUCCESS}", b"")
    with pytest.raises(OutputError, match="holds _SUCCESS"):
        check_output(bucket.url("other/"))
    with pytest.raises(UsageError, match="whole bucket"):
        check_output(bucket.url())
    assert bucket.keys() == {"night/photo.jpg", f"other/{SUCCESS}"}


def test_a_run_that_is_killed_leaves_the_earlier_dataset(tmp_path: Path) -> None:
    write(tmp_path / "results", 100)
    before = files(tmp_path / "results")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom tests.test_dataset import fill\n"
        "from batch.reports.dataset_folder import LocalDataset\n"
        "fill(LocalDataset(Path(sys.argv[1])), 20)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "results")], cwd=REPOSITORY)
    assert killed.returncode == -signal.SIGKILL
    assert files(tmp_path / "results") == before
    assert len(list(tmp_path.iterdir())) == 2
    check_output(f"{tmp_path}/results/")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
