"""Photos in archives have rows, as photos in folders have."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shlex
import shutil
import subprocess
import tarfile
import zipfile
from collections import Counter
from contextlib import closing
from io import BytesIO
from pathlib import Path
from stat import S_IFLNK
from typing import Literal

import pytest

from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.discover import Discovery
from batch.found import FoundFile
from batch.options import Search
from batch.records import Reason
from tests.support.archives import add_member, find_members, pack_tar, pack_zip
from tests.support.runs import REPORT, RunFolder, make_photos


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 6)
    (tmp_path / "photos" / "notes.json").write_text("{}")
    return RunFolder(tmp_path)


MAKERS = pytest.mark.parametrize(
    ("kind", "pack"), [("zip", pack_zip), ("tar", pack_tar)], ids=["zip", "tar"]
)


@pytest.fixture
def skipped() -> Counter[str]:
    """Counts of skipped members by reason."""
    return Counter()


class TestTheCommand:
    @MAKERS
    def test_gives_a_packed_folder_the_report_of_the_folder(
        self, place: RunFolder, kind: str, pack: type
    ) -> None:
        place.label()
        plain = place.report.read_text()
        pack(place.folder / "photos", place.folder / f"photos.{kind}")
        ran = place.run(f"photos.{kind}", "-o", "packed.csv")
        assert ran.returncode == 0, ran.stderr
        assert "1 skipped" in ran.stderr  # the notes
        packed = (place.folder / "packed.csv").read_text()
        assert packed.replace(f"{kind}://", "").replace(f"::photos.{kind}", "") == plain

    @MAKERS
    def test_reuses_rows_until_the_archive_changes(
        self, place: RunFolder, kind: str, pack: type
    ) -> None:
        archive = pack(place.folder / "photos", place.folder / f"p.{kind}")
        for known in (0, 6):
            place.run(archive.name, "-o", REPORT)
            assert place.counts()["reused"] == known
        make_photos(place.folder / "photos", 1, first=6)
        pack(place.folder / "photos", archive)
        place.run(archive.name, "-o", REPORT)
        # Their bytes are read again, but what they show is known by their digests.
        assert (place.counts()["labelled_now"], place.counts()["reused"]) == (1, 6)

    def test_opens_archives_in_a_folder_only_with_the_option(self, place: RunFolder) -> None:
        pack_zip(place.folder / "photos", place.folder / "photos" / "more.ZIP")
        without = place.run("photos", "-o", REPORT)
        assert place.counts()["found"] == 6
        assert "2 skipped" in without.stderr
        place.run("photos", "-o", REPORT, "--archives")
        assert place.counts()["found"] == 12
        assert "zip://photos/00000.jpg::photos/more.ZIP" in place.rows()

    def test_reads_members_that_a_list_names(self, place: RunFolder) -> None:
        pack_zip(place.folder / "photos", place.folder / "p.zip")
        names = place.folder / "names.txt"
        names.write_text("zip://photos/00002.jpg::p.zip\nzip://photos/none.jpg::p.zip\n")
        ran = place.run("-", "-o", REPORT, before=("sh", "-c", 'exec "$@" < names.txt', "sh"))
        assert ran.returncode == 3, ran.stderr
        first, second = place.rows().values()
        assert (first["path"], first["error"]) == ("zip://photos/00002.jpg::p.zip", "")
        assert second["error"].startswith("vanished:")


class TestDamage:
    def test_a_truncated_tar_has_its_whole_members_and_a_failure(self, place: RunFolder) -> None:
        archive = pack_tar(place.folder / "photos", place.folder / "p.tar")
        with tarfile.open(archive) as file:
            third = file.getmembers()[2]
        os.truncate(archive, third.offset_data + third.size // 2)
        ran = place.run("p.tar", "-o", REPORT)
        assert ran.returncode == 3
        rows = list(place.rows().values())
        assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed"]
        assert rows[2]["error"] == "corrupt: its archive ends too early"
        assert rows[3]["path"] == "p.tar"
        assert rows[3]["error"].startswith("corrupt: not readable as an archive (")

    @pytest.mark.parametrize("name", ["p.zip", "p.tar"])
    @pytest.mark.parametrize("data", [b"", b"no archive at all" * 100], ids=["empty", "text"])
    def test_a_file_that_is_not_an_archive_has_a_row(
        self, tmp_path: Path, name: str, data: bytes
    ) -> None:
        (tmp_path / name).write_bytes(data)
        (found,) = Discovery([str(tmp_path / name)], Search())
        assert found.failure
        assert found.failure.reason is Reason.CORRUPT
        assert found.path == str(tmp_path / name)

    @pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (42, "42")])
    def test_another_compression_is_named(self, tmp_path: Path, method: int, name: str) -> None:
        archive = pack_zip(make_photos(tmp_path / "photos", 2), tmp_path / "p.zip")
        data = bytearray(archive.read_bytes())
        # The method, in the local header and in the directory (APPNOTE, 4.4.5).
        data[data.index(b"PK\3\4") + 8] = data[data.index(b"PK\1\2") + 10] = method
        archive.write_bytes(data)
        first, second = Discovery([os.fspath(archive)], Search())
        assert first.failure is not None
        assert first.failure.reason is Reason.UNSUPPORTED
        assert f"compressed with {'method ' if method == 42 else ''}{name}" in first.failure.detail
        assert second.failure is None

    def test_an_encrypted_member_fails_alone(self, place: RunFolder) -> None:
        archive = pack_zip(place.folder / "photos", place.folder / "p.zip")
        data = bytearray(archive.read_bytes())
        # The flag of encryption, in the local header and in the directory (APPNOTE, 4.4.4).
        data[data.index(b"PK\3\4") + 6] |= 1
        data[data.index(b"PK\1\2") + 8] |= 1
        archive.write_bytes(data)
        ran = place.run("p.zip", "-o", REPORT)
        assert ran.returncode == 3, ran.stderr
        failed, *rest = place.rows().values()
        assert failed["error"].startswith("unsupported: encrypted in its archive: unpack it")
        assert len(rest) == 5
        assert not any(row["error"] for row in rest)

    def test_a_bomb_is_not_unpacked(self, place: RunFolder) -> None:
        with zipfile.ZipFile(place.folder / "p.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("bomb.jpg", bytes(5_000_000))
        ran = place.run("p.zip", "-o", REPORT, "--max-file-size", "1M")
        assert ran.returncode == 3
        assert place.rows()["zip://bomb.jpg::p.zip"]["error"].startswith("too_large: 5,000,000")

    def test_a_false_size_is_detected(self, tmp_path: Path) -> None:
        archive = tmp_path / "p.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.jpg", bytes(100_000))
        with closing(ArchiveReader()) as reader:
            assert len(reader.read(str(archive), "a.jpg", 1000)) == 1000


@pytest.mark.parametrize(
    "name",
    [
        *("p x.tar.gz", "p.TGZ", "p.tar.zst", "p.txz", "p.tar.bz2", "p.7z"),
        *("p.tar.Z", "p.tar.lz4", "p.tar.lzma", "p.cbz"),
    ],
)
def test_a_packed_archive_says_how_to_unpack_it(
    tmp_path: Path, skipped: Counter[str], name: str
) -> None:
    archive = tmp_path / name
    archive.write_bytes(b"\x1f\x8b")
    assert find_members(tmp_path, skipped) == []
    assert skipped == {"archive": 1}
    for inputs, search in (
        ([archive], False),
        ([tmp_path], True),
        ([tmp_path / f"*{name[1:]}"], False),
    ):
        (found,) = Discovery([str(place) for place in inputs], Search(archives=search))
        assert (found.path, found.failure and found.failure.reason) == (
            str(archive),
            Reason.UNSUPPORTED,
        )
        assert found.failure
        assert found.failure.detail.endswith(shlex.quote(name))


def test_members_in_folders_are_skipped_without_recursion(tmp_path: Path) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("a.jpg", "in/b.jpg", ".c.jpg", "d.cr2", "e.txt", "f.zip", "g.xmp"):
            file.writestr(name, b"x")
    reasons: list[str] = []
    survey = Discovery(
        [str(archive)], Search(recursive=False), on_skip=lambda path, why: reasons.append(why)
    )
    stamp = str(archive.stat().st_mtime_ns)
    assert list(survey) == [FoundFile(f"zip://a.jpg::{archive}", 1, etag=stamp)]
    assert sorted(reasons) == [
        "archive",
        "camera raw",
        "hidden",
        "in a subfolder",
        "no image",
        "sidecar",
    ]


def test_links_and_pipes_in_archives_are_skipped(tmp_path: Path, skipped: Counter[str]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_member(tar, "folder", tarfile.DIRTYPE)
        add_member(tar, "a.jpg")
        add_member(tar, "b.jpg", tarfile.SYMTYPE, "a.jpg")
        add_member(tar, "c.jpg", tarfile.FIFOTYPE)
        add_member(tar, "d.jpg", tarfile.LNKTYPE, "b.jpg")
    assert find_members(tmp_path / "a.tar", skipped) == ["a.jpg"]
    assert skipped == {"symbolic link in an archive": 2, "not a regular file": 1}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.jpg", b"abc")
        link = zipfile.ZipInfo("b.jpg")
        link.create_system, link.external_attr = 3, (S_IFLNK | 0o777) << 16
        file.writestr(link, "a.jpg")
    assert find_members(tmp_path / "a.zip", skipped) == ["a.jpg"]
    assert skipped["symbolic link in an archive"] == 3
    (named,) = Discovery(
        ["-"], Search(), listing=BytesIO(f"tar://b.jpg::{tmp_path}/a.tar".encode())
    )
    assert named.failure
    assert named.failure.reason is Reason.NOT_A_FILE


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
@pytest.mark.parametrize(
    ("mode", "said"), [("w:gz", ".tar.gz"), ("w:bz2", ".tar.bz2"), ("w:xz", ".tar.xz")]
)
def test_a_compressed_archive_is_recognised_under_any_name(
    tmp_path: Path, suffix: str, mode: Literal["w:gz", "w:bz2", "w:xz"], said: str
) -> None:
    with tarfile.open(tmp_path / f"p{suffix}", mode) as tar:
        add_member(tar, "a.jpg")
    (found,) = Discovery([str(tmp_path / f"p{suffix}")], Search())
    assert found.failure
    assert found.failure.reason is Reason.UNSUPPORTED
    assert said in found.failure.detail


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".lzma"])
def test_the_unpack_command_of_a_row_works(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"p.tar{suffix}"
    compress = {".gz": gzip, ".bz2": bz2}.get(suffix, lzma)
    plain = pack_tar(make_photos(tmp_path / "photos", 1), tmp_path / "p.tar").read_bytes()
    (tmp_path / "p.tar").unlink()
    form = {"format": lzma.FORMAT_ALONE} if suffix == ".lzma" else {}
    archive.write_bytes(compress.compress(plain, **form))
    search = Search(archives=True)
    (found,) = (file for file in Discovery([str(tmp_path)], search) if file.failure)
    assert found.failure
    command = shlex.split(found.failure.detail.rpartition(": ")[2])
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len([f for f in Discovery([str(tmp_path)], search) if f.failure is None]) == 2
    assert not [f for f in Discovery([str(tmp_path)], search) if f.failure]
