"""Downloads: objects read into memory within limits, and objects opened as files."""

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

BUFFER_BYTES = 1 << 20
# Lowest rate at which an object may arrive: this many bytes in this many seconds. It does not apply
# to Azure, whose client returns the first 32 MiB at once and has its own time-out.
MIN_BYTES = 64 * 1024
MIN_BYTES_SECONDS = 60.0


def read_whole_object(url: str, limit: int, check: StopCheck = never_stop) -> bytes | None:
    """Read an object; return None if it has more than ``limit`` bytes.

    Raises:
        Exception: as for ``read_object``.
    """
    data = read_object(url, limit + 1, check)
    return data if len(data) <= limit else None


def read_object(
    url: str,
    max_bytes: int,
    check: StopCheck = never_stop,
    may_hold: Callable[[int], bool] = lambda size: True,
    patience: float = math.inf,
) -> bytes:
    """Read at most ``max_bytes`` bytes of an object, with retries.

    Args:
        url: where the object is.
        max_bytes: give one byte more than the limit to detect an object that is too large.
        check: called while waiting; raises an exception to end the wait.
        may_hold: whether this many bytes may be in memory now; reading pauses while it is false.
        patience: seconds that each ``MIN_BYTES`` may take, capped at ``MIN_BYTES_SECONDS``.

    Raises:
        UsageError, OSError: as for ``open_store``.
        TimeoutError: the bytes arrive too slowly.
        Exception: what the store or ``check`` raises.
    """
    store, path = open_store(url)
    iter_pieces = next((_READERS[name] for name in _READERS if name in store.protocol), None)
    seconds = None if "abfs" in store.protocol else min(MIN_BYTES_SECONDS, patience)

    def read() -> bytes:
        if iter_pieces is None:
            return wait_for_call(lambda: _read_file(store, path, max_bytes), check)
        whole = _collect(iter_pieces(store, path), max_bytes, may_hold, seconds)
        try:
            return run_coroutine(store, whole, check, None)
        except TimeoutError as error:
            detail = f"the server sent less than {MIN_BYTES:,} bytes in {seconds} s"
            raise TimeoutError(detail) from error

    return retry(read, check)


def _read_file(store: AbstractFileSystem, path: str, max_bytes: int) -> bytes:
    with store.open(path, "rb") as file:
        data: bytes = file.read(max_bytes)
    return data


async def _collect(
    pieces: AsyncGenerator[bytes, None],
    max_bytes: int,
    may_hold: Callable[[int], bool],
    seconds: float | None,
) -> bytes:
    import asyncio  # not needed by runs on local files

    clock = asyncio.get_running_loop().time
    kept = io.BytesIO()  # returns its bytes without a copy
    due = MIN_BYTES
    async with asyncio.timeout(seconds) as limit, aclosing(pieces):
        async for piece in pieces:
            kept.write(piece[: max_bytes - kept.tell()])
            if kept.tell() >= max_bytes:
                break
            if not may_hold(kept.tell()):
                limit.reschedule(None)
                while not may_hold(kept.tell()):
                    await asyncio.sleep(POLL_SECONDS)
                due = 0
            if seconds is not None and kept.tell() >= due:
                due = kept.tell() + MIN_BYTES
                limit.reschedule(clock() + seconds)
    return kept.getvalue()


async def _iter_web(store: AbstractFileSystem, path: str) -> AsyncGenerator[bytes, None]:
    from batch.stores.http import iter_body

    session = await store.set_session()
    async with session.get(store.encode_url(path), **store.kwargs) as response:
        store._raise_not_found_for_status(response, path)
        async for piece in iter_body(response):
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
    async with store.session.get(store.url(path), **options) as response:
        if response.status >= 400:
            validate_response(response.status, await response.read(), path)
        async for piece in iter_body(response):
            yield piece


_READERS = {
    "s3": _iter_s3,
    "gs": _iter_google,
    "abfs": _iter_azure,
    "http": _iter_web,
}


def open_location(
    location: Location, display_name: str, error_type: type[BatchLabelError]
) -> BinaryIO:
    """Open a local file or an object for reading.

    Args:
        location: where it is.
        display_name: its name in messages about an object.
        error_type: what errors of an object's store are turned into.

    Raises:
        OSError: a local file is missing, or the system refuses.
        BatchLabelError, UsageError: as for ``open_object``.
    """
    if isinstance(location, Url):
        return open_object(location, display_name, error_type)
    return location.open("rb")


def open_object(url: Url, display_name: str, error_type: type[BatchLabelError]) -> BinaryIO:
    """Open an object as a seekable file; arguments as for ``open_location``.

    Raises:
        BatchLabelError: an ``error_type``: the object is missing, or the store refuses or does not
            reply. Reading from the stream raises the same.
        UsageError: a package that the store needs is not installed.
    """
    with _translate_errors(display_name, error_type):
        store, path = open_store(url.text)
        raw = _ObjectReader(store.open(path, "rb"), display_name, error_type)
        return io.BufferedReader(raw, BUFFER_BYTES)


class _ObjectReader(io.RawIOBase):
    """An object as a raw stream; the store's exceptions become exceptions of this program."""

    def __init__(self, file: Any, display_name: str, error_type: type[BatchLabelError]) -> None:
        self._file = file
        self._display_name = display_name
        self._error_type = error_type

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        with _translate_errors(self._display_name, self._error_type):
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


def _translate_errors(
    display_name: str, error_type: type[BatchLabelError]
) -> AbstractContextManager[None]:
    return translate_store_errors(
        f"{display_name} can't be read", error_type, "check the network and the store"
    )
