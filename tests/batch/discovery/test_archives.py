"""Archives are read in place, as folders are."""

from __future__ import annotations

import os
import shlex
import struct
import tarfile
import zipfile
from collections import Counter
from contextlib import closing
from io import BytesIO
from pathlib import Path
from stat import S_IFLNK
from tarfile import GNU_FORMAT as GNU

import pytest

from batch.discovery.archive import CHUNK_BYTES, ArchiveError, Member
from batch.discovery.archive_reader import MAX_OPEN_ARCHIVES, ArchiveReader, ArchiveReaderPool
from batch.discovery.discover import Discovery
from batch.found import FoundFile
from batch.location import Url, build_member_url, is_archive, split_member
from batch.options import Search
from batch.records import Reason
from tests.support.runs import REPORT, RunFolder, make_photos


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", 6)
    (tmp_path / "photos" / "notes.json").write_text("{}")
    return RunFolder(tmp_path)


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def tarred(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, path.relative_to(folder.parent), recursive=False)
    return archive


MAKERS = pytest.mark.parametrize(
    ("kind", "pack"), [("zip", zipped), ("tar", tarred)], ids=["zip", "tar"]
)


class TestTheCommand:
    @MAKERS
    def test_says_of_a_packed_folder_what_it_says_of_the_folder(
        self, place: RunFolder, kind: str, pack: type
    ) -> None:
        place.label()
        plain = place.report.read_text()
        pack(place.folder / "photos", place.folder / f"photos.{kind}")
        ran = place.run(f"photos.{kind}", "-o", "packed.csv")
        assert ran.returncode == 0, ran.stderr
        assert "1 left out" in ran.stderr  # the notes
        packed = (place.folder / "packed.csv").read_text()
        assert packed.replace(f"{kind}://", "").replace(f"::photos.{kind}", "") == plain

    @MAKERS
    def test_knows_what_it_has_done_until_the_archive_changes(
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

    def test_looks_into_archives_of_a_folder_only_if_it_is_told_to(self, place: RunFolder) -> None:
        zipped(place.folder / "photos", place.folder / "photos" / "more.ZIP")
        without = place.run("photos", "-o", REPORT)
        assert place.counts()["found"] == 6
        assert "2 left out" in without.stderr
        place.run("photos", "-o", REPORT, "--archives")
        assert place.counts()["found"] == 12
        assert "zip://photos/00000.jpg::photos/more.ZIP" in place.rows()

    def test_reads_members_that_a_list_names(self, place: RunFolder) -> None:
        zipped(place.folder / "photos", place.folder / "p.zip")
        names = place.folder / "names.txt"
        names.write_text("zip://photos/00002.jpg::p.zip\nzip://photos/none.jpg::p.zip\n")
        ran = place.run("-", "-o", REPORT, before=("sh", "-c", 'exec "$@" < names.txt', "sh"))
        assert ran.returncode == 3, ran.stderr
        first, second = place.rows().values()
        assert (first["path"], first["error"]) == ("zip://photos/00002.jpg::p.zip", "")
        assert second["error"].startswith("vanished:")


class TestDamage:
    def test_a_tar_that_ends_too_early_has_what_is_there_and_says_so(
        self, place: RunFolder
    ) -> None:
        archive = tarred(place.folder / "photos", place.folder / "p.tar")
        with tarfile.open(archive) as file:
            third = file.getmembers()[2]
        os.truncate(archive, third.offset_data + third.size // 2)
        ran = place.run("p.tar", "-o", REPORT)
        assert ran.returncode == 3
        rows = list(place.rows().values())
        assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed"]
        assert rows[2]["error"] == "corrupt: its archive ends too early"
        assert rows[3]["path"] == "p.tar"
        assert rows[3]["error"].startswith("corrupt: not to be read as an archive (")

    @pytest.mark.parametrize("name", ["p.zip", "p.tar"])
    @pytest.mark.parametrize("data", [b"", b"no archive at all" * 100], ids=["empty", "text"])
    def test_what_is_no_archive_has_a_row(self, tmp_path: Path, name: str, data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        (found,) = Discovery([str(tmp_path / name)], Search())
        assert found.failure
        assert found.failure.reason is Reason.CORRUPT
        assert found.path == str(tmp_path / name)

    @pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (42, "42")])
    def test_another_compression_is_named(self, tmp_path: Path, method: int, name: str) -> None:
        archive = zipped(make_photos(tmp_path / "photos", 2), tmp_path / "p.zip")
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
        archive = zipped(place.folder / "photos", place.folder / "p.zip")
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

    def test_a_size_that_is_a_lie_is_found_out(self, tmp_path: Path) -> None:
        archive = tmp_path / "p.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.jpg", bytes(100_000))
        with closing(ArchiveReader()) as reader:
            assert len(reader.read(str(archive), "a.jpg", 1000)) == 1000


@pytest.fixture
def left() -> Counter[str]:
    """What was left out, by the reason."""
    return Counter()


def names(archive: Path, left: Counter[str]) -> list[str]:
    """Name the members that are found, with the reasons of those that can't be read."""
    found = Discovery(
        [str(archive)],
        Search(),
        on_skip=lambda path, why: left.update([why]),
    )
    return [
        file.path.partition("::")[0].partition("://")[2]
        + (f"!{file.failure.reason}" if file.failure else "")
        for file in found
    ]


def add(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 3 if kind == tarfile.REGTYPE else 0
    tar.addfile(info, BytesIO(b"abc"))


def test_links_and_what_is_no_file_are_counted(tmp_path: Path, left: Counter[str]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "folder", tarfile.DIRTYPE)
        add(tar, "a.jpg")
        add(tar, "b.jpg", tarfile.SYMTYPE, "a.jpg")
        add(tar, "c.jpg", tarfile.FIFOTYPE)
        add(tar, "d.jpg", tarfile.LNKTYPE, "b.jpg")
    assert names(tmp_path / "a.tar", left) == ["a.jpg"]
    assert left == {"symbolic link in an archive": 2, "not a regular file": 1}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.jpg", b"abc")
        link = zipfile.ZipInfo("b.jpg")
        link.create_system, link.external_attr = 3, (S_IFLNK | 0o777) << 16
        file.writestr(link, "a.jpg")
    assert names(tmp_path / "a.zip", left) == ["a.jpg"]
    assert left["symbolic link in an archive"] == 3
    (named,) = Discovery(
        ["-"], Search(), listing=BytesIO(f"tar://b.jpg::{tmp_path}/a.tar".encode())
    )
    assert named.failure
    assert named.failure.reason is Reason.NOT_A_FILE


class TestTarsInARow:
    def make(self, tmp_path: Path, *between: bytes) -> Path:
        parts = []
        for number, behind in enumerate(between):
            with tarfile.open(tmp_path / "part.tar", "w") as tar:
                add(tar, f"{number}.jpg")
            parts.append((tmp_path / "part.tar").read_bytes() + behind)
        (tmp_path / "a.tar").write_bytes(b"".join(parts))
        return tmp_path / "a.tar"

    def test_are_read_to_the_last(self, tmp_path: Path, left: Counter[str]) -> None:
        archive = self.make(tmp_path, b"", bytes(CHUNK_BYTES), b"")
        assert names(archive, left) == ["0.jpg", "1.jpg", "2.jpg"]
        with closing(ArchiveReader()) as reader:
            assert reader.read(str(archive), "2.jpg", 100) == b"abc"

    @pytest.mark.parametrize("behind", [b"garbage" * 99, b"\xff" * 512, bytes(5000), b"\0\1"])
    def test_end_where_something_else_follows(
        self, tmp_path: Path, left: Counter[str], behind: bytes
    ) -> None:
        assert names(self.make(tmp_path, b"", behind), left) == ["0.jpg", "1.jpg"]

    def test_with_a_damaged_beginning_say_so(self, tmp_path: Path, left: Counter[str]) -> None:
        archive = self.make(tmp_path, b"", b"")
        data = bytearray(archive.read_bytes())
        data[data.index(b"1.jpg")] ^= 1
        archive.write_bytes(data)
        assert names(archive, left) == ["0.jpg", "!corrupt"]

    def test_end_within_a_limit(self, tmp_path: Path, left: Counter[str]) -> None:
        archive = self.make(tmp_path, b"")
        os.truncate(archive, 2**40)  # it takes no disk
        assert names(archive, left) == ["0.jpg"]


NAMES = [b"gr\xfc\xdfe.jpg", b"\x83e\x83X\x83g.jpg", "\u00e9.jpg".encode(), b"\xff\xfe.jpg"]


def test_names_in_any_encoding_cost_nothing(tmp_path: Path, left: Counter[str]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", errors="surrogateescape", format=GNU) as tar:
        for name in NAMES:
            add(tar, name.decode("utf-8", "surrogateescape"))
    for flag, archive in ((0, tmp_path / "old.zip"), (1 << 11, tmp_path / "wrong.zip")):
        with zipfile.ZipFile(archive, "w") as file:
            for number, name in enumerate(NAMES):
                file.writestr("x" * (len(name) - 1) + str(number), b"abc")
        data = archive.read_bytes()
        for number, name in enumerate(NAMES):
            data = data.replace(b"x" * (len(name) - 1) + str(number).encode(), name)
        for sign, where in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            at = data.find(sign)
            while at >= 0:
                data = data[: at + where] + struct.pack("<H", flag) + data[at + where + 2 :]
                at = data.find(sign, at + 1)
        archive.write_bytes(data)
    for archive in sorted(tmp_path.iterdir()):
        found = list(Discovery([str(archive)], Search()))
        assert len({one.path for one in found}) == len(NAMES)
        with closing(ArchiveReader()) as reader:
            for one in found:
                assert not one.failure, archive
                member = split_member(one.path)
                assert member
                assert reader.read(*member, 100) == b"abc"


def test_a_member_that_is_packed_by_another_method_fails_alone(
    tmp_path: Path, left: Counter[str]
) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", b"abc")
        file.writestr("b.jpg", b"abc")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\3\4") + 8] = data[data.index(b"PK\1\2") + 10] = 9  # Deflate64
    archive.write_bytes(data)
    assert names(archive, left) == ["a.jpg!unsupported", "b.jpg"]
    (failed, _) = Discovery([str(archive)], Search())
    assert failed.failure
    assert "Deflate64" in failed.failure.detail


@pytest.mark.parametrize(
    "name",
    [
        *("p x.tar.gz", "p.TGZ", "p.tar.zst", "p.txz", "p.tar.bz2", "p.7z"),
        *("p.tar.Z", "p.tar.lz4", "p.tar.lzma", "p.cbz"),
    ],
)
def test_a_packed_archive_says_how_to_unpack_it(
    tmp_path: Path, left: Counter[str], name: str
) -> None:
    archive = tmp_path / name
    archive.write_bytes(b"\x1f\x8b")
    assert names(tmp_path, left) == []
    assert left == {"archive": 1}
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


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("a.jpg", b"first"), ("b.jpg", b"b"), ("a.jpg", b"second")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    archive = str(tmp_path / "a.tar")
    with closing(ArchiveReader()) as reader:
        assert list(reader.members(archive)) == [Member("b.jpg", 1), Member("a.jpg", 6)]
        assert reader.read(archive, "a.jpg", 100) == b"second"
        with pytest.raises(ArchiveError, match="no longer"):
            reader.read(archive, "c.jpg", 100)


def test_only_a_few_archives_stay_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    photos = make_photos(tmp_path / "photos", 1)
    archives = [str(tarred(photos, tmp_path / f"{n}.tar")) for n in range(12)]
    before, shared = descriptors(), ArchiveReaderPool()
    for archive in [*archives, *archives]:
        assert shared.read(archive, "photos/00000.jpg", 10) == b"\xff\xd8\xff\xe0\0\x10JFIF"
        assert descriptors() - before <= MAX_OPEN_ARCHIVES
    shared.close()
    assert descriptors() == before


@pytest.mark.parametrize("archive", ["a.zip", "/data/b c.TAR", "s3://bucket/x/a.tar"])
@pytest.mark.parametrize("name", ["a.jpg", "in/ner/a b.jpg", "/../a::b.jpg"])
def test_the_name_of_a_member_can_be_taken_apart(archive: str, name: str) -> None:
    assert is_archive(archive)
    assert split_member(build_member_url(archive, name)) == (archive, name)


def test_other_urls_are_no_members() -> None:
    assert split_member("s3://bucket/a::b.jpg") is None
    assert split_member("zip://a.jpg") is None
    assert Url("zip://x/a.jpg::s3://bucket/b.zip").name == "a.jpg"


def test_members_in_folders_are_left_out_without_recursion(tmp_path: Path) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("a.jpg", "in/b.jpg", ".c.jpg", "d.cr2", "e.txt", "f.zip"):
            file.writestr(name, b"x")
    reasons: list[str] = []
    survey = Discovery(
        [str(archive)], Search(recursive=False), on_skip=lambda path, why: reasons.append(why)
    )
    stamp = str(archive.stat().st_mtime_ns)
    assert list(survey) == [FoundFile(f"zip://a.jpg::{archive}", 1, etag=stamp)]
    assert sorted(reasons) == ["archive", "camera raw", "hidden", "in a subfolder", "no image"]
