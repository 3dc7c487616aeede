"""HTTP answers: never more of a body in memory than a limit allows, encoded or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

CONNECT_TIMEOUT_SECONDS = 30.0  # seconds
# Seconds without a byte, after which a server is given up.
SILENCE_TIMEOUT_SECONDS = 60.0
# Bytes of an answer that is no photo, such as a page of a listing.
MAX_RESPONSE_BYTES = 64 * 1024**2
CHUNK_BYTES = 256 * 1024  # bytes
_IDENTITY = ("", "identity")
_ZLIB = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP_WBITS = zlib.MAX_WBITS | 32  # of gzip or of zlib


class ResponseError(ValueError):
    """An answer can't be taken: it has no end, or comes in an encoding that is not known."""


class BoundedResponse(aiohttp.ClientResponse):
    """An answer that is read whole up to ``MAX_RESPONSE_BYTES``."""

    async def read(self) -> bytes:
        """Read the whole body.

        Raises:
            AnswerError: it is larger.
        """
        if self._body is None:
            self._body = await read_body(self)
        return self._body


def build_session_options() -> dict[str, Any]:
    """Give the options of a client session: time-outs, and answers of limited size."""
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=SILENCE_TIMEOUT_SECONDS
    )
    return {
        "timeout": timeout,
        "response_class": BoundedResponse,
        # It would be done without a limit.
        "auto_decompress": False,
        "headers": {"Accept-Encoding": "identity"},
    }


async def open_session(**options: Any) -> aiohttp.ClientSession:
    """Open the session of a web server's store; what the user has configured goes first."""
    return aiohttp.ClientSession(**{**build_session_options(), **options})


async def iter_body(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Give a body piece by piece, unpacked where a server packs what it was not asked to.

    Raises:
        AnswerError: its encoding is not known, or it ends too early.
        zlib.error: it is damaged.
    """
    encoding = answer.headers.get("Content-Encoding", "")
    async for piece in decompress(answer.content.iter_chunked(CHUNK_BYTES), encoding):
        yield piece


async def decompress(pieces: AsyncIterable[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Undo a content encoding in pieces of at most ``CHUNK_BYTES`` bytes; raises as ``iter_body`` does.

    Source: https://www.rfc-editor.org/rfc/rfc9110#name-content-codings
    """
    encoding = encoding.strip().lower()
    if encoding in _IDENTITY:
        async for piece in pieces:
            yield piece
        return
    if encoding not in _ZLIB:
        raise ResponseError(f"the server sends it in the encoding {encoding[:40]!r}")
    unpacking, empty = zlib.decompressobj(_ZLIB_OR_GZIP_WBITS), True
    async for piece in pieces:
        empty = False
        while piece:
            if unpacking.eof:  # a gzip file may have several members
                unpacking = zlib.decompressobj(_ZLIB_OR_GZIP_WBITS)
            yield unpacking.decompress(piece, CHUNK_BYTES)
            piece = unpacking.unconsumed_tail or unpacking.unused_data
    yield unpacking.flush()
    if not (unpacking.eof or empty):  # the answer to HEAD has an encoding and no body
        raise ResponseError(f"the server's {encoding} data ends too early")


async def read_body(answer: aiohttp.ClientResponse) -> bytes:
    """Read a body of at most ``MAX_RESPONSE_BYTES``; close the connection where that fails.

    Raises:
        AnswerError: it is larger.
    """
    import asyncio  # here, as a run on this machine's files does without

    body = bytearray()
    try:
        async for piece in iter_body(answer):
            body += piece
            if len(body) > MAX_RESPONSE_BYTES:
                raise ResponseError(f"the answer is larger than {MAX_RESPONSE_BYTES:,} bytes")
            await asyncio.sleep(0)  # others are to have their turn, as unpacking does not wait
    except BaseException:
        answer.close()
        raise
    return bytes(body)


# == The HTTP session of S3's client, which takes no answer into memory beyond a limit.

FIRST_ERROR_STATUS = 300  # the least status whose body the client reads as an error


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]
    """A session whose answers are read whole up to a limit, but for the bodies of objects."""

    async def send(self, request: Any) -> Any:
        """Send a request.

        Raises:
            AnswerError: an answer that is to be read whole is too large.
        """
        streamed = request.stream_output
        request.stream_output = True  # or the client would read it whole, whatever it is
        try:
            response = await super().send(request)
        finally:
            request.stream_output = streamed
        if not streamed or response.status_code >= FIRST_ERROR_STATUS:
            response._content = await read_body(response.raw)
        return response
