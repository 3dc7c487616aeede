"""Archives read in place: the photos in a .zip or .tar file, without unpacking it."""

from __future__ import annotations

import lzma
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from batch.location import Location, location_of

# What the two libraries raise of an archive that is damaged.
_DAMAGES = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError)


class ArchiveError(Exception):
    """An archive, or a member of it, can't be read; ``gone`` where there is no such member."""

    def __init__(self, why: str, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


class Member(NamedTuple):
    """A file inside an archive: its size in bytes and time of change in nanoseconds."""

    name: str
    size: int
    mtime_ns: int


class Archive(Protocol):
    """An open archive; safe to share between threads."""

    def members(self) -> Iterator[Member]:
        """Give the files inside, in the order of their places in the archive.

        Raises:
            ArchiveError: it is damaged.
        """

    def read(self, name: str, most: int) -> bytes:
        """Read a member, but not more than ``most`` bytes of it.

        Raises:
            ArchiveError: there is none of that name, or it is damaged.
        """

    def close(self) -> None:
        """Close the file."""


def open_archive(path: str) -> Archive:
    """Open an archive on this machine or in a store.

    Raises:
        ArchiveError: it is none, or damaged.
        OSError, BatchLabelError: it can't be opened.
    """
    file = _opened(location_of(path))
    try:
        with _damages():
            return Zip(file) if path.lower().endswith(".zip") else Tar(file)
    except BaseException:
        file.close()
        raise


class Zip:
    """A ZIP file, whose index is at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._zip = zipfile.ZipFile(file)
        self._lock = threading.Lock()

    def members(self) -> Iterator[Member]:
        """Give the files inside: see ``Archive``."""
        # Of several with one name the last counts, as for whoever unpacks them all.
        last = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        for info in sorted(last.values(), key=lambda info: info.header_offset):
            yield Member(info.filename, info.file_size, _zip_time(info.date_time))

    def read(self, name: str, most: int) -> bytes:
        """Read a member: see ``Archive``."""
        with self._lock, _damages():
            try:
                info = self._zip.getinfo(name)
            except KeyError as error:
                raise ArchiveError("it is no longer in its archive", gone=True) from error
            try:
                with self._zip.open(info) as member:
                    return member.read(most)
            except (RuntimeError, NotImplementedError) as error:  # encrypted; unknown method
                raise ArchiveError(str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()


class Tar:
    """A tape archive without compression, as WebDataset makes them; it has no index but its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._offsets: dict[str, int] = {}
        self._damage: ArchiveError | None = None
        try:
            with _damages():
                self._look_through()
        except ArchiveError as damage:
            self._damage = damage  # what comes before it is there
        if self._damage and not self._members:
            raise self._damage

    def _look_through(self) -> None:
        with tarfile.open(fileobj=self._file, mode="r:") as archive:
            for info in archive:
                # Those that have their bytes in one piece.
                if info.isreg() and not info.issparse():
                    self._members.pop(info.name, None)  # of several with one name the last counts
                    self._members[info.name] = Member(info.name, info.size, int(info.mtime * 1e9))
                    self._offsets[info.name] = info.offset_data

    def members(self) -> Iterator[Member]:
        """Give the files inside: see ``Archive``."""
        yield from self._members.values()
        if self._damage:
            raise self._damage

    def read(self, name: str, most: int) -> bytes:
        """Read a member: see ``Archive``."""
        if name not in self._members:
            raise ArchiveError("it is no longer in its archive", gone=True)
        size = min(self._members[name].size, most)
        with self._lock:
            self._file.seek(self._offsets[name])
            data = self._file.read(size)
        if len(data) < size:
            raise ArchiveError("its archive ends too early")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _opened(location: Location) -> BinaryIO:
    if isinstance(location, Path):
        return location.open("rb")
    from batch.stores.store import open_store

    store, path = open_store(location.text)
    # Photos are asked for in the order of the archive, or nearly: a block has many of them.
    file: BinaryIO = store.open(
        path, "rb", block_size=4 * 1024**2, cache_type="background", cache_options={"maxblocks": 8}
    )
    return file


@contextmanager
def _damages() -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        raise ArchiveError(str(error) or type(error).__name__) from error


def _zip_time(parts: tuple[int, int, int, int, int, int]) -> int:
    """Turn a ZIP file's time, which has no zone, into nanoseconds, 0 where it is none."""
    try:
        return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return 0
