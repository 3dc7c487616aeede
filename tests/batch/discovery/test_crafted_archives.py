"""Archives with false metadata: only the affected member fails, not the archive or the run."""

from __future__ import annotations

import os
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from batch.discovery.archive import MAX_TAR_HEADER, MAX_ZIP_INDEX, ArchiveError
from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.discover import Discovery
from batch.found import MAX_PATH_BYTES, FoundFile
from batch.options import Search
from batch.records import Reason
from tests.support.runs import REPORT, RunFolder, make_photos

GIB = 1024**3


def reasons(path: Path) -> dict[str, str]:
    """Return the members found by name, each with the reason if it can't be read."""
    found = Discovery([os.fspath(path)], Search())
    return {_name(file): file.failure.reason if file.failure else "" for file in found}


def _name(file: FoundFile) -> str:
    return file.path.partition("::")[0].partition("://")[2] or "archive"


def entry(name: str, offset: int, data: bytes, size: int | None = None) -> bytes:
    """Build an entry of a zip's central directory (APPNOTE, 4.3.12) with any 64-bit size."""
    extra = b"" if size is None else struct.pack("<HHQ", 1, 8, size)
    short = len(data) if size is None else 0xFFFF_FFFF
    numbers = (20, 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), short, len(name), len(extra))
    rest = (0, 0, 0, 0, offset)
    head = struct.pack("<4s6H3I2H3H2I", b"PK\1\2", *numbers, *rest)
    return head + name.encode() + extra


def local(name: str, data: bytes) -> bytes:
    numbers = (20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(name), 0)
    return struct.pack("<4s5H3I2H", b"PK\3\4", *numbers) + name.encode() + data


def end(entries: list[bytes], offset: int, size: int | None = None) -> bytes:
    length = len(b"".join(entries)) if size is None else size
    return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), length, offset, 0)


def zip_with_sizes(path: Path, photo: bytes, *sizes: int | None) -> Path:
    names = [f"{number}.jpg" for number in range(len(sizes))]
    entries, body = [], b""
    for name, size in zip(names, sizes, strict=True):
        entries.append(entry(name, len(body), photo, size))
        body += local(name, photo)
    path.write_bytes(body + b"".join(entries) + end(entries, len(body)))
    return path


def tar_of(path: Path, *members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as file:
        for info in members:
            info.size = 3
            file.addfile(info, BytesIO(b"abc"))
    return path


def info(name: str, **pax: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = pax
    return member


def set_size(path: Path, number: int, size: int) -> None:
    """Set the size of a tar member, in base-256 (GNU tar), and repair the checksum."""
    with tarfile.open(path) as file:
        offset = file.getmembers()[number].offset
    data = bytearray(path.read_bytes())
    data[offset + 124 : offset + 136] = size.to_bytes(12, "big", signed=True)
    data[offset + 124] |= 0x80
    block = data[offset : offset + 512]
    block[148:156] = b" " * 8
    data[offset + 148 : offset + 156] = f"{sum(block):06o}\0 ".encode()
    path.write_bytes(data)


class TestNumbers:
    def test_a_member_with_a_size_beyond_63_bits_fails_alone(self, tmp_path: Path) -> None:
        place = RunFolder(tmp_path)
        photo = (make_photos(tmp_path / "photos", 1) / "00000.jpg").read_bytes()
        zip_with_sizes(tmp_path / "p.zip", photo, None, 2**63, 2**64 - 2, None)
        ran = place.run("p.zip", "-o", REPORT)
        assert ran.returncode == 3, ran.stderr
        rows = list(place.rows().values())
        assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok"]
        assert rows[1]["error"] == f"corrupt: invalid size {2**63}"
        listed = place.command("manifest", "p.zip", "-o", "m.parquet")
        assert listed.returncode == 3, listed.stderr
        again = place.run("m.parquet", "-o", "again.csv")
        assert again.returncode == 3, again.stderr
        assert (tmp_path / "again.csv").read_bytes() == place.report.read_bytes()

    @pytest.mark.parametrize("time", ["inf", "-inf", "nan", "1e300", "x"])
    def test_a_member_may_have_any_time(self, tmp_path: Path, time: str) -> None:
        tar_of(tmp_path / "p.tar", info("a.jpg"), info("b.jpg", mtime=time), info("c.jpg"))
        assert reasons(tmp_path / "p.tar") == {"a.jpg": "", "b.jpg": "", "c.jpg": ""}

    @pytest.mark.parametrize("size", [2**63, 2**80, -1, -512, -1024])
    def test_an_invalid_size_keeps_the_members_before_it(self, tmp_path: Path, size: int) -> None:
        path = tar_of(tmp_path / "p.tar", info("a.jpg"), info("b.jpg"), info("c.jpg"))
        set_size(path, 1, size)
        found = reasons(path)
        assert (found["a.jpg"], found["b.jpg"]) == ("", Reason.CORRUPT)
        # What follows can't be found, which has a row.
        assert "c.jpg" in found or found["archive"] == Reason.CORRUPT

    def test_a_damaged_header_between_members_has_a_row(self, tmp_path: Path) -> None:
        path = tar_of(tmp_path / "p.tar", info("a.jpg"), info("b.jpg"), info("c.jpg"))
        data = bytearray(path.read_bytes())
        data[1024] ^= 1
        path.write_bytes(data)
        assert reasons(path) == {"a.jpg": "", "archive": Reason.CORRUPT}


def long_header(path: Path, kind: bytes, size: int, name: str = "x") -> None:
    """Append a header whose data are a hole in a sparse file, which takes no disk space."""
    special = tarfile.TarInfo(name)
    special.type, special.size = kind, size
    with path.open("r+b") as file:
        file.truncate(2 * 512)
        file.seek(0, os.SEEK_END)
        file.write(special.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + size + 10 * 512)


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
def test_a_header_of_gigabytes_takes_none_of_the_runs_memory(tmp_path: Path, kind: bytes) -> None:
    path = tar_of(tmp_path / "p.tar", info("a.jpg"))
    long_header(path, kind, 2 * GIB)
    assert path.stat().st_blocks * 512 < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(Discovery([os.fspath(path)], Search()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert [file.failure.reason if file.failure else "" for file in found] == [
        "",
        Reason.TOO_LARGE,
    ]
    assert found[1].failure
    assert f"more than {MAX_TAR_HEADER:,}" in found[1].failure.detail


def test_an_index_of_gigabytes_takes_none_of_the_runs_memory(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with path.open("wb") as file:
        file.truncate(2 * GIB)
        file.seek(0, os.SEEK_END)
        file.write(end([], 0, 2 * GIB))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reasons(path) == {"archive": Reason.TOO_LARGE}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    (found,) = Discovery([os.fspath(path)], Search())
    assert found.failure
    assert f"more than {MAX_ZIP_INDEX:,}" in found.failure.detail


def test_headers_in_headers_end(tmp_path: Path) -> None:
    path = tmp_path / "p.tar"
    nested = tarfile.TarInfo("x")
    nested.type, nested.size = tarfile.GNUTYPE_LONGNAME, 512
    first = tar_of(path, info("a.jpg")).read_bytes()[:1024]
    path.write_bytes(first + (nested.tobuf(tarfile.GNU_FORMAT) + b"n".ljust(512, b"\0")) * 5_000)
    assert reasons(path) == {"a.jpg": "", "archive": Reason.CORRUPT}


def full_overlap(path: Path, data: bytes) -> list[str]:
    """Write a zip whose members all point to the same bytes."""
    names = [f"{number}.jpg" for number in range(4)]
    body = local("0.jpg", data)
    entries = [entry(name, 0, data) for name in names]
    path.write_bytes(body + b"".join(entries) + end(entries, len(body)))
    return names


def quoted_overlap(path: Path, data: bytes) -> list[str]:
    """Write a zip in which each member contains all members after it."""
    names = [f"{number}.jpg" for number in range(4)]
    body, parts = b"", []
    for name in reversed(names):
        content = body or data
        parts.append((name, content))
        body = local(name, content)
    offset, entries = 0, []
    for name, content in reversed(parts):
        entries.append(entry(name, offset, content))
        offset += 30 + len(name)
    path.write_bytes(body + b"".join(entries) + end(entries, len(body)))
    return names[:3]


@pytest.mark.parametrize("write", [full_overlap, quoted_overlap])
def test_members_that_overlap_are_refused(
    tmp_path: Path, write: Callable[[Path, bytes], list[str]]
) -> None:
    path = tmp_path / "p.zip"
    refused = write(path, b"photo")
    with zipfile.ZipFile(path) as file:
        assert len(file.namelist()) == 4
    assert reasons(path) == {"3.jpg": "", **dict.fromkeys(refused, Reason.CORRUPT)}
    with (
        closing(ArchiveReader()) as reader,
        pytest.raises(ArchiveError, match="overlap those of another member"),
    ):
        reader.read(os.fspath(path), "0.jpg", 100)


def test_a_member_with_a_long_name_fails_alone_and_its_row_is_read_back(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    photo = make_photos(tmp_path / "photos", 1) / "00000.jpg"
    with tarfile.open(tmp_path / "p.tar", "w") as file:
        for name in ("a.jpg", "n" * 1_100_000 + "1.jpg", "n" * 1_100_000 + "2.jpg", "b.jpg"):
            file.add(photo, name)
    ran = place.run("p.tar", "-o", REPORT)
    assert ran.returncode == 3, ran.stderr
    rows = place.rows()
    assert [row["status"] for row in rows.values()] == ["ok", "failed", "failed", "ok"]
    assert max(map(len, rows)) < MAX_PATH_BYTES
    assert place.command("diff", REPORT, REPORT).returncode == 0


def test_many_members_pass_through_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    number = 30_000
    with zipfile.ZipFile(path, "w") as file:
        for n in range(number):
            file.writestr(f"{'long' * 50}/{n}.jpg", b"")
    survey = Discovery([os.fspath(path)], Search())
    assert sum(1 for _ in survey) == number  # whatever is loaded once is
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert sum(1 for _ in survey) == number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # KiB
    assert time.monotonic() - began < 60


def test_a_member_without_a_name_does_not_affect_others(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"a")
        archive.writestr("b", b"b")
    # The second name, in both its headers, is cut to nothing: zipfile itself writes none such.
    data = path.read_bytes()
    last = data.rindex(b"PK\x01\x02")
    index = data[: last + 28] + b"\0\0" + data[last + 30 : last + 46] + data[last + 47 :]
    end = index.rindex(b"PK\x05\x06")
    size = int.from_bytes(index[end + 12 : end + 16], "little") - 1
    path.write_bytes(index[: end + 12] + size.to_bytes(4, "little") + index[end + 16 :])
    assert [found.path for found in Discovery([str(path)], Search())] == [f"zip://a.jpg::{path}"]


def test_hard_links_and_sparse_files_of_a_tar_have_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        first = tarfile.TarInfo("a.jpg")
        first.size = 5
        archive.addfile(first, BytesIO(b"bytes"))
        for name, target in (("b.jpg", "a.jpg"), ("c.jpg", "gone.jpg")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            archive.addfile(link)
        sparse = tarfile.TarInfo("d.jpg")
        sparse.type = tarfile.GNUTYPE_SPARSE
        archive.addfile(sparse)
    found = {file.path.partition("::")[0]: file for file in Discovery([str(path)], Search())}
    assert list(found) == [f"tar://{n}.jpg" for n in "abcd"]
    assert [file.failure and file.failure.reason for file in found.values()] == [
        *(None, None, Reason.CORRUPT, Reason.UNSUPPORTED)
    ]
    with closing(ArchiveReader()) as reader:
        assert reader.read(str(path), "b.jpg", 10) == b"bytes"


def test_an_archive_that_was_made_of_a_dot_has_its_photos(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in (".", "./a.jpg", "./sub/b.jpg", "./.hidden/c.jpg"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name == "." else tarfile.REGTYPE
            archive.addfile(info)
    found = [file.path for file in Discovery([str(path)], Search())]
    assert found == [f"tar://./a.jpg::{path}", f"tar://./sub/b.jpg::{path}"]
    flat = [file.path for file in Discovery([str(path)], Search(recursive=False))]
    assert flat == [f"tar://./a.jpg::{path}"]
