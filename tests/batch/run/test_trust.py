"""How an input is treated depends on where its name comes from."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.discovery.discover import Discovery
from batch.errors import InputError
from batch.found import FoundFile
from batch.options import Search
from batch.records import Reason
from tests.support.runs import REPORT, RunFolder, make_photos

SECRET = "/etc/passwd"


@pytest.fixture(autouse=True)
def _planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put files beside the photos that an attacker would like the run to open."""
    monkeypatch.chdir(tmp_path)
    make_photos(Path("photos"), 2)
    pq.write_table(pa.table({"path": [SECRET, "http://127.0.0.1:9/x"]}), "photos/z.parquet")
    with zipfile.ZipFile("photos/a.zip", "w") as file:
        file.write("photos/00000.jpg", "inner.jpg")


def survey(*inputs: str, archives: bool = False, listing: bytes = b"") -> list[FoundFile]:
    left_out: list[str] = []
    search = Search(archives=archives)
    found = list(
        Discovery(
            inputs,
            search,
            listing=io.BytesIO(listing),
            on_skip=lambda path, why: left_out.append(f"{path}: {why}"),
        )
    )
    return found + [FoundFile(line) for line in left_out]


def paths(*inputs: str, archives: bool = False, listing: bytes = b"") -> list[str]:
    return [file.path for file in survey(*inputs, archives=archives, listing=listing)]


def test_only_a_file_named_alone_is_a_manifest() -> None:
    assert paths("photos/z.parquet") == [SECRET, "http://127.0.0.1:9/x"]
    assert paths("photos/z.parquet", "./photos/z.parquet") == [SECRET, "http://127.0.0.1:9/x"]
    assert paths(f"file://{Path.cwd()}/photos/z.parquet") == [SECRET, "http://127.0.0.1:9/x"]


@pytest.mark.parametrize("pattern", ["photos/*", "photos/*.parquet", "**/z.parquet"])
def test_a_match_of_a_pattern_is_not_a_manifest(pattern: str) -> None:
    assert SECRET not in paths(pattern)
    assert "photos/z.parquet" in paths(pattern)


def test_a_file_from_a_pattern_expanded_by_the_shell_is_not_a_manifest() -> None:
    expanded = sorted(map(str, Path("photos").iterdir()))
    assert expanded[-1] == "photos/z.parquet"
    *others, last = survey(*expanded)
    assert SECRET not in [file.path for file in others]
    assert last.failure
    assert last.failure.reason is Reason.NOT_AN_IMAGE
    assert "give lists without other inputs" in last.failure.detail


def test_only_a_file_named_alone_is_a_list() -> None:
    Path("photos/y.txt").write_text(SECRET)
    assert paths("photos/y.txt") == [SECRET]
    expanded = sorted(map(str, Path("photos").iterdir()))
    assert SECRET not in paths(*expanded)
    assert SECRET not in paths("photos/*")
    assert SECRET not in paths("-", listing=b"photos/y.txt\n")
    *_, refused, _ = survey("photos/00000.jpg", "photos/y.txt", "photos/z.parquet")
    assert refused.path == "photos/y.txt"
    assert refused.failure
    assert "give lists without other inputs" in refused.failure.detail


def test_an_entry_of_a_list_is_not_a_manifest() -> None:
    assert paths("-", listing=b"photos/z.parquet\n") == ["photos/z.parquet"]
    assert paths("-", "photos/z.parquet", listing=b"") == ["photos/z.parquet"]


def test_a_parquet_file_among_photos_has_a_row_that_says_so() -> None:
    place = RunFolder(Path.cwd())
    ran = place.run("photos/*", "-o", REPORT)
    assert ran.returncode == 3, ran.stderr
    rows = place.rows()
    assert list(rows) == ["photos/00000.jpg", "photos/00001.jpg", "photos/z.parquet"]
    assert rows["photos/z.parquet"]["error"].startswith("not_an_image")


def test_archives_from_patterns_and_lists_are_opened_on_request() -> None:
    inner, left_out = "zip://inner.jpg::photos/a.zip", "photos/a.zip: archive"
    assert paths("photos/a.zip") == [inner]
    assert paths("photos/*.zip") == [inner]
    assert paths("photos/*.[z]ip") == [left_out]
    assert paths("photos/*.[z]ip", "photos/a.zip") == [inner, left_out]
    assert inner not in paths("photos/*")
    assert left_out in paths("photos/*")
    assert inner in paths("photos/*", archives=True)
    assert paths("-", listing=b"photos/a.zip\n") == [left_out]
    assert paths("-", listing=b"photos/a.zip\n", archives=True) == [inner]


def test_members_that_are_named() -> None:
    member = "zip://inner.jpg::photos/a.zip"
    (alone,) = survey(member)
    (listed,) = survey("-", listing=member.encode())
    (walked,) = survey("photos/a.zip")
    assert alone == listed == walked
    with pytest.raises(InputError, match="no longer in its archive"):
        survey("zip://other.jpg::photos/a.zip")
    (gone,) = survey("-", listing=b"zip://a.jpg::photos/none.zip")
    assert gone.failure
    assert gone.failure.reason is Reason.VANISHED


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_its_archive_gives_too_comes_once(kind: str) -> None:
    shutil.make_archive("p", kind, "photos", "00000.jpg")
    member = f"{kind}://00000.jpg::p.{kind}"
    archives = f"p.{kind}\n{member}\n{kind}://00000.jpg::{Path.cwd()}/p.{kind}\n"
    for listing in (archives, "".join(reversed(archives.splitlines(keepends=True)))):
        assert len(paths("-", archives=True, listing=listing.encode())) == 1, listing
    assert paths(f"p.{kind}", member) == [member]
    # What is wrong with the whole of it is said once as well.
    os.truncate(f"p.{kind}", 600)
    damaged = survey(f"p.{kind}", "photos/00000.jpg")
    assert f"p.{kind}" in [file.path for file in damaged if file.failure]


def test_a_slow_list_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"photos/00000.jpg\n")
    calls = 0

    class Stopped(Exception):
        pass

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Stopped

    with open(reading, "rb") as listing, pytest.raises(Stopped):
        Discovery(["-"], Search(), listing=listing, check=check)
    os.close(writing)


def test_a_url_of_this_machine_in_a_list_is_its_path() -> None:
    line = f"file://{Path.cwd()}/photos/a.jpg"
    here = line.replace("file://", "file://LocalHost")
    for url in (line, here):
        assert paths("-", listing=url.encode()) == [f"{Path.cwd()}/photos/a.jpg"]


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:///", "/"), ("file:////", "//"), ("file://localhost/", "/"), ("file:///../", "/..")],
)
def test_no_url_in_a_list_is_the_root_of_this_machine(url: str, path: str) -> None:
    assert paths("-", listing=url.encode()) == [f"{path}: folder in a list"]
    assert paths("-", listing=b"file://") == [".: folder in a list"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_lists_of_windows_shells_are_read(encoding: str, end: str) -> None:
    listing = f"photos/a.jpg{end}photos/gr\u00f6\u00dfe.jpg{end}".encode(encoding)
    assert paths("-", listing=listing) == ["photos/a.jpg", "photos/gr\u00f6\u00dfe.jpg"]


def test_damage_in_a_utf_16_list_affects_its_own_line_only() -> None:
    lines = "photos/a.jpg\nb\ud800.jpg\n".encode("utf-16", "surrogatepass")
    found = paths("-", listing=lines + b"c")
    assert found[0] == "photos/a.jpg"
    assert len(found) == 3


def test_a_newline_behind_nuls_is_no_path() -> None:
    assert paths("-", listing=b"photos/a.jpg\0b\n.jpg\0\n") == ["photos/a.jpg", "b\n.jpg"]
