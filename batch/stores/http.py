"""HTTP responses of bounded size: a limit on the bytes of a body in memory, compressed or not.

The clients' sessions read replies whole and decompress them without a limit. The sessions and
response classes here read them in pieces instead.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

CONNECT_TIMEOUT_SECONDS = 30.0
SILENCE_TIMEOUT_SECONDS = 60.0  # without a byte from the server
# Limit of a reply that is not a photo, such as a page of a listing.
MAX_RESPONSE_BYTES = 64 * 1024**2
CHUNK_BYTES = 256 * 1024
FIRST_ERROR_STATUS = 300  # from this status on, S3's client reads the body as an error message
_IDENTITY = ("", "identity")
_ZLIB = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP_WBITS = zlib.MAX_WBITS | 32


class ResponseError(ValueError):
    """A reply is too large, truncated, or in an unknown content encoding."""


def build_session_options() -> dict[str, Any]:
    """Return the options of an aiohttp session: time-outs and bounded replies."""
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=SILENCE_TIMEOUT_SECONDS
    )
    return {
        "timeout": timeout,
        "response_class": BoundedResponse,
        "auto_decompress": False,  # it has no limit
        "headers": {"Accept-Encoding": "identity"},
    }


async def open_session(**options: Any) -> aiohttp.ClientSession:
    """Open the session of a web server's store; the user's options win."""
    return aiohttp.ClientSession(**{**build_session_options(), **options})


class BoundedResponse(aiohttp.ClientResponse):
    """An aiohttp response whose ``read`` stops at ``MAX_RESPONSE_BYTES``."""

    async def read(self) -> bytes:
        """Read the whole body.

        Raises:
            ResponseError: it is too large.
        """
        if self._body is None:
            self._body = await read_body(self)
        return self._body


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]
    """The HTTP session of S3's client, with bounded replies; objects are streamed as before."""

    async def send(self, request: Any) -> Any:
        """Send a request.

        Raises:
            ResponseError: a reply that is not streamed is too large.
        """
        streamed = request.stream_output
        request.stream_output = True  # otherwise the client reads the reply whole
        try:
            response = await super().send(request)
        finally:
            request.stream_output = streamed
        if not streamed or response.status_code >= FIRST_ERROR_STATUS:
            response._content = await read_body(response.raw)
        return response


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """Read a body of at most ``MAX_RESPONSE_BYTES``; close the connection if that fails.

    Raises:
        ResponseError: it is too large.
    """
    import asyncio  # not needed by runs on local files

    body = bytearray()
    try:
        async for piece in iter_body(response):
            body += piece
            if len(body) > MAX_RESPONSE_BYTES:
                raise ResponseError(f"the reply is larger than {MAX_RESPONSE_BYTES:,} bytes")
            await asyncio.sleep(0)  # decompression alone never yields to other tasks
    except BaseException:
        response.close()
        raise
    return bytes(body)


async def iter_body(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Iterate over the pieces of a body, decompressed if the server compresses it regardless.

    Raises:
        ResponseError: its encoding is unknown, or it is truncated.
        zlib.error: it is damaged.
    """
    encoding = response.headers.get("Content-Encoding", "")
    async for piece in decompress(response.content.iter_chunked(CHUNK_BYTES), encoding):
        yield piece


async def decompress(pieces: AsyncIterable[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Undo a content encoding, in pieces of at most ``CHUNK_BYTES``.

    Source: https://www.rfc-editor.org/rfc/rfc9110#name-content-codings

    Raises:
        ResponseError, zlib.error: as for ``iter_body``.
    """
    encoding = encoding.strip().lower()
    if encoding in _IDENTITY:
        async for piece in pieces:
            yield piece
        return
    if encoding not in _ZLIB:
        raise ResponseError(f"the server uses the content encoding {encoding[:40]!r}")
    decompressor, is_empty = zlib.decompressobj(_ZLIB_OR_GZIP_WBITS), True
    async for piece in pieces:
        is_empty = False
        while piece:
            if decompressor.eof:  # a gzip file may have several members
                decompressor = zlib.decompressobj(_ZLIB_OR_GZIP_WBITS)
            yield decompressor.decompress(piece, CHUNK_BYTES)
            piece = decompressor.unconsumed_tail or decompressor.unused_data
    yield decompressor.flush()
    if not (decompressor.eof or is_empty):  # the reply to HEAD has an encoding and no body
        raise ResponseError(f"the server's {encoding} data ends too early")
