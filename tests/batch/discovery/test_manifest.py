"""Manifests, written by the command or by other programs, are read as the files they list."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.discovery.discover import Discovery
from batch.discovery.manifest import (
    COLUMNS,
    ROWS_PER_GROUP,
    VERSION,
    VERSION_KEY,
    read_manifest,
    write_manifest,
)
from batch.errors import ExitCode, InputError
from batch.found import FoundFile
from batch.location import Url
from batch.options import Search
from batch.path_text import parse_path_text
from batch.records import Failure, Reason, Stage
from batch.reports.tabular import ColumnKind
from tests.conftest import REPOSITORY
from tests.support.runs import (
    REPORT,
    RunFolder,
    find_drafts,
    make_photos,
    unprivileged_prefix,
    wait_for,
    wait_for_end,
)

NUMBER = 12
TEXT = (REPOSITORY / "docs" / "shards.md").read_text(encoding="utf-8")
ODD = ["=1.jpg", "a\\b.jpg", "new\nline.jpg", os.fsdecode(b"\xff.jpg"), "größe.jpg", "a ://b.jpg"]


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", NUMBER)
    for name in ODD:
        if "/" not in name:
            make_photos(tmp_path / "photos", 1, first=500).joinpath("00500.jpg").rename(
                tmp_path / "photos" / name
            )
    return RunFolder(tmp_path)


def _manifest(place: RunFolder, *args: str, code: int = 0) -> Path:
    ran = place.command("manifest", *args, "-o", "m.parquet")
    assert ran.returncode == code, ran.stderr
    return place.folder / "m.parquet"


def _written(path: Path, *files: FoundFile) -> Path:
    with path.open("wb") as stream:
        write_manifest(files, stream)
    return path


def _foreign(file: Path, /, **columns: Any) -> str:
    pq.write_table(pa.table(columns), file)
    return os.fspath(file)


def test_files_are_read_back_as_written(tmp_path: Path) -> None:
    failure = Failure(Path("locked"), Stage.READ, Reason.UNREADABLE, "Permission \\ denied\n")
    files = (
        *(FoundFile(os.fspath(Path(name)), 5, 7) for name in ODD),
        FoundFile("s3://bucket/a//b.jpg", 2**40, None, etag="abc-3"),
        FoundFile("zip://in/a.jpg::s3://bucket/p.zip", 1, 2),
        FoundFile("locked", failure=failure),
        FoundFile("old.jpg", 1, -(2**62)),
    )
    path = _written(tmp_path / "m.parquet", *files)
    assert tuple(read_manifest(os.fspath(path))) == files
    file = pq.ParquetFile(path)
    assert file.schema_arrow.names == [column.name for column in COLUMNS]
    assert file.schema_arrow.metadata[VERSION_KEY.encode()] == str(VERSION).encode()
    texts = file.read().column("path").to_pylist()
    assert [os.fspath(parse_path_text(text)) for text in texts] == [file.path for file in files]


def test_a_time_beyond_64_bits_is_the_last_that_fits(tmp_path: Path) -> None:
    path = _written(tmp_path / "m.parquet", FoundFile("a.jpg", 1, 2**64))
    (found,) = read_manifest(os.fspath(path))
    assert found.mtime_ns == 2**63 - 1


def test_rows_are_written_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    number = ROWS_PER_GROUP + 1
    _written(path, *(FoundFile(f"{n:07}.jpg", n, n) for n in range(number)))
    assert pq.ParquetFile(path).num_row_groups == 2
    assert [found.size for found in read_manifest(os.fspath(path))] == list(range(number))


def test_a_manifest_gives_the_report_of_its_folder(place: RunFolder) -> None:
    place.label()
    whole = place.report.read_bytes()
    _manifest(place, "photos")
    ran = place.run("m.parquet", "-o", REPORT)
    assert f"{NUMBER + len(ODD) - 1} photos found, 0 to be labelled" in ran.stderr
    assert place.report.read_bytes() == whole
    elsewhere = place.run("m.parquet")
    assert elsewhere.stdout.encode() == whole


def test_the_command_finds_what_labelling_would_find(place: RunFolder) -> None:
    (place.folder / "photos" / ".hidden.jpg").write_bytes(b"x")
    (place.folder / "photos" / "note.txt").write_bytes(b"text")
    ran = place.command("manifest", "photos", "-o", "m.parquet")
    assert "2 skipped" in ran.stderr
    ran = place.command("manifest", "photos", "--hidden", "-o", "hidden.parquet")
    assert "1 skipped" in ran.stderr
    dry = [place.run(f, "--dry-run").stdout for f in ("m.parquet", "photos", "hidden.parquet")]
    assert dry[0] == dry[1]
    assert set(dry[2].splitlines()) - set(dry[0].splitlines()) == {"photos/.hidden.jpg"}


def test_failures_are_kept(place: RunFolder) -> None:
    locked = make_photos(place.folder / "photos" / "locked", 1)
    locked.chmod(0)
    try:
        ran = place.command("manifest", "photos", "-o", "m.parquet", before=unprivileged_prefix())
    finally:
        locked.chmod(0o755)
    assert ran.returncode == ExitCode.INCOMPLETE
    assert "of which 1 can't be read" in ran.stderr
    assert place.run("m.parquet", "-o", REPORT).returncode == ExitCode.INCOMPLETE
    row = place.rows()["photos/locked"]
    assert row["error"].startswith("unreadable: permission denied (owner ")


def test_files_that_are_gone_or_changed_since(place: RunFolder) -> None:
    manifest = _manifest(place, "photos")
    (place.folder / "photos" / "00000.jpg").unlink()
    changed = place.folder / "photos" / "00001.jpg"
    changed.write_bytes((place.folder / "photos" / "00009.jpg").read_bytes())
    assert place.run(manifest, "-o", REPORT).returncode == ExitCode.INCOMPLETE
    assert place.rows()["photos/00000.jpg"]["error"].startswith("vanished:")
    now = place.rows()["photos/00001.jpg"]
    assert now == place.rows()["photos/00009.jpg"] | {"path": "photos/00001.jpg"}
    # The journal knows the file as it was read, so that a newer list finds nothing to do.
    _manifest(place, "photos")
    place.run(manifest, "-o", REPORT)
    assert place.counts()["labelled_now"] == 0
    assert place.counts()["reused"] == NUMBER + len(ODD) - 2


def test_a_foreign_manifest_may_have_paths_only(
    place: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(place.folder / "more", 2)
    listed = ["photos/00002.jpg", "./more//00001.jpg", "photos/gone.jpg", "s3://b/c.jpg", "photos"]
    path = _foreign(place.folder / "own.parquet", path=listed, owner=["me"] * 5)
    monkeypatch.chdir(place.folder)
    files = list(read_manifest(path))
    assert [file.path for file in files] == [
        "photos/00002.jpg", "more/00001.jpg", "photos/gone.jpg", "s3://b/c.jpg", "photos",
    ]  # fmt: skip
    size = (place.folder / listed[0]).stat().st_size
    assert files[0].size == size
    assert files[3] == FoundFile("s3://b/c.jpg")
    assert isinstance(files[3].location, Url)
    reasons = [file.failure.reason if file.failure else None for file in files]
    assert reasons == [None, None, Reason.VANISHED, None, Reason.NOT_A_FILE]


def test_equivalent_column_types_are_accepted(tmp_path: Path) -> None:
    path = _foreign(
        tmp_path / "own.parquet",
        size=pa.array([1, 2], pa.uint32()),
        path=pa.array(["s3://b/1.jpg", "s3://b/2.jpg"]).dictionary_encode(),
        etag=pa.array(["x", None], pa.large_string()),
        mtime_ns=pa.nulls(2),
    )
    assert list(read_manifest(path)) == [
        FoundFile("s3://b/1.jpg", 1, etag="x"),
        FoundFile("s3://b/2.jpg", 2),
    ]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"name": ["a.jpg"]}, "no column path among name; make one"),
        ({"path": [1]}, "path is int64, not text"),
        ({"path": ["a"], "size": [0.5]}, "size is double, not whole numbers"),
        ({"path": ["a"], "mtime_ns": ["x"]}, "mtime_ns is string, not whole numbers"),
        ({"path": ["a"], "failure": [1]}, "failure is int64, not text"),
    ],
)
def test_a_parquet_file_that_is_not_a_manifest_is_refused_at_the_start(
    columns: dict[str, Any], why: str, tmp_path: Path
) -> None:
    path = _foreign(tmp_path / "own.parquet", **columns)
    with pytest.raises(InputError, match=why):
        Discovery([path], Search())


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    table = pa.table({"path": ["a.jpg"]}).replace_schema_metadata({VERSION_KEY: "2"})
    pq.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(InputError, match="has version 2, not 1; use the version of batch-label"):
        Discovery([os.fspath(tmp_path / "m.parquet")], Search())


def test_a_torn_manifest_is_refused_before_anything(place: RunFolder) -> None:
    manifest = _manifest(place, "photos")
    data = manifest.read_bytes()
    for torn in (data[:-1], data[: len(data) // 2], b"", b"PAR1"):
        manifest.write_bytes(torn)
        ran = place.run("m.parquet", "-o", REPORT)
        assert ran.returncode == ExitCode.USAGE
        assert "manifest m.parquet is damaged" in ran.stderr
        assert not place.report.exists()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"path": ["a", None]}, "row 2 is damaged .no path"),
        ({"path": ["a", ""]}, "row 2 is damaged .no path"),
        ({"path": ["a", "x\\q"]}, "row 2 is damaged .* is not an escape"),
        ({"path": ["a", "x\\x00"]}, "row 2 is damaged .* has a NUL"),
        ({"path": ["a", "b"], "failure": ["vanished: x", "bored: x"]}, "row 2 .*'bored'"),
    ],
)
def test_a_wrong_row_ends_the_run_with_its_number(
    columns: dict[str, Any], why: str, tmp_path: Path
) -> None:
    path = _foreign(tmp_path / "own.parquet", **columns)
    with pytest.raises(InputError, match=why):
        list(Discovery([path], Search()))


def test_a_manifest_twice_gives_no_file_twice(place: RunFolder) -> None:
    _manifest(place, "photos")
    twice = place.run("m.parquet", "./m.parquet", "--dry-run").stdout
    assert twice == place.run("photos", "--dry-run").stdout


def test_a_folder_with_the_suffix_is_a_folder(tmp_path: Path) -> None:
    make_photos(tmp_path / "odd.parquet", 2)
    assert len(list(Discovery([os.fspath(tmp_path / "odd.parquet")], Search()))) == 2


def test_an_interrupted_list_leaves_the_earlier_manifest(place: RunFolder) -> None:
    before = _manifest(place, "photos").read_bytes()
    folder = place.folder / "many"
    for number in range(1_000):
        (folder / f"{number:04}").mkdir(parents=True)
        (folder / f"{number:04}" / "a.jpg").touch()
    process = place.start_command("manifest", "many", "-o", "m.parquet")
    wait_for(lambda: bool(find_drafts(place.folder, "m.parquet")), process)
    process.send_signal(signal.SIGTERM)
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.TERMINATED, ran.stderr
    assert "no manifest was written" in ran.stderr
    assert (place.folder / "m.parquet").read_bytes() == before
    assert not find_drafts(place.folder, "m.parquet")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("photos", "-o", "m.csv"), "is not a .parquet file"),
        (("-o", "m.parquet"), "nothing to list"),
        (("gone", "-o", "m.parquet"), "input 'gone' can't be found"),
    ],
)
def test_invalid_arguments_are_refused(place: RunFolder, args: tuple[str, ...], why: str) -> None:
    ran = place.command("manifest", *args)
    assert ran.returncode == ExitCode.USAGE
    assert why in ran.stderr


def test_the_document_has_the_columns() -> None:
    lines = TEXT.partition("\n## What a manifest holds\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines
            if line.startswith("| `")]  # fmt: skip
    types = {ColumnKind.TEXT: "string", ColumnKind.INT64: "int64"}
    assert [row[:2] for row in rows] == [[c.name, types[c.kind]] for c in COLUMNS]
    assert f"row groups of {ROWS_PER_GROUP:,}" in TEXT
    assert f"`{VERSION_KEY}` is {VERSION}" in TEXT
