"""Archives as other programs make them, and call them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shlex
import shutil
import subprocess
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.discover import Discovery
from batch.location import split_member
from batch.options import Search
from batch.records import Reason
from tests.batch.discovery.test_archives import add, names, tarred
from tests.support.runs import make_photos


def test_what_was_packed_twice_is_there(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 3)
    pack = ["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar")]
    for inputs in (["photos", "photos"], ["-T", "-"], ["./photos", "photos"]):
        names_of_all = "\n".join(str(p.relative_to(tmp_path)) for p in [photos, *photos.iterdir()])
        subprocess.run([*pack, *inputs], input=names_of_all, text=True, check=True)
        found = names(tmp_path / "a.tar", Counter())
        assert [Path(name) for name in sorted(found)] == [
            Path(f"photos/0000{n}.jpg") for n in range(3)
        ]


def test_a_link_names_its_file_with_a_dot_or_without(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "./a.jpg")
        add(tar, "b.jpg")
        add(tar, "c.jpg", tarfile.LNKTYPE, "a.jpg")
        add(tar, "./d.jpg", tarfile.LNKTYPE, "./b.jpg")
        add(tar, "e.jpg", tarfile.LNKTYPE, "./e.jpg")
    assert names(tmp_path / "a.tar", Counter()) == [
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


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
@pytest.mark.parametrize(
    ("mode", "said"), [("w:gz", ".tar.gz"), ("w:bz2", ".tar.bz2"), ("w:xz", ".tar.xz")]
)
def test_a_compressed_archive_is_told_whatever_it_is_called(
    tmp_path: Path, suffix: str, mode: Literal["w:gz", "w:bz2", "w:xz"], said: str
) -> None:
    with tarfile.open(tmp_path / f"p{suffix}", mode) as tar:
        add(tar, "a.jpg")
    (found,) = Discovery([str(tmp_path / f"p{suffix}")], Search())
    assert found.failure
    assert found.failure.reason is Reason.UNSUPPORTED
    assert said in found.failure.detail


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".lzma"])
def test_what_is_unpacked_as_its_row_says_fails_no_more(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"p.tar{suffix}"
    compress = {".gz": gzip, ".bz2": bz2}.get(suffix, lzma)
    plain = tarred(make_photos(tmp_path / "photos", 1), tmp_path / "p.tar").read_bytes()
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
