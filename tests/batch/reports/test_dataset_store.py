"""Datasets in an object store: new files first, then the list, then old files go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import OutputError, UsageError
from batch.reports import dataset, dataset_store
from batch.reports.dataset import SUCCESS_FILE, parse_success
from batch.reports.report import check_output
from tests.support.datasets import files, read, write
from tests.support.object_store import Bucket, bucket, run_failing_proxy, s3_server

__all__ = ["bucket", "s3_server"]  # fixtures

SWAPPED = ("sad", "happy")


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
    """Return the method and name of each object that an action puts or deletes."""
    with run_failing_proxy(bucket.endpoint, lambda method, path: None) as proxy:
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

    with run_failing_proxy(bucket.endpoint, fails) as proxy:
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
