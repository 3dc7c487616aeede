"""ZIP and tar archives as written by other programs."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections import Counter
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tarfile import GNU_FORMAT as GNU

import pytest

from batch.discovery.archive import CHUNK_BYTES, ArchiveError, Member
from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.discover import Discovery
from batch.location import split_member
from batch.options import Search
from tests.support.archives import add_member, find_members
from tests.support.runs import make_photos


@pytest.fixture
def skipped() -> Counter[str]:
    """Counts of skipped members by reason."""
    return Counter()


def test_a_file_that_is_packed_twice_is_found_once(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    pack = ["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar")]
    for inputs in (["photos", "photos"], ["-T", "-"], ["./photos", "photos"]):
        names_of_all = "\n".join(str(p.relative_to(tmp_path)) for p in [photos, *photos.iterdir()])
        subprocess.run([*pack, *inputs], input=names_of_all, text=True, check=True)
        found = find_members(tmp_path / "a.tar", Counter())
        assert [Path(name) for name in sorted(found)] == [
            Path(f"photos/0000{n}.jpg") for n in range(3)
        ]


def test_a_link_names_its_file_with_a_dot_or_without(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_member(tar, "./a.jpg")
        add_member(tar, "b.jpg")
        add_member(tar, "c.jpg", tarfile.LNKTYPE, "a.jpg")
        add_member(tar, "./d.jpg", tarfile.LNKTYPE, "./b.jpg")
        add_member(tar, "e.jpg", tarfile.LNKTYPE, "./e.jpg")
    assert find_members(tmp_path / "a.tar", Counter()) == [
        *("./a.jpg", "b.jpg", "c.jpg", "./d.jpg", "e.jpg!corrupt")
    ]
    with closing(ArchiveReader()) as reader:
        for name in ("a.jpg", "./a.jpg", "c.jpg", "./d.jpg"):
            assert reader.read(str(tmp_path / "a.tar"), name, 100) == b"abc"


@pytest.mark.parametrize(("kind", "name"), [("zip", "p.tar"), ("tar", "p.zip")])
def test_an_archive_is_known_by_its_beginning(tmp_path: Path, kind: str, name: str) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    Path(shutil.make_archive(str(tmp_path / "x"), kind, photos)).rename(tmp_path / name)
    found = list(Discovery([str(tmp_path / name)], Search()))
    assert [file.failure for file in found] == [None, None]
    with closing(ArchiveReader()) as reader:
        member = split_member(found[1].path)
        assert member
        assert reader.read(*member, 10**6) == (photos / member[1]).read_bytes()


class TestTarsInARow:
    def make(self, tmp_path: Path, *between: bytes) -> Path:
        parts = []
        for number, behind in enumerate(between):
            with tarfile.open(tmp_path / "part.tar", "w") as tar:
                add_member(tar, f"{number}.jpg")
            parts.append((tmp_path / "part.tar").read_bytes() + behind)
        (tmp_path / "a.tar").write_bytes(b"".join(parts))
        return tmp_path / "a.tar"

    def test_are_read_to_the_last(self, tmp_path: Path, skipped: Counter[str]) -> None:
        archive = self.make(tmp_path, b"", bytes(CHUNK_BYTES), b"")
        assert find_members(archive, skipped) == ["0.jpg", "1.jpg", "2.jpg"]
        with closing(ArchiveReader()) as reader:
            assert reader.read(str(archive), "2.jpg", 100) == b"abc"

    @pytest.mark.parametrize("behind", [b"garbage" * 99, b"\xff" * 512, bytes(5000), b"\0\1"])
    def test_end_where_something_else_follows(
        self, tmp_path: Path, skipped: Counter[str], behind: bytes
    ) -> None:
        assert find_members(self.make(tmp_path, b"", behind), skipped) == ["0.jpg", "1.jpg"]

    def test_with_a_damaged_beginning_say_so(self, tmp_path: Path, skipped: Counter[str]) -> None:
        archive = self.make(tmp_path, b"", b"")
        data = bytearray(archive.read_bytes())
        data[data.index(b"1.jpg")] ^= 1
        archive.write_bytes(data)
        assert find_members(archive, skipped) == ["0.jpg", "!corrupt"]

    def test_end_within_a_limit(self, tmp_path: Path, skipped: Counter[str]) -> None:
        archive = self.make(tmp_path, b"")
        os.truncate(archive, 2**40)  # it takes no disk
        assert find_members(archive, skipped) == ["0.jpg"]


NAMES = [b"gr\xfc\xdfe.jpg", b"\x83e\x83X\x83g.jpg", "\u00e9.jpg".encode(), b"\xff\xfe.jpg"]


def test_names_in_any_encoding_are_listed(tmp_path: Path, skipped: Counter[str]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", errors="surrogateescape", format=GNU) as tar:
        for name in NAMES:
            add_member(tar, name.decode("utf-8", "surrogateescape"))
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
    tmp_path: Path, skipped: Counter[str]
) -> None:
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.jpg", b"abc")
        file.writestr("b.jpg", b"abc")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\3\4") + 8] = data[data.index(b"PK\1\2") + 10] = 9  # Deflate64
    archive.write_bytes(data)
    assert find_members(archive, skipped) == ["a.jpg!unsupported", "b.jpg"]
    (failed, _) = Discovery([str(archive)], Search())
    assert failed.failure
    assert "Deflate64" in failed.failure.detail


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
