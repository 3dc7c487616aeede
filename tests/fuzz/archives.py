"""Broken archives: listed between sound files, and some of their members read."""

from __future__ import annotations

import functools
import io
import random
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from batch.discovery.archive import ArchiveError, open_archive
from batch.discovery.discover import Discovery
from batch.discovery.fetcher import Fetcher
from batch.errors import BatchLabelError
from batch.found import FoundFile
from batch.journal.journal import Journal
from batch.location import Url
from batch.options import Search
from batch.records import Failure
from tests.fuzz.cases import (
    MAX_MESSAGE_CHARACTERS,
    Case,
    check_line,
    check_message,
    get_case_folder,
    make_broken_case,
    write_case,
)
from tests.fuzz.mutations import EXTREMES, Mutation
from tests.fuzz.seeds import make_seeds
from tests.fuzz.text_mutations import BYTES, mutate_end

BLOCK = 512  # bytes of a tar header
READ = 2  # members read per archive
MAX_LISTED = 10_000  # members listed per archive
DISCOVERY_INTERVAL = 100  # cases between two that a whole discovery lists, with its processes
MAX_MEMBER = 1_000_000  # bytes
# Signatures of the parts of a ZIP file, and the length of their fixed fields (APPNOTE.TXT).
ZIP_PARTS = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22, b"PK\x06\x06": 56,
             b"PK\x06\x07": 20}  # fmt: skip
# Fields of a tar header: offset and length (POSIX.1-1988, ustar).
TAR_FIELDS = ((0, 100), (100, 8), (108, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8),
              (265, 32), (329, 8), (345, 155))  # fmt: skip
SOUND = ("a-sound.jpg", "z-sound.zip")


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Make small archives of every supported format."""
    photos = {
        "a.jpg": make_seeds()["jpeg-grey"],
        "sub/b.webp": make_seeds()["webp-alpha"],
        "note.txt": b"x",
        "sub/\u00e9\u65e5.png": make_seeds()["png-1bit"],
    }
    return {
        "zip-stored": _zip(photos, zipfile.ZIP_STORED),
        "zip-deflated": _zip(photos, zipfile.ZIP_DEFLATED),
        "zip-lzma": _zip(photos, zipfile.ZIP_LZMA),
        "zip-large": _zip(photos, zipfile.ZIP_STORED, force_zip64=True),
        "tar-pax": _tar(photos, tarfile.PAX_FORMAT),
        "tar-gnu": _tar(photos, tarfile.GNU_FORMAT),
        "tar-ustar": _tar(photos, tarfile.USTAR_FORMAT),
    }


def make(seed: int, number: int) -> Case:
    """Make a broken archive from a seed and a number."""
    return make_broken_case(seed, number, make_sound_files(), MUTATIONS)


def check(case: Case) -> str:
    """Parse a broken archive in this process, and some with the discovery of a run."""
    suffix = case.name.split("-")[1]
    place = write_case(f"broken.{suffix}", case.data)
    if int(case.name.split("-")[0]) % DISCOVERY_INTERVAL == 0:
        return _check_discovery(place)
    try:
        return _parse(place)
    except AssertionError:
        raise
    except (ArchiveError, OSError):
        return "refused"
    except Exception as error:  # in a run, the process that parses archives survives these
        return f"contained: {type(error).__name__}"


def _parse(place: Path) -> str:
    """List an archive and read some members in this process."""
    archive = open_archive(str(place))
    try:
        members = list(islice(archive.members(lambda: None), MAX_LISTED))
        for member in members:
            member.name.encode("utf-8", "surrogateescape")  # raises if it is not a valid name
            assert 0 <= member.size < 2**63, f"a size of {member.size}"
        for member in members[:READ]:
            assert sum(map(len, archive.read(member, MAX_MEMBER))) <= MAX_MEMBER
    finally:
        archive.close()
    return "parsed" if members else "empty"


def _check_discovery(place: Path) -> str:
    """List a broken archive between sound files, and read some members, as a run does."""
    listed = _discover_sound_files()
    starts = [str(get_case_folder() / SOUND[0]), str(place), str(get_case_folder() / SOUND[1])]
    found = list(Discovery(starts, Search()))
    assert found[:1] == listed[:1], "another file before the archive"
    assert found[-len(listed[1:]) :] == listed[1:], "other files after the archive"
    broken = found[1 : -len(listed[1:])]
    for file in broken:
        _check_found(file)
    failed = sum(file.failure is not None for file in broken)
    fetched = _read([file for file in broken if file.failure is None][:READ])
    if not broken:
        return "discovered: empty"
    return "discovered: refused" if failed == len(broken) else f"discovered: listed, {fetched}"


def _check_found(file: FoundFile) -> None:
    assert file.path.encode("utf-8", "surrogateescape")
    assert file.size is None or file.size >= 0, f"a size of {file.size}"
    if file.failure:
        check_line(file.failure.detail)
        return
    # A run puts the files that it finds into a journal.
    if max(abs(file.size or 0), abs(file.mtime_ns or 0)) >= 2**63:
        state = get_case_folder() / "large.journal"
        state.unlink(missing_ok=True)
        journal = Journal(state, b"basis")
        try:
            journal.plan_run([file], fresh=False, verify=False)
            list(journal.pending())
        finally:
            journal.close()


def _read(files: list[FoundFile]) -> str:
    """Read members as a run does; return the outcome in a word."""
    word = "nothing"
    with _fetcher() as fetcher:
        for file in files:
            location = file.location
            if not isinstance(location, Url):
                continue
            try:
                content = fetcher.fetch(location).content
            except BatchLabelError as error:
                check_message(error)
                word = type(error).__name__
                continue
            if isinstance(content, Failure):
                check_line(content.detail)
                assert len(content.detail) < MAX_MESSAGE_CHARACTERS, (
                    f"{len(content.detail)} characters"
                )
                word = content.reason.value
            else:
                assert len(content) <= MAX_MEMBER
                word = "read"
    return word


@contextmanager
def _fetcher() -> Iterator[Fetcher]:
    fetcher = Fetcher(MAX_MEMBER)
    try:
        yield fetcher
    finally:
        fetcher.close()


@functools.cache
def _discover_sound_files() -> list[FoundFile]:
    write_case(SOUND[0], make_seeds()["jpeg-grey"])
    write_case(SOUND[1], make_sound_files()["zip-deflated"])
    found = list(Discovery([str(get_case_folder() / name) for name in SOUND], Search()))
    assert len(found) == 4
    return found


def change_zip_field(data: bytes, rng: random.Random) -> bytes:
    """Write an extreme number to a fixed field of a part of a ZIP file."""
    places = [(at, size) for sign, size in ZIP_PARTS.items() for at in _find_all(data, sign)]
    if not places:
        return change_tar_field(data, rng)
    at, size = rng.choice(places)
    at += 4 + 2 * rng.randrange((size - 4) // 2)
    width = rng.choice((2, 2, 4, 8))
    number = rng.choice(EXTREMES) % (1 << 8 * width)
    return data[:at] + number.to_bytes(width, "little") + data[at + width :]


def change_tar_field(data: bytes, rng: random.Random) -> bytes:
    """Change a field of a tar header and repair its checksum."""
    headers = [at - 257 for at in _find_all(data, b"ustar") if at >= 257]
    if not headers:
        return data
    at = rng.choice(headers)
    start, length = rng.choice(TAR_FIELDS)
    value = rng.choice((
        b"7" * length, b"\x80" + b"\xff" * (length - 1), b"\xff" * length, bytes(length),
        b"-1", b"../" * 40, b"\x80" + bytes(max(0, length - 2)) + b"\x01", rng.randbytes(length),
        bytes([rng.choice(b"0123456789LKSxgVMDN\0")]),
    ))[:length].ljust(length, b"\0")  # fmt: skip
    header = bytearray(data[at : at + BLOCK])
    header[start : start + length] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) % (1 << 18))
    return data[:at] + bytes(header) + data[at + BLOCK :]


def _find_all(data: bytes, sign: bytes) -> Iterator[int]:
    at = data.find(sign)
    while at >= 0:
        yield at
        at = data.find(sign, at + 1)


MUTATIONS: tuple[Mutation, ...] = (
    *BYTES,
    *(mutate_end(mutation, 400) for mutation in BYTES[:4]),
    *(change_zip_field,) * 5,
)


def _zip(files: dict[str, bytes], method: int, force_zip64: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.compress_type = method
            with archive.open(info, "w", force_zip64=force_zip64) as member:
                member.write(data)
        archive.comment = b"a comment"
    return stream.getvalue()


def _tar(files: dict[str, bytes], form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
        if form != tarfile.USTAR_FORMAT:
            info = tarfile.TarInfo("long/" * 30 + "c.jpg")
            info.size = 9
            archive.addfile(info, io.BytesIO(b"no photo!"))
    return stream.getvalue()
