"""S3 inventories become manifests: all three formats, from a copy of the bucket or by a URL."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import fsspec
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from batch.discovery.inventory import ROWS_PER_BATCH, Inventory
from batch.discovery.manifest import read_manifest
from batch.errors import ExitCode, InputError
from batch.found import FoundFile
from batch.options import Search
from tests.support.runs import RunFolder

PREFIX = "inv/photos/daily"
MANIFEST = f"{PREFIX}/2026-01-04T01-00Z/manifest.json"
SECOND = 1_700_000_000
TIME = datetime.fromtimestamp(SECOND, UTC).replace(microsecond=250_000)
TIME_NS = SECOND * 10**9 + 250_000_000
ETAG = "d41d8cd98f00b204e9800998ecf8427e"

# Key, whether it is the latest version, whether it marks a deletion.
OBJECTS = [
    ("2024/a b+c,\"1\".JPG", True, False),
    ("2024/größe.png", True, False),
    ("2024/old.jpg", False, False),
    ("2024/deleted.jpg", True, True),
    ("2024/notes.txt", True, False),
    ("2024/", True, False),
    (".cache/thumb.jpg", True, False),
    ("z.webp", True, False),
]  # fmt: skip
PHOTOS = ["2024/a b+c,\"1\".JPG", "2024/größe.png", "z.webp"]  # fmt: skip
CSV_SCHEMA = (
    "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
)


def _csv(objects: list[tuple[str, bool, bool]]) -> tuple[str, bytes]:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    time = TIME.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for key, latest, deleted in objects:
        size = "" if deleted else "17"
        words = ("v1", str(latest).lower(), str(deleted).lower(), size, time, ETAG, "STANDARD")
        writer.writerow(("photos", quote_plus(key, safe="/"), *words))
    return CSV_SCHEMA, gzip.compress(text.getvalue().encode())


def _table(objects: list[tuple[str, bool, bool]], unit: str) -> pa.Table:
    keys, latest, deleted = zip(*objects, strict=True)
    return pa.table(
        {
            "bucket": ["photos"] * len(keys),
            "key": keys,
            "version_id": ["v1"] * len(keys),
            "is_latest": latest,
            "is_delete_marker": deleted,
            "size": pa.array([None if d else 17 for d in deleted], pa.int64()),
            "last_modified_date": pa.array([TIME] * len(keys), pa.timestamp(unit, "UTC")),
            "e_tag": [ETAG] * len(keys),
            "storage_class": ["STANDARD"] * len(keys),
        }
    )


def _orc(objects: list[tuple[str, bool, bool]]) -> tuple[str, bytes]:
    data = io.BytesIO()
    pyarrow.orc.write_table(_table(objects, "ns"), data)
    return "struct<bucket:string,key:string,version_id:string,is_latest:boolean>", data.getvalue()


def _parquet(objects: list[tuple[str, bool, bool]]) -> tuple[str, bytes]:
    data = io.BytesIO()
    pq.write_table(_table(objects, "ms"), data)
    return "message s3.inventory { required binary bucket (UTF8); }", data.getvalue()


Maker = Callable[[list[tuple[str, bool, bool]]], tuple[str, bytes]]
FORMATS: dict[str, tuple[str, Maker]] = {
    "CSV": ("csv.gz", _csv),
    "ORC": ("orc", _orc),
    "Parquet": ("parquet", _parquet),
}
each_format = pytest.mark.parametrize("form", list(FORMATS))


def _bucket(form: str, *parts: list[tuple[str, bool, bool]]) -> dict[str, bytes]:
    """Make the objects of a bucket with an inventory in it."""
    suffix, make = FORMATS[form]
    files: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    schema = ""
    for number, objects in enumerate(parts):
        key = f"{PREFIX}/data/{number}-0a1b.{suffix}"
        schema, files[key] = make(objects)
        md5 = hashlib.md5(files[key], usedforsecurity=False).hexdigest()
        listed.append({"key": key, "size": len(files[key]), "MD5checksum": md5})
    manifest = {
        "sourceBucket": "photos",
        "destinationBucket": "arn:aws:s3:::reports",
        "version": "2016-11-30",
        "creationTimestamp": "1767488400000",
        "fileFormat": form,
        "fileSchema": schema,
        "files": listed,
    }
    return {MANIFEST: json.dumps(manifest).encode(), **files}


def _copy(files: dict[str, bytes], folder: Path) -> Path:
    for key, data in files.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return folder / MANIFEST


def _files(manifest: str | Path, hidden: bool = False) -> tuple[list[FoundFile], list[str]]:
    left_out: list[str] = []
    inventory = Inventory(str(manifest))
    found = list(
        inventory.files(Search(hidden=hidden), lambda path, why: left_out.append(f"{path}: {why}"))
    )
    return found, left_out


def _found(key: str) -> FoundFile:
    return FoundFile(f"s3://photos/{key}", 17, TIME_NS, etag=ETAG)


@each_format
def test_the_latest_photos_are_found_in_order(form: str, tmp_path: Path) -> None:
    files, left_out = _files(_copy(_bucket(form, OBJECTS[:4], OBJECTS[4:]), tmp_path))
    assert files == [_found(key) for key in PHOTOS]
    assert left_out == [
        "s3://photos/2024/notes.txt: no image",
        "s3://photos/2024/: no image",
        "s3://photos/.cache/thumb.jpg: hidden",
    ]


@each_format
def test_it_is_read_from_its_bucket_by_a_url(form: str) -> None:
    memory = fsspec.filesystem("memory")
    for key, data in _bucket(form, OBJECTS).items():
        memory.pipe(f"/reports/{key}", data)
    try:
        files, _ = _files(f"memory://reports/{MANIFEST}")
    finally:
        memory.rm("/reports", recursive=True)
    assert files == [_found(key) for key in PHOTOS]


@each_format
def test_no_row_is_lost_between_two_batches(form: str, tmp_path: Path) -> None:
    objects = [(f"{n:06}.jpg", True, False) for n in range(2 * ROWS_PER_BATCH + 1)]
    files, _ = _files(_copy(_bucket(form, objects), tmp_path))
    assert [file.path for file in files] == [f"s3://photos/{key}" for key, _, _ in objects]


def test_the_files_may_lie_beside_the_folder_of_the_manifest(tmp_path: Path) -> None:
    """As a copy of the configuration's own folder has them."""
    files = _bucket("CSV", OBJECTS)
    cut = {key.removeprefix(f"{PREFIX}/"): data for key, data in files.items()}
    _copy(cut, tmp_path)
    assert len(_files(tmp_path / MANIFEST.removeprefix(f"{PREFIX}/"))[0]) == len(PHOTOS)


def test_hidden_objects_are_found_where_they_are_asked_for(tmp_path: Path) -> None:
    files, _ = _files(_copy(_bucket("CSV", OBJECTS), tmp_path), hidden=True)
    assert _found(".cache/thumb.jpg") in files


def test_fields_that_were_not_asked_for_are_unknown(tmp_path: Path) -> None:
    files = _bucket("CSV", OBJECTS)
    manifest = json.loads(files[MANIFEST]) | {"fileSchema": "Bucket, Key"}
    data = gzip.compress(b'"photos","a.jpg"\n"photos","b%2Bc.jpg"\n')
    manifest["files"] = [{"key": f"{PREFIX}/data/0.csv.gz", "size": len(data)}]
    files = {MANIFEST: json.dumps(manifest).encode(), f"{PREFIX}/data/0.csv.gz": data}
    assert _files(_copy(files, tmp_path))[0] == [
        FoundFile("s3://photos/a.jpg"),
        FoundFile("s3://photos/b+c.jpg"),
    ]


@each_format
def test_a_damaged_file_is_refused(form: str, tmp_path: Path) -> None:
    files = _bucket(form, OBJECTS)
    manifest = json.loads(files[MANIFEST])
    key = manifest["files"][0]["key"]
    files[key] = files[key][:-30]
    with pytest.raises(InputError, match=rf"file {key}, is damaged \(its MD5 is"):
        _files(_copy(files, tmp_path))
    del manifest["files"][0]["MD5checksum"]  # and where nobody would have noticed
    files[MANIFEST] = json.dumps(manifest).encode()
    with pytest.raises(InputError, match=f"file {key}, "):
        _files(_copy(files, tmp_path))


def test_a_row_of_the_wrong_width_is_refused_with_its_number(tmp_path: Path) -> None:
    files = _bucket("CSV", OBJECTS)
    manifest = json.loads(files[MANIFEST])
    (entry,) = manifest["files"]
    files[entry["key"]] = gzip.compress(b'"photos","a.jpg"\n')
    del entry["MD5checksum"]
    files[MANIFEST] = json.dumps(manifest).encode()
    with pytest.raises(InputError, match=r"line 1: 2 fields, not 9\); give the manifest.json"):
        _files(_copy(files, tmp_path))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "is damaged"),
        (b"[]", "is none"),
        (b"{}", "is none: KeyError.'sourceBucket'. is amiss"),
        (b'{"sourceBucket": "b", "fileFormat": "XML"}', "'XML'"),
    ],
)
def test_what_is_no_inventory_is_refused(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(InputError, match=why):
        Inventory(str(tmp_path / "manifest.json"))


def test_the_command_writes_a_manifest_of_it(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    manifest = _copy(_bucket("ORC", OBJECTS), tmp_path)
    ran = place.command("manifest", "--inventory", manifest, "-o", "m.parquet")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert "3 files in m.parquet; 3 left out" in ran.stderr
    assert list(read_manifest(str(tmp_path / "m.parquet"))) == [_found(key) for key in PHOTOS]


def test_an_inventory_without_its_files_leaves_no_manifest(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    files = _bucket("CSV", OBJECTS)
    manifest = _copy({MANIFEST: files[MANIFEST]}, tmp_path)
    ran = place.command("manifest", "--inventory", manifest, "-o", "m.parquet")
    assert ran.returncode == ExitCode.USAGE
    assert "can't be read (No such file or directory); give the manifest.json" in ran.stderr
    assert not (tmp_path / "m.parquet").exists()
