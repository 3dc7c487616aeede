"""ZIP and tar archives, read in place without unpacking.

Runs in a process of its own, as a crafted archive may use unlimited memory and time: see
``archive_child.py``.
"""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from stat import S_ISLNK
from typing import IO, BinaryIO, NamedTuple, Protocol

from batch.errors import BatchLabelError
from batch.files.regular_file import open_regular
from batch.found import is_size
from batch.location import Location, parse_location
from batch.records import Reason

MAX_ZIP_INDEX = 128 * 1024**2  # bytes; a member takes about a hundred
MAX_TAR_HEADER = 16 * 1024**2  # bytes; it holds a name
MAX_TAR_PADDING = 64 * 1024**2  # bytes after a tar that are searched for another one
CHUNK_BYTES = 256 * 1024
# ZIP, by sections of APPNOTE.TXT:
_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")  # of a file with members, and of an empty one (4.3.7, 4.3.16)
_ZIP_HEADER = 30  # bytes of a local header without name and extra field (4.3.7)
_ZIP_INDEX_ENTRY = struct.Struct("<4s4xH18x3H12x")  # signature, flags, three lengths (4.3.12)
_ENCRYPTED, _UTF8 = 1, 1 << 11  # flags (4.4.4)
_METHODS = frozenset(
    (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    + ((zipfile.ZIP_ZSTANDARD,) if hasattr(zipfile, "ZIP_ZSTANDARD") else ())
)
_METHOD_NAMES = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 98: "PPMd"}
_UNPACK_REMEDY = "unpack it, or pack it again as an ordinary zip"
_TAR_BLOCK = 512
_TAR_MAGIC = slice(257, 262)
# Archives that can't be read in place.
_UNSUPPORTED_MAGICS = {
    b"\x1f\x8b": "compressed with gzip (.tar.gz)",
    b"\x1f\x9d": "compressed with compress (.tar.Z)",
    b"BZh": "compressed with bzip2 (.tar.bz2)",
    b"\xfd7zXZ\0": "compressed with xz (.tar.xz)",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard (.tar.zst)",
    b"\x04\x22\x4d\x18": "compressed with LZ4 (.tar.lz4)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive (.7z)",
    b"Rar!\x1a\x07": "a RAR archive (.rar)",
}
LINK_IN_ARCHIVE = "symbolic link in an archive"
NOT_REGULAR = "not a regular file"


class ArchiveError(Exception):
    """An archive or one of its members can't be read, for this ``reason``."""

    def __init__(self, detail: str, reason: Reason = Reason.CORRUPT) -> None:
        super().__init__(detail)
        self.reason = reason


class Member(NamedTuple):
    """A member of an archive.

    Attributes:
        name: its name in the archive.
        size: its unpacked size in bytes.
        detail: what is wrong with it, or why it is skipped; empty for a sound file.
        reason: the reason in the report, if ``detail`` is not empty.
        is_skipped: it is not a file but a link, a pipe or a device.
    """

    name: str
    size: int
    detail: str = ""
    reason: Reason = Reason.CORRUPT
    is_skipped: bool = False


class Archive(Protocol):
    """An open archive."""

    def members(self, tick: Callable[[], None]) -> Iterator[Member]:
        """Iterate over the members in the order of their bytes, without directories.

        Args:
            tick: called during long work.

        Raises:
            ArchiveError: the archive is damaged.
        """

    def find(self, name: str) -> Member:
        """Find a member.

        Raises:
            ArchiveError: there is no member of that name.
        """

    def read(self, member: Member, max_bytes: int) -> Iterator[bytes]:
        """Read at most ``max_bytes`` bytes of a member, in pieces.

        Raises:
            ArchiveError: it is damaged.
        """

    def close(self) -> None:
        """Close the file."""


def open_archive(path: str, tick: Callable[[], None] = lambda: None) -> Archive:
    """Open an archive on this machine or in a store.

    Args:
        path: a path or URL.
        tick: called during long work.

    Raises:
        ArchiveError: it is not an archive, or damaged.
        OSError, BatchLabelError: it can't be opened.
    """
    file = _open(parse_location(path))
    try:
        is_zip = _is_zip(path, file)
        limited = _BoundedReader(file, MAX_ZIP_INDEX if is_zip else MAX_TAR_HEADER)
        return ZipArchive(limited) if is_zip else TarArchive(limited, tick)
    except BaseException:
        file.close()
        raise


def _is_zip(path: str, file: BinaryIO) -> bool:
    """Return whether an archive is a zip and not a tar, by its first bytes or else its name.

    Raises:
        ArchiveError: it is of another kind.
    """
    head = file.read(_TAR_BLOCK)
    file.seek(0)
    for magic, packed in _UNSUPPORTED_MAGICS.items():
        if head.startswith(magic):
            detail = f"it is {packed}, unlike its name: rename it, then unpack it"
            raise ArchiveError(detail, Reason.UNSUPPORTED)
    if head.startswith(_ZIP_MAGICS):
        return True
    return head[_TAR_MAGIC] != b"ustar" and path.lower().endswith(".zip")


def _open(location: Location) -> BinaryIO:
    if isinstance(location, Path):
        return open_regular(location)
    from batch.stores.store import open_store

    store, path = open_store(location.text)
    # Members are read nearly in order, so a block holds many of the next ones.
    file: BinaryIO = store.open(
        path, "rb", block_size=4 * 1024**2, cache_type="background", cache_options={"maxblocks": 8}
    )
    return file


class ZipArchive:
    """A ZIP file; its index is at the end."""

    def __init__(self, file: _BoundedReader) -> None:
        self._file = file
        with _translate_damage(file):
            self._zip = _open_zip(file)
            self._overlapping = _find_overlapping(self._zip.infolist())

    def members(self, tick: Callable[[], None]) -> Iterator[Member]:
        """Iterate over the members: see ``Archive``."""
        # If several members have the same name, the last one counts, as when unpacking.
        last = {
            info.filename: info for info in self._zip.infolist() if not info.filename.endswith("/")
        }
        for info in sorted(last.values(), key=lambda info: info.header_offset):
            yield self._to_member(info)

    def find(self, name: str) -> Member:
        """Find a member: see ``Archive``."""
        try:
            return self._to_member(self._zip.getinfo(name))
        except KeyError as error:
            raise _make_vanished_error() from error

    def read(self, member: Member, max_bytes: int) -> Iterator[bytes]:
        """Read a member: see ``Archive``."""
        with _translate_damage(self._file), self._open(member.name) as stream:
            while max_bytes > 0 and (data := stream.read(min(max_bytes, CHUNK_BYTES))):
                max_bytes -= len(data)
                yield data

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def _open(self, name: str) -> IO[bytes]:
        info = self._zip.getinfo(name)
        # The local header repeats the name, with a flag that must agree with the index.
        self._file.patch = _keep_unchanged if info.flag_bits & _UTF8 else _unset_utf8
        try:
            return self._zip.open(info)
        finally:
            self._file.patch = _keep_unchanged

    def _to_member(self, info: zipfile.ZipInfo) -> Member:
        if S_ISLNK(info.external_attr >> 16):
            return Member(info.filename, 0, LINK_IN_ARCHIVE, Reason.NOT_A_FILE, is_skipped=True)
        if info.header_offset in self._overlapping:
            return Member(info.filename, 0, "its bytes overlap those of another member")
        if not is_size(info.file_size):
            return Member(info.filename, 0, f"invalid size {info.file_size}")
        if detail := _describe_unreadable(info):
            return Member(info.filename, 0, detail, Reason.UNSUPPORTED)
        return Member(info.filename, info.file_size)


def _describe_unreadable(info: zipfile.ZipInfo) -> str:
    """Return why a sound member can't be read, "" if it can."""
    if info.flag_bits & _ENCRYPTED:
        return f"encrypted in its archive: {_UNPACK_REMEDY}"
    if info.compress_type not in _METHODS:
        name = _METHOD_NAMES.get(info.compress_type, f"method {info.compress_type}")
        return f"compressed with {name}, which can't be read here: {_UNPACK_REMEDY}"
    return ""


def _open_zip(file: _BoundedReader) -> zipfile.ZipFile:
    """Open a ZIP file; names that are flagged as UTF-8 but are not are read as cp437."""
    try:
        return zipfile.ZipFile(file)
    except UnicodeDecodeError:
        file.patch = _unset_utf8
        file.seek(0)
        return zipfile.ZipFile(file)
    finally:
        file.patch = _keep_unchanged


def _unset_utf8(data: bytes) -> bytes:
    """Clear the UTF-8 flag in the local header of a ZIP, and in index entries that are not UTF-8.

    All other data is unchanged. Source: APPNOTE.TXT, 4.3.7 and 4.3.12.
    """
    patched, at = bytearray(data), 0
    if data[:4] == b"PK\3\4" and len(data) == _ZIP_HEADER:
        struct.pack_into("<H", patched, 6, int.from_bytes(data[6:8], "little") & ~_UTF8)
    while at + _ZIP_INDEX_ENTRY.size <= len(data):
        signature, flags, *lengths = _ZIP_INDEX_ENTRY.unpack_from(data, at)
        if signature != b"PK\1\2":
            break
        name = data[at + _ZIP_INDEX_ENTRY.size : at + _ZIP_INDEX_ENTRY.size + lengths[0]]
        if flags & _UTF8 and not _is_utf8(name):
            struct.pack_into("<H", patched, at + 8, flags & ~_UTF8)
        at += _ZIP_INDEX_ENTRY.size + sum(lengths)
    return bytes(patched)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _find_overlapping(infos: list[zipfile.ZipInfo]) -> set[int]:
    """Return the offsets of members that overlap the next one, as in zip bombs.

    With them a small archive holds many large files, which a limit per member does not stop.
    """
    ordered = sorted(infos, key=lambda info: info.header_offset)
    return {
        info.header_offset
        for info, after in pairwise(ordered)
        if info.header_offset + _ZIP_HEADER + info.compress_size > after.header_offset
    }


class TarArchive:
    """An uncompressed tar, such as a WebDataset shard, indexed when it is opened."""

    def __init__(self, file: _BoundedReader, tick: Callable[[], None]) -> None:
        self._file = file
        self._members: dict[str, Member] = {}  # by normalised name
        self._offsets: dict[str, int] = {}
        self._damage: ArchiveError | None = None
        try:
            with _translate_damage(file):
                self._scan(tick)
        except ArchiveError as damage:
            self._damage = damage  # the members before it can be read
        if self._damage and not self._members:
            raise self._damage

    def members(self, tick: Callable[[], None]) -> Iterator[Member]:
        """Iterate over the members: see ``Archive``."""
        yield from self._members.values()
        if self._damage:
            raise self._damage

    def find(self, name: str) -> Member:
        """Find a member: see ``Archive``."""
        try:
            return self._members[_normalise_name(name)]
        except KeyError as error:
            raise _make_vanished_error() from error

    def read(self, member: Member, max_bytes: int) -> Iterator[bytes]:
        """Read a member: see ``Archive``."""
        rest = min(member.size, max_bytes)
        with _translate_damage(self._file):
            self._file.seek(self._offsets[_normalise_name(member.name)])
            while rest:
                data = self._file.read(min(rest, CHUNK_BYTES))
                if not data:
                    raise ArchiveError("its archive ends too early")
                rest -= len(data)
                yield data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _scan(self, tick: Callable[[], None]) -> None:
        """Index the members, also those of appended archives (``cat a.tar b.tar``)."""
        start: int | None = 0
        while start is not None:
            self._file.seek(start)
            end = self._scan_one(tick)
            start = self._find_next_archive(end, tick)

    def _scan_one(self, tick: Callable[[], None]) -> int:
        """Index the archive that begins at the current position, and return where it ends."""
        before = -1
        with tarfile.open(
            fileobj=self._file,  # type: ignore[call-overload]
            mode="r:",
            encoding="utf-8",  # in any locale
            errors="surrogateescape",
        ) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # tarfile would keep them all
                tick()
                if info.offset <= before:
                    raise ArchiveError("its headers form a loop")
                before = info.offset
                self._add_member(info)
            end: int = archive.offset
        self._file.seek(end)
        if self._file.read(_TAR_BLOCK).strip(b"\0"):
            raise ArchiveError(f"invalid header at byte {end:,}")
        return end

    def _find_next_archive(self, end: int, tick: Callable[[], None]) -> int | None:
        """Return where an appended archive begins, after the zeros that end one; else None."""
        self._file.seek(end)
        for at in range(end, end + MAX_TAR_PADDING, CHUNK_BYTES):
            tick()
            data = self._file.read(CHUNK_BYTES)
            rest = data.lstrip(b"\0")
            if rest:
                start = at + (len(data) - len(rest)) // _TAR_BLOCK * _TAR_BLOCK
                self._file.seek(start)
                return start if self._is_header(self._file.read(_TAR_BLOCK), start) else None
            if len(data) < CHUNK_BYTES:
                return None
        return None

    def _is_header(self, block: bytes, at: int) -> bool:
        try:
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if block[_TAR_MAGIC] == b"ustar":
                raise ArchiveError(f"damaged header at byte {at:,}") from error
            return False
        return True

    def _add_member(self, info: tarfile.TarInfo) -> None:
        if info.isdir():
            return
        name = _normalise_name(info.name)
        linked = _normalise_name(info.linkname) if info.islnk() else None
        target = self._members.get(linked) if linked else None
        if target and linked == name:
            return  # a file that is packed twice is a link to itself the second time
        self._members.pop(name, None)  # the last one of that name counts
        if not (info.isreg() or info.islnk()):
            detail = LINK_IN_ARCHIVE if info.issym() else NOT_REGULAR
            member, offset = Member(info.name, 0, detail, Reason.NOT_A_FILE, is_skipped=True), 0
        elif linked is not None:
            detail = "" if target else "a hard link to a file that does not precede it"
            member = target._replace(name=info.name) if target else Member(info.name, 0, detail)
            offset = self._offsets.get(linked, 0)
        elif info.issparse():  # its bytes are in several pieces
            detail = "a sparse file, which can't be read in its archive: unpack it"
            member, offset = Member(info.name, 0, detail, Reason.UNSUPPORTED), 0
        else:
            member, offset = _tar_to_member(info), info.offset_data
        self._members[name], self._offsets[name] = member, offset


def _normalise_name(name: str) -> str:
    """Return the path that a member is unpacked to: without ".", doubled or leading slashes."""
    if "./" not in name and "//" not in name and not name.startswith("/"):
        return name
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _tar_to_member(info: tarfile.TarInfo) -> Member:
    if is_size(info.size):
        return Member(info.name, info.size)
    return Member(info.name, 0, f"invalid size {info.size}"[:80])


def _make_vanished_error() -> ArchiveError:
    return ArchiveError("it is no longer in its archive", Reason.VANISHED)


class _BoundedReader:
    """A file whose reads are limited, for readers that trust the lengths in an archive.

    Attributes:
        read_error: the system's or store's exception, which those readers may report as damage.
        patch: a function that all bytes pass through.
    """

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.read_error: Exception | None = None
        self.patch: Callable[[bytes], bytes] = _keep_unchanged
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > self._max_bytes:
            raise ArchiveError(
                f"{size:,} bytes of headers, more than {self._max_bytes:,}", Reason.TOO_LARGE
            )
        try:
            # `zipfile` reads to the end, without a size, to find the index of a zip.
            data = self._file.read(self._max_bytes + 1 if size < 0 else size)
        except Exception as error:
            self.read_error = error
            raise
        if len(data) > self._max_bytes:
            raise ArchiveError(f"more than {self._max_bytes:,} bytes of headers", Reason.TOO_LARGE)
        return self.patch(data)


def _keep_unchanged(data: bytes) -> bytes:
    return data


@contextmanager
def _translate_damage(file: _BoundedReader) -> Iterator[None]:
    """Turn exceptions of the archive readers into ``ArchiveError``, but not those of reads."""
    try:
        yield
    except (ArchiveError, BatchLabelError, MemoryError):
        raise
    except Exception as error:  # the readers raise many types for crafted archives
        if file.read_error is not None:
            raise file.read_error from error
        raise ArchiveError(str(error) or type(error).__name__) from error
