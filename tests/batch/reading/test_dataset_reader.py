"""Datasets read back: the rows of the same report in one file, or an error."""

from __future__ import annotations

import io
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from batch.errors import ReportError, UsageError
from batch.location import Location, parse_location
from batch.reading.diff import diff
from batch.reading.saved import open_reader
from batch.records import Row
from batch.reports import dataset
from batch.reports.columns import column_names
from batch.reports.dataset import SUCCESS_FILE
from batch.reports.report import open_report
from batch.reports.tabular import ROW_GROUP_ROWS, Value
from tests.batch.reading.test_diff import LIST, NEW, OLD, failed, labelled
from tests.batch.reports.test_report import ABSTAINED, OUTPUTS
from tests.support.datasets import rows
from tests.support.object_store import Bucket, bucket, s3_server

__all__ = ["bucket", "s3_server"]  # fixtures

LABELS = ("happy", "sad")


def write(
    output: str, rows: Iterable[Row], per_face: bool = False, outputs: tuple[str, ...] = LABELS
) -> None:
    with open_report(output, outputs, per_face, io.BytesIO()) as report:
        for row in rows:
            report.add(row)
        report.publish()


def read(place: Location, names: tuple[str, ...]) -> list[tuple[int, tuple[Value, ...]]]:
    with open_reader(place) as reader:
        return list(reader.records(names))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset of a hundred rows in four files."""
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 30)
    write(f"{tmp_path}/results/", rows(100))
    monkeypatch.undo()
    return f"{tmp_path}/results/"


FACES = [labelled("two.jpg", 0.9, faces=2), failed("b.jpg"), labelled("one.jpg", 0.7, sure=False)]


@pytest.mark.parametrize("per_face", [False, True], ids=["photos", "faces"])
def test_rows_are_those_of_the_parquet_report_in_its_order(tmp_path: Path, per_face: bool) -> None:
    said = [*FACES, *ABSTAINED, *rows(40)]
    write(f"{tmp_path}/d/", said, per_face, OUTPUTS)
    write(f"{tmp_path}/r.parquet", said, per_face, OUTPUTS)
    names = column_names(OUTPUTS, per_face)
    with open_reader(tmp_path / "d") as reader:
        assert reader.columns == names
    assert read(tmp_path / "d", names) == read(tmp_path / "r.parquet", names)
    some = ("error", "label", "path")
    assert read(tmp_path / "d", some) == read(tmp_path / "r.parquet", some)


def test_the_order_holds_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 7)
    labels = ("a/b", "50%", "größer 微笑")
    write(f"{tmp_path}/d/", rows(200, labels), outputs=labels)
    write(f"{tmp_path}/r.parquet", rows(200, labels), outputs=labels)
    assert len(list(Path(tmp_path, "d").rglob("*.parquet"))) > 20
    names = column_names(labels, per_face=False)
    assert read(tmp_path / "d", names) == read(tmp_path / "r.parquet", names)


@pytest.mark.parametrize("said", [[], [failed("a.jpg")]], ids=["no row", "no answer"])
def test_a_dataset_without_an_answer_is_read(tmp_path: Path, said: list[Row]) -> None:
    write(f"{tmp_path}/d/", said)
    assert len(read(tmp_path / "d", ("path", "error"))) == len(said)


def test_reading_streams(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        write(f"{tmp_path}/{count}/", rows(count))
        tracemalloc.start()
        assert len({path for _, (path, _) in read_lazily(tmp_path / str(count))}) == 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    def read_lazily(place: Path) -> Iterable[tuple[int, tuple[Value, ...]]]:
        with open_reader(place) as reader:
            for number, (path, error) in reader.records(("path", "error")):
                yield number, (str(path)[:6], error)

    peak(10)  # what is imported and cached on the first time
    few = 2 * ROW_GROUP_ROWS
    assert peak(3 * few) < peak(few) + 500_000


@pytest.mark.parametrize("other", ["new.csv", "new/"])
@pytest.mark.parametrize("per_face", [False, True], ids=["photos", "faces"])
def test_a_diff_is_that_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, per_face: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new = ([*OLD, FACES[0]], [*NEW, *FACES]) if per_face else (OLD, NEW)
    for name, said in (("old", old), ("new", new)):
        write(f"{name}.csv", said, per_face)
        write(f"{name}/", said, per_face)
    expected = diff("old.csv", "new.csv", "expected.csv", io.BytesIO())
    assert diff("old/", other, "found.csv", io.BytesIO()) == expected
    assert Path("found.csv").read_bytes() == Path("expected.csv").read_bytes()
    if not per_face:
        assert Path("found.csv").read_text() == LIST


def without_its_list(folder: Path) -> None:
    (folder / SUCCESS_FILE).unlink()


def without_a_file(folder: Path) -> None:
    last_file(folder).unlink()


def last_file(folder: Path) -> Path:
    return max(folder.glob("part-*"))


def with_a_file_cut_off(folder: Path) -> None:
    part = last_file(folder)
    part.write_bytes(part.read_bytes()[:-1])


def with_a_damaged_file(folder: Path) -> None:
    part = last_file(folder)
    part.write_bytes(bytes(part.stat().st_size))


def with_another_s_list(folder: Path) -> None:
    (folder / SUCCESS_FILE).write_bytes(b"")  # as Spark leaves it


def with_a_list_of_files_elsewhere(folder: Path) -> None:
    changed(folder, lambda listed: listed["files"][0].update(path="../../etc/passwd"))


def with_a_list_of_impossible_files(folder: Path) -> None:
    path = "part-00000\0\ud800-0123456789ab.parquet"
    changed(folder, lambda listed: listed["files"][0].update(path=path))


def with_a_list_of_more_rows(folder: Path) -> None:
    changed(folder, lambda listed: listed["files"][0].update(rows=1_000))


def with_a_list_without_files(folder: Path) -> None:
    changed(folder, lambda listed: listed.update(files=[]))


def with_a_file_of_other_columns(folder: Path) -> None:
    """Add a file of another dataset, which no run would do."""
    other = folder.parent / "other"
    write(f"{other}/", ABSTAINED, outputs=OUTPUTS[1:])
    file = json.loads((other / SUCCESS_FILE).read_bytes())["files"][0]
    shutil.copy(other / file["path"], folder)
    changed(folder, lambda listed: listed["files"].append(file))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    listed = json.loads((folder / SUCCESS_FILE).read_bytes())
    change(listed)
    (folder / SUCCESS_FILE).write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_its_list, "is not a dataset, or was never finished: it has no _SUCCESS; "),
        (without_a_file, r"is incomplete: part-00003-\S+ is missing; try again .*, else write it"),
        (with_a_file_cut_off, r"is incomplete: part-00003-\S+ has \d+ bytes, not \d+; "),
        (with_a_damaged_file, r"file part-00003-\S+, is damaged \(not Parquet: "),
        (
            with_another_s_list,
            r"is not a dataset of batch-label: another program wrote its _SUCCESS; ",
        ),
        (with_a_list_of_files_elsewhere, "is not a dataset of batch-label: "),
        (with_a_list_of_impossible_files, "is not a dataset of batch-label: "),
        (with_a_list_of_more_rows, r"file part-00000-\S+, is damaged \(it has 30 rows, not 1000\)"),
        (with_a_list_without_files, "is not a dataset of batch-label: "),
        (with_a_file_of_other_columns, r"file part-00000-\S+, is damaged "),
    ],
)
def test_an_incomplete_or_foreign_dataset_is_refused(
    folder: str, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(Path(folder))
    with pytest.raises(ReportError, match=f"^report {Path(folder)}.* *{told}") as caught:
        read(Path(folder), ("path", "label", "p_happy"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_goes_while_it_is_read_is_named(folder: str) -> None:
    with open_reader(Path(folder)) as reader:
        records = reader.records(("path", "label"))
        next(records)
        without_a_file(Path(folder))
        with pytest.raises(ReportError, match="is missing; try again if it was replaced"):
            list(records)


def test_files_that_are_not_listed_are_ignored(folder: str) -> None:
    before = read(Path(folder), ("path", "label"))
    part = last_file(Path(folder))
    shutil.copy(part, part.with_name("part-00001-0123456789ab.parquet"))
    assert read(Path(folder), ("path", "label")) == before


def test_a_damaged_dataset_leaves_the_earlier_list_of_changes(folder: str, tmp_path: Path) -> None:
    write(f"{tmp_path}/old/", rows(90))
    (tmp_path / "changes.csv").write_text("earlier")
    with_a_damaged_file(Path(folder))
    with pytest.raises(ReportError, match="is damaged"):
        diff(f"{tmp_path}/old/", folder, f"{tmp_path}/changes.csv", io.BytesIO())
    assert (tmp_path / "changes.csv").read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"changes.csv", "old", "results"}


def test_nothing_is_written_into_a_dataset(folder: str, tmp_path: Path) -> None:
    write(f"{tmp_path}/r.csv", rows(10))
    (tmp_path / "link").symlink_to(folder)
    for output in (f"{folder}changes.csv", f"{tmp_path}/link/changes.csv"):
        with pytest.raises(UsageError, match="would be inside the dataset"):
            diff(f"{tmp_path}/r.csv", folder, output, io.BytesIO())


def test_a_name_without_a_suffix_is_told_how_to_name_a_dataset(bucket: Bucket) -> None:
    write(bucket.url("old/"), rows(10))
    with pytest.raises(ReportError, match=r"no suffix .* or a dataset, whose URL ends in /"):
        diff(bucket.url("r"), bucket.url("old/"), "-", io.BytesIO())


def test_datasets_in_a_store_are_compared_as_in_folders(bucket: Bucket, tmp_path: Path) -> None:
    for name, said in (("old", OLD), ("new", NEW)):
        write(f"{tmp_path}/{name}/", said)
        write(bucket.url(f"{name}/"), said)
    output = f"{tmp_path}/changes.csv"
    for new in (bucket.url("new/"), f"{tmp_path}/new/"):
        diff(bucket.url("old/"), new, output, io.BytesIO())
        assert Path(output).read_text() == LIST


def test_in_a_store_only_listed_files_are_read(bucket: Bucket) -> None:
    write(bucket.url("night/"), rows(100))
    place = parse_location(bucket.url("night/"))
    before = read(place, ("path", "label"))
    named = next(key for key in sorted(bucket.keys()) if "/part-" in key)
    left_over = named.rpartition("/")[0] + "/part-00001-0123456789ab.parquet"
    bucket.write(left_over, bucket.read(named))  # as of a publication that was cut off
    assert read(place, ("path", "label")) == before
    bucket.store.rm_file(f"{bucket.name}/{named}")
    with pytest.raises(ReportError, match=r"is incomplete: part-00000-\S+ is missing"):
        read(place, ("path", "label"))
    bucket.store.rm_file(f"{bucket.name}/night/{SUCCESS_FILE}")
    with pytest.raises(ReportError, match="is not a dataset, or was never finished"):
        read(place, ("path", "label"))
