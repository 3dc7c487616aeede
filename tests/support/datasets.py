"""Datasets that tests write and read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet

from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from batch.reports.columns import flatten_row, make_columns
from batch.reports.dataset import SUCCESS_FILE, DatasetWriter, parse_success
from batch.reports.report import open_report


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
    """Write a dataset of a number of rows into a folder that is not published yet."""
    writer = DatasetWriter(place, make_columns(("happy", "sad"), per_face=False))
    for row in rows(number):
        for record in flatten_row(row, ("happy", "sad"), per_face=False):
            writer.write(record)
    writer.finish()
    return place


def write(output: str | Path, number: int, labels: tuple[str, ...] = ("happy", "sad")) -> None:
    """Write and publish a dataset of a number of rows."""
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
