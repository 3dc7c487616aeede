"""Datasets read back: the rows of the report as a file, in its order, or a refusal."""

from __future__ import annotations

import io
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from batch.errors import ExitCode, ReportError, UsageError
from batch.location import Location, parse_location
from batch.reading.diff import diff
from batch.reading.saved import open_reader
from batch.records import Row
from batch.reports import dataset
from batch.reports.columns import column_names
from batch.reports.dataset import ORDER_FILE, SUCCESS_FILE
from batch.reports.formats import ROW_GROUP_ROWS, Value
from batch.reports.report import open_report
from tests.batch.reading.test_diff import LIST, NEW, OLD, failed, labelled
from tests.batch.reports.test_dataset import rows
from tests.batch.reports.test_report import ABSTAINED, OUTPUTS
from tests.support.object_store import Bucket, bucket, s3_server
from tests.support.runs import RunFolder

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
def folder(tmp_path: Path) -> str:
    """A dataset of a hundred rows in five folders."""
    write(f"{tmp_path}/results/", rows(100))
    return f"{tmp_path}/results/"


FACES = [labelled("two.jpg", 0.9, faces=2), failed("b.jpg"), labelled("one.jpg", 0.7, sure=False)]


@pytest.mark.parametrize("per_face", [False, True], ids=["photos", "faces"])
def test_its_rows_are_those_of_the_file_in_its_order(tmp_path: Path, per_face: bool) -> None:
    said = [*FACES, *ABSTAINED, *rows(40)]
    write(f"{tmp_path}/d/", said, per_face, OUTPUTS)
    write(f"{tmp_path}/r.parquet", said, per_face, OUTPUTS)
    names = column_names(OUTPUTS, per_face)
    with open_reader(tmp_path / "d") as reader:
        assert reader.columns == names
    assert read(tmp_path / "d", names) == read(tmp_path / "r.parquet", names)
    some = ("error", "label", "path")
    assert read(tmp_path / "d", some) == read(tmp_path / "r.parquet", some)
    folders = ("label", "status")
    assert read(tmp_path / "d", folders) == read(tmp_path / "r.parquet", folders)


def test_their_order_holds_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_ROWS_PER_FILE", 7)
    monkeypatch.setattr(dataset, "MAX_OPEN_FILES", 4)
    labels = ("a/b", "50%", "größer 微笑")
    write(f"{tmp_path}/d/", rows(200, labels), outputs=labels)
    write(f"{tmp_path}/r.parquet", rows(200, labels), outputs=labels)
    assert len(list(Path(tmp_path, "d").rglob("*.parquet"))) > 20
    names = column_names(labels, per_face=False)
    assert read(tmp_path / "d", names) == read(tmp_path / "r.parquet", names)


@pytest.mark.parametrize("said", [[], [failed("a.jpg")]], ids=["no row", "no answer"])
def test_one_without_an_answer_is_read(tmp_path: Path, said: list[Row]) -> None:
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
    next((folder / "status=ok" / "label=sad").iterdir()).unlink()


def without_its_order(folder: Path) -> None:
    next(folder.glob(f"{ORDER_FILE}*")).unlink()


def with_a_file_cut_off(folder: Path) -> None:
    part = next((folder / "status=ok" / "label=sad").iterdir())
    part.write_bytes(part.read_bytes()[:-1])


def with_a_damaged_file(folder: Path) -> None:
    part = next((folder / "status=ok" / "label=sad").iterdir())
    part.write_bytes(bytes(part.stat().st_size))


def with_another_s_list(folder: Path) -> None:
    (folder / SUCCESS_FILE).write_bytes(b"")  # as Spark leaves it


def with_a_list_of_files_elsewhere(folder: Path) -> None:
    changed(folder, lambda listed: listed["files"][0].update(path="../../etc/passwd"))


def with_a_list_of_files_that_are_none(folder: Path) -> None:
    path = "status=ok\0/label=\ud800/part-00000-0123456789ab.parquet"
    changed(folder, lambda listed: listed["files"][0].update(path=path))


def with_a_list_of_more_rows(folder: Path) -> None:
    changed(folder, lambda listed: listed["files"][0].update(rows=1_000))


def with_a_list_without_order(folder: Path) -> None:
    changed(folder, lambda listed: listed.pop("order"))


def in_the_order_of(rows: Iterable[Row], folder: Path) -> None:
    """Give it another dataset's order, as only a hand could."""
    write(f"{folder.parent}/other/", rows)
    other = folder.parent / "other"
    order = json.loads((other / SUCCESS_FILE).read_bytes())["order"]
    shutil.copy(other / order["path"], folder)
    changed(folder, lambda listed: listed.update(order=order))


def with_too_long_an_order(folder: Path) -> None:
    in_the_order_of(rows(110), folder)


def with_too_short_an_order(folder: Path) -> None:
    in_the_order_of(rows(99), folder)


def with_an_order_of_other_folders(folder: Path) -> None:
    in_the_order_of([labelled("a.jpg", 0.9), *NEW[6:7]], folder)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    listed = json.loads((folder / SUCCESS_FILE).read_bytes())
    change(listed)
    (folder / SUCCESS_FILE).write_text(json.dumps(listed))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_its_list, "is no dataset, or one that was never finished: it has no _SUCCESS; "),
        (without_a_file, r"is not whole: status=ok/label=sad/part-\S+ is not there; try again if "),
        (without_its_order, r"is not whole: _order-\S+ is not there; .*, else write it anew"),
        (with_a_file_cut_off, r"is not whole: status=ok/label=sad/\S+ has \d+ bytes, not \d+; "),
        (with_a_damaged_file, r"file status=ok/label=sad/part-\S+, is damaged \(no Parquet: "),
        (with_another_s_list, r"is no dataset of batch-label, as its _SUCCESS tells; "),
        (with_a_list_of_files_elsewhere, r"is no dataset of batch-label, as its _SUCCESS tells; "),
        (
            with_a_list_of_files_that_are_none,
            r"is no dataset of batch-label, as its _SUCCESS tells; ",
        ),
        (with_a_list_of_more_rows, r"file status=\S+, is damaged \(it has \d+ rows, not 1000\)"),
        (with_a_list_without_order, r"is no dataset of batch-label, as its _SUCCESS tells; "),
        (with_too_long_an_order, "its files do not have the rows that its order names"),
        (with_too_short_an_order, "its files do not have the rows that its order names"),
        (with_an_order_of_other_folders, "its files do not have the rows that its order names"),
    ],
)
def test_what_is_torn_or_foreign_is_refused(
    folder: str, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(Path(folder))
    with pytest.raises(ReportError, match=f"^report {Path(folder)}.* *{told}") as caught:
        read(Path(folder), ("path", "label"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_goes_while_it_is_read_is_named(folder: str) -> None:
    with open_reader(Path(folder)) as reader:
        records = reader.records(("path", "label"))
        next(records)
        without_a_file(Path(folder))
        with pytest.raises(ReportError, match="is not there; try again if it was replaced"):
            list(records)


def test_files_that_it_does_not_list_are_none_of_its(folder: str) -> None:
    before = read(Path(folder), ("path", "label"))
    part = next(Path(folder, "status=ok", "label=sad").iterdir())
    shutil.copy(part, part.with_name("part-00001-0123456789ab.parquet"))
    assert read(Path(folder), ("path", "label")) == before


def test_a_torn_one_leaves_no_list_of_changes(folder: str, tmp_path: Path) -> None:
    write(f"{tmp_path}/old/", rows(90))
    (tmp_path / "changes.csv").write_text("earlier")
    with_a_damaged_file(Path(folder))
    with pytest.raises(ReportError, match="is damaged"):
        diff(f"{tmp_path}/old/", folder, f"{tmp_path}/changes.csv", io.BytesIO())
    assert (tmp_path / "changes.csv").read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"changes.csv", "old", "results"}


def test_nothing_is_written_into_one(folder: str, tmp_path: Path) -> None:
    write(f"{tmp_path}/r.csv", rows(10))
    (tmp_path / "link").symlink_to(folder)
    for output in (f"{folder}changes.csv", f"{tmp_path}/link/changes.csv"):
        with pytest.raises(UsageError, match=r"would lie in .*, which is replaced as a whole"):
            diff(f"{tmp_path}/r.csv", folder, output, io.BytesIO())


def test_a_name_without_a_suffix_is_told_how_to_name_a_dataset(bucket: Bucket) -> None:
    write(bucket.url("old/"), rows(10))
    with pytest.raises(ReportError, match=r"no suffix .* or a dataset, whose URL ends in /"):
        diff(bucket.url("r"), bucket.url("old/"), "-", io.BytesIO())


def test_in_a_store_they_are_compared_as_in_folders(bucket: Bucket, tmp_path: Path) -> None:
    for name, said in (("old", OLD), ("new", NEW)):
        write(f"{tmp_path}/{name}/", said)
        write(bucket.url(f"{name}/"), said)
    output = f"{tmp_path}/changes.csv"
    for new in (bucket.url("new/"), f"{tmp_path}/new/"):
        diff(bucket.url("old/"), new, output, io.BytesIO())
        assert Path(output).read_text() == LIST


def test_in_a_store_only_what_its_list_names_is_read(bucket: Bucket) -> None:
    write(bucket.url("night/"), rows(100))
    place = parse_location(bucket.url("night/"))
    before = read(place, ("path", "label"))
    named = next(key for key in sorted(bucket.keys()) if "status=ok/label=sad" in key)
    left_over = named.rpartition("/")[0] + "/part-00001-0123456789ab.parquet"
    bucket.write(left_over, bucket.read(named))  # as of a publication that was cut off
    assert read(place, ("path", "label")) == before
    bucket.store.rm_file(f"{bucket.name}/{named}")
    with pytest.raises(ReportError, match=r"is not whole: status=ok/label=sad/\S+ is not there"):
        read(place, ("path", "label"))
    bucket.store.rm_file(f"{bucket.name}/night/{SUCCESS_FILE}")
    with pytest.raises(ReportError, match="is no dataset, or one that was never finished"):
        read(place, ("path", "label"))


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is of util-linux")
def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    labels = tuple(f"label {n}" for n in range(40))
    write(f"{tmp_path}/d/", rows(400, labels), outputs=labels)
    place = RunFolder(tmp_path)
    ran = place.command("diff", "d/", "d/", before=("prlimit", "--nofile=50:1000"))
    assert ran.returncode == ExitCode.OK, ran.stderr
    ran = place.command("diff", "d/", "d/", before=("prlimit", "--nofile=50:60"))
    assert ran.returncode == ExitCode.USAGE
    assert "files of report d can't be open at once: the system allows 60 files" in ran.stderr
