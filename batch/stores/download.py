"""Files opened for reading, wherever they lie, and objects read as such."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO

from batch.errors import BatchLabelError
from batch.location import Location, Url
from batch.stores.store import open_store, store_refusals

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Bytes that are handed on at a time; what is asked of a store is more.
BUFFER = 1 << 20


def opened(place: Location, called: str, kind: type[BatchLabelError]) -> BinaryIO:
    """Open a file for reading, on this machine or behind a URL.

    Raises:
        OSError: it is on this machine, and missing, or the system refuses.
        BatchLabelError, UsageError: it is not, as for ``open_object``.
    """
    if isinstance(place, Url):
        return open_object(place, called, kind)
    return place.open("rb")


def open_object(url: Url, called: str, kind: type[BatchLabelError]) -> BinaryIO:
    """Open an object for reading, from its beginning or by seeking; messages name it ``called``.

    Raises:
        BatchLabelError: of this ``kind``: it is missing, or the store refuses or does not
            answer. Reading from the stream raises the same.
        UsageError: a package that the store needs is not installed.
    """
    with _fetching(called, kind):
        store, path = open_store(url.text)
        return io.BufferedReader(_Object(store.open(path, "rb"), called, kind), BUFFER)


class _Object(io.RawIOBase):
    """An object's bytes, with what its store raises in the terms of the program."""

    def __init__(self, file: Any, called: str, kind: type[BatchLabelError]) -> None:
        self._file = file
        self._called = called
        self._kind = kind

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        with _fetching(self._called, self._kind):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def close(self) -> None:
        self._file.close()
        super().close()


def _fetching(called: str, kind: type[BatchLabelError]) -> AbstractContextManager[None]:
    return store_refusals(f"{called} can't be read", kind, "look after the network and the store")
