"""Archives are read in a separate process, which a crafted archive may crash or exhaust."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from batch.discovery import archive_reader
from batch.discovery.archive import ArchiveError, Member
from batch.discovery.archive_child import MAX_MEMORY_BYTES
from batch.discovery.archive_reader import MAX_OPEN_ARCHIVES, ArchiveReader, ArchiveReaderPool
from batch.errors import WorkerError
from batch.records import Reason
from batch.workers.process import MAX_START_ATTEMPTS, start_process
from tests.support.archives import pack_tar
from tests.support.runs import make_photos

HOSTILE = "tests.support.hostile_archive"


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> Iterator[ArchiveReader]:
    """A reader with a hostile child process, and a short time-out for tests that hang."""
    timeout = 1 if "hang" in request.node.name else 60
    with closing(ArchiveReader(program=HOSTILE, timeout=timeout)) as reader:
        yield reader


def write_tar(path: Path, *names: str) -> str:
    with tarfile.open(path, "w") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            file.addfile(info, BytesIO(b"abc"))
    return os.fspath(path)


def pid_of(reader: ArchiveReader) -> int:
    assert reader._process is not None
    return reader._process.pid


@pytest.mark.parametrize(
    ("deed", "reason", "why"),
    [
        ("crash", Reason.CRASHED, "SIGSEGV"),
        ("exit", Reason.CRASHED, "exit status 3"),
        ("hang", Reason.TIMEOUT, "for 1 s"),
        ("eat", Reason.TOO_LARGE, "not enough memory"),
        ("long", Reason.CRASHED, "a frame of 4,194,305 bytes"),
        ("odd", Reason.CRASHED, "a frame of kind 0"),
        ("unknown", Reason.CRASHED, "a frame of kind 255"),
        ("junk", Reason.CRASHED, "invalid reply"),
        ("negative", Reason.CRASHED, "invalid reply"),
        ("huge", Reason.CRASHED, "invalid reply"),
        ("senseless", Reason.CRASHED, "invalid reply"),
    ],
)
def test_an_archive_that_ends_the_process_fails_alone(
    hostile: ArchiveReader, tmp_path: Path, deed: str, reason: Reason, why: str
) -> None:
    bad = write_tar(tmp_path / f"{deed}.tar", "a.jpg")
    good = write_tar(tmp_path / "good.tar", "a.jpg", "b.jpg")
    with pytest.raises(ArchiveError, match=why) as caught:
        list(hostile.members(bad))
    assert caught.value.reason is reason
    assert list(hostile.members(good)) == [Member("a.jpg", 3), Member("b.jpg", 3)]
    assert hostile.read(good, "b.jpg", 10) == b"abc"


def test_more_bytes_than_requested_are_refused(hostile: ArchiveReader, tmp_path: Path) -> None:
    more = write_tar(tmp_path / "more.tar", "a.jpg")
    with pytest.raises(ArchiveError, match="more bytes than requested"):
        hostile.read(more, "a.jpg", 100)
    with pytest.raises(ArchiveError, match="invalid reply"):
        hostile.find(write_tar(tmp_path / "two.tar", "a.jpg"), "a.jpg")


def test_one_process_is_used_for_all(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a.tar", "a.jpg")
    second = write_tar(tmp_path / "b.tar", "b.jpg")
    with closing(ArchiveReader()) as reader:
        assert [member.name for member in reader.members(first)] == ["a.jpg"]
        pid = pid_of(reader)
        assert reader.read(second, "b.jpg", 2) == b"ab"
        with pytest.raises(ArchiveError, match="no longer in its archive"):
            reader.read(first, "b.jpg", 2)
        assert pid_of(reader) == pid
        limit, _ = resource.prlimit(pid, resource.RLIMIT_AS)
        assert MAX_MEMORY_BYTES < limit < 2 * MAX_MEMORY_BYTES


def test_a_reader_killed_while_idle_costs_nothing(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", "a.jpg")
    with closing(ArchiveReader()) as reader:
        assert reader.read(archive, "a.jpg", 10) == b"abc"
        os.kill(pid_of(reader), signal.SIGKILL)
        reader._process.wait()  # type: ignore[union-attr]
        assert reader.read(archive, "a.jpg", 10) == b"abc"


def test_a_reader_killed_at_its_start_is_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_tar(tmp_path / "a.tar", "a.jpg")
    begun: list[int] = []

    def start_and_kill(*args: Any) -> subprocess.Popen[bytes]:
        process = start_process(*args)
        begun.append(process.pid)
        if len(begun) % MAX_START_ATTEMPTS:
            process.kill()
        return process

    monkeypatch.setattr(archive_reader, "start_process", start_and_kill)
    monkeypatch.setattr(archive_reader, "RETRY_SECONDS", 0.01)
    with closing(ArchiveReader()) as reader:
        assert reader.read(archive, "a.jpg", 10) == b"abc"
    assert len(begun) == MAX_START_ATTEMPTS
    begun.append(0)
    monkeypatch.setattr(archive_reader, "MAX_START_ATTEMPTS", 1)
    with closing(ArchiveReader()) as reader, pytest.raises(WorkerError, match="SIGKILL"):
        reader.read(archive, "a.jpg", 10)


def test_an_abandoned_listing_ends_the_process(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", *(f"{n}.jpg" for n in range(5_000)))
    with closing(ArchiveReader()) as reader:
        members = reader.members(archive)
        assert next(members).name == "0.jpg"
        pid = pid_of(reader)
        members.close()
        assert not Path(f"/proc/{pid}").exists()
        assert len(list(reader.members(archive))) == 5_000


def test_a_stop_does_not_wait_for_an_archive(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    began = time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 0.5:
            raise Stopped

    hang = write_tar(tmp_path / "hang.tar", "a.jpg")
    with closing(ArchiveReader(check, HOSTILE)) as reader, pytest.raises(Stopped):
        list(reader.members(hang))
    assert time.monotonic() - began < 3


def test_a_pipe_in_an_archives_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    archives = ArchiveReaderPool()
    with pytest.raises(ArchiveError, match="not a regular file") as caught:
        archives.read(os.fspath(tmp_path / "a.zip"), "a.jpg", 10)
    archives.close()
    assert caught.value.reason is Reason.NOT_A_FILE


def test_a_member_that_needs_too_much_memory_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("lzma.jpg", b"abc" * 100, zipfile.ZIP_LZMA)
        file.writestr("plain.jpg", b"abc")
    data = bytearray(path.read_bytes())
    # The dictionary's size: after the local header with its name, a version, the length of the
    # properties and the first of these (APPNOTE, 5.8.8).
    where = 30 + len("lzma.jpg") + 4 + 1
    data[where : where + 4] = (0xF000_0000).to_bytes(4, "little")
    path.write_bytes(data)
    with closing(ArchiveReader()) as reader:
        with pytest.raises(ArchiveError, match="not enough memory") as caught:
            reader.read(os.fspath(path), "lzma.jpg", 1000)
        assert caught.value.reason is Reason.TOO_LARGE
        assert reader.read(os.fspath(path), "plain.jpg", 1000) == b"abc"


def test_only_a_few_archives_stay_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    photos = make_photos(tmp_path / "photos", 1)
    archives = [str(pack_tar(photos, tmp_path / f"{n}.tar")) for n in range(12)]
    before, shared = descriptors(), ArchiveReaderPool()
    for archive in [*archives, *archives]:
        assert shared.read(archive, "photos/00000.jpg", 10) == b"\xff\xd8\xff\xe0\0\x10JFIF"
        assert descriptors() - before <= MAX_OPEN_ARCHIVES
    shared.close()
    assert descriptors() == before
