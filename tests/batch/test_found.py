"""Values of untrusted listings are checked before they enter a run."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.discovery.discover import Discovery
from batch.discovery.manifest import read_manifest
from batch.discovery.remote import StoreEntry
from batch.discovery.walk import stat_file
from batch.found import (
    MAX_ETAG_CHARS,
    MAX_PATH_BYTES,
    FoundFile,
    make_failed,
    make_found,
    to_nanoseconds,
)
from batch.options import Search
from batch.records import Reason

LAST = 2**63 - 1


@pytest.mark.parametrize(
    ("size", "known"),
    [(0, 0), (LAST, LAST), (LAST + 1, None), (-1, None), (10**30, None), (1.0, None), (True, None),
     ("5", None), (None, None)],
)  # fmt: skip
def test_an_invalid_size_is_unknown(size: object, known: int | None) -> None:
    assert make_found("a.jpg", size).size == known


@pytest.mark.parametrize(
    ("time", "known"),
    [(0, 0), (-5, -5), (2**70, LAST), (-(2**70), -LAST - 1), (1.5, None), ("x", None)],
)
def test_a_time_is_clamped_to_64_bits(time: object, known: int | None) -> None:
    assert make_found("a.jpg", 1, time).mtime_ns == known


@pytest.mark.parametrize(
    ("seconds", "known"),
    [(1.5, 1_500_000_000), (datetime(1970, 1, 2, tzinfo=UTC), 86_400 * 10**9), (1e300, None),
     (float("inf"), None), (float("-inf"), None), (float("nan"), None), (10**30, None),
     (datetime(1, 1, 1), None), ("x", None), (None, None), (True, None)],
)  # fmt: skip
def test_an_invalid_time_is_unknown(seconds: object, known: int | None) -> None:
    time = make_found("a.jpg", 1, to_nanoseconds(seconds)).mtime_ns
    assert time == known or (known is None and time in (LAST, -LAST - 1))


@pytest.mark.parametrize("etag", ["", "a\nb", "\udcff", "x" * (MAX_ETAG_CHARS + 1), 5, None])
def test_an_invalid_etag_is_unknown(etag: object) -> None:
    assert make_found("a.jpg", 1, 1, etag).etag == (etag if etag == "" else None)
    assert make_found("a.jpg", 1, 1, 'W/"5-x"').etag == 'W/"5-x"'


@pytest.mark.parametrize("info", [{"size": 10**30}, {"size": -5}, {"size": "1", "mtime": 1e300}])
def test_any_value_of_a_server_is_accepted(info: dict[str, Any]) -> None:
    entry = StoreEntry("https://x/a.jpg", None, "a.jpg", info)
    assert entry.found.size is None
    assert entry.found.failure is None


def test_long_paths_are_shortened_and_stay_different() -> None:
    longest = "é" * (MAX_PATH_BYTES // 2)
    assert make_found(longest, 1) == FoundFile(longest, 1)
    cut = [make_found(f"{longest}{n}.jpg", 1) for n in range(2)]
    cut += [make_failed(f"\udcff{longest}", Reason.VANISHED, "gone")]
    assert len({file.path for file in cut}) == 3
    for file in cut:
        assert file.failure
        assert file.failure.reason is Reason.UNREADABLE
        assert "more than 32,768 bytes" in file.failure.detail
        assert len(os.fsencode(file.path)) < MAX_PATH_BYTES
        assert os.fspath(file.failure.path) == file.path
    assert cut[0].path.endswith(".jpg")


def test_a_foreign_manifest_may_have_any_whole_number(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"12345")
    big = pa.array([2**64 - 1, 2**63], pa.uint64())
    table = pa.table({"path": [os.fspath(photo), "s3://b/a.jpg"], "size": big, "mtime_ns": big})
    pq.write_table(table, tmp_path / "m.parquet")
    here, there = read_manifest(os.fspath(tmp_path / "m.parquet"))
    assert here == stat_file(os.fspath(photo))
    assert (here.size, here.mtime_ns) == (5, photo.stat().st_mtime_ns)
    assert there == FoundFile("s3://b/a.jpg", None, LAST)


@pytest.mark.parametrize("seconds", [2**33, -(2**31)])
def test_a_time_of_a_file_system_fits(tmp_path: Path, seconds: int) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"12345")
    os.utime(photo, ns=(0, seconds * 10**9))
    for start in (tmp_path, photo):
        (found,) = Discovery([os.fspath(start)], Search())
        assert found.failure is None
        assert found.mtime_ns is not None
        assert abs(found.mtime_ns) <= LAST
