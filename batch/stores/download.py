"""Files opened for reading, wherever they lie, and objects read as such."""

from __future__ import annotations

import errno
import io
import math
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Any, BinaryIO

from batch.errors import BatchLabelError
from batch.location import Location, Url
from batch.stopping import StopCheck, never_stop
from batch.stores.requests import POLL_SECONDS, retry, run_coroutine, wait_for_call
from batch.stores.store import open_store, translate_store_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from fsspec import AbstractFileSystem

# Bytes that are handed on at a time; what is asked of a store is more.
BUFFER_BYTES = 1 << 20
# An object's bytes must not come more slowly than so many in so many seconds. Azure's client gives
# the first 32 MiB at once, and has a time-out of its own.
MIN_BYTES = 64 * 1024
MIN_BYTES_SECONDS = 60.0


def read_object(
    url: str,
    max_bytes: int,
    check: StopCheck = never_stop,
    room: Callable[[int], bool] = lambda size: True,
    patience: float = math.inf,
) -> bytes:
    """Read an object, but not more than ``most`` bytes of it, in several attempts if need be.

    Whether there is more shows by asking for one byte more than is wanted. ``room`` tells whether
    so many bytes may be held now; until it does no more are read. ``patience`` is how many seconds
    ``MIN_BYTES`` may take at most.

    Raises:
        UsageError, OSError: as for ``open_store``.
        TimeoutError: the bytes come too slowly.
        Exception: whatever the store or ``check`` raises.
    """
    store, path = open_store(url)
    pieces = next((_READERS[scheme] for scheme in _READERS if scheme in store.protocol), None)

    seconds = None if "abfs" in store.protocol else min(MIN_BYTES_SECONDS, patience)

    def read() -> bytes:
        if pieces is not None:
            whole = _collect(pieces(store, path), max_bytes, room, seconds)
            try:
                return run_coroutine(store, whole, check, None)
            except TimeoutError as error:
                told = f"the server sent less than {MIN_BYTES:,} bytes in {seconds} s"
                raise TimeoutError(told) from error
        return wait_for_call(lambda: _read_file(store, path, max_bytes), check)

    return retry(read, check)


async def _collect(
    pieces: AsyncGenerator[bytes, None],
    max_bytes: int,
    room: Callable[[int], bool],
    seconds: float | None,
) -> bytes:
    import asyncio  # here, as a run on this machine's files does without

    clock = asyncio.get_running_loop().time
    kept = io.BytesIO()  # which gives its bytes without copying them
    due = MIN_BYTES
    async with asyncio.timeout(seconds) as limit, aclosing(pieces):
        async for piece in pieces:
            kept.write(piece[: max_bytes - kept.tell()])
            if kept.tell() >= max_bytes:
                break
            if not room(kept.tell()):
                limit.reschedule(None)
                while not room(kept.tell()):
                    await asyncio.sleep(POLL_SECONDS)
                due = 0
            if seconds is not None and kept.tell() >= due:
                due = kept.tell() + MIN_BYTES
                limit.reschedule(clock() + seconds)
    return kept.getvalue()


async def _iter_web(store: AbstractFileSystem, path: str) -> AsyncGenerator[bytes, None]:
    from batch.stores.http import iter_body

    session = await store.set_session()
    async with session.get(store.encode_url(path), **store.kwargs) as answer:
        store._raise_not_found_for_status(answer, path)
        async for piece in iter_body(answer):
            yield piece


async def _iter_s3(store: AbstractFileSystem, path: str) -> AsyncGenerator[bytes, None]:
    bucket, key, version = store.split_path(path)
    named = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
    body = (await store._call_s3("get_object", **named))["Body"]
    try:
        while piece := await body.read(BUFFER_BYTES):
            yield piece
    finally:
        body.close()


async def _iter_azure(store: AbstractFileSystem, path: str) -> AsyncGenerator[bytes, None]:
    from azure.core.exceptions import ResourceNotFoundError

    from batch.stores.http import decompress

    container, blob, version = store.split_path(path)
    async with store.service_client.get_blob_client(container, blob) as client:
        try:
            stream = await client.download_blob(version_id=version, decompress=False)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        encoding = stream.properties.content_settings.content_encoding or ""
        async for piece in decompress(stream.chunks(), encoding):
            yield piece


async def _iter_google(store: AbstractFileSystem, path: str) -> AsyncGenerator[bytes, None]:
    from gcsfs.retry import validate_response

    from batch.stores.http import iter_body

    await store._set_session()
    options = {"params": store._get_params({}), "headers": store._get_headers(None)}
    async with store.session.get(store.url(path), **options) as answer:
        if answer.status >= 400:
            validate_response(answer.status, await answer.read(), path)
        async for piece in iter_body(answer):
            yield piece


def _read_file(store: AbstractFileSystem, path: str, max_bytes: int) -> bytes:
    with store.open(path, "rb") as file:
        data: bytes = file.read(max_bytes)
    return data


_READERS = {
    "s3": _iter_s3,
    "gs": _iter_google,
    "abfs": _iter_azure,
    "http": _iter_web,
}


def open_location(place: Location, called: str, kind: type[BatchLabelError]) -> BinaryIO:
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
    with _translate_errors(called, kind):
        store, path = open_store(url.text)
        return io.BufferedReader(_ObjectReader(store.open(path, "rb"), called, kind), BUFFER_BYTES)


class _ObjectReader(io.RawIOBase):
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
        with _translate_errors(self._called, self._kind):
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


def _translate_errors(called: str, kind: type[BatchLabelError]) -> AbstractContextManager[None]:
    return translate_store_errors(
        f"{called} can't be read", kind, "look after the network and the store"
    )


def read_whole_object(url: str, limit: int, check: StopCheck = never_stop) -> bytes | None:
    """Read an object; None if it has more bytes than ``limit``.

    Raises:
        Exception: the store refuses, or there is no such object: see ``translate_store_errors``.
    """
    data = read_object(url, limit + 1, check)
    return data if len(data) <= limit else None
