"""The HTTP session of S3's client, which takes no answer into memory beyond a limit."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

from batch.stores.answers import read_whole

REFUSED = 300  # the least status whose body the client reads as an error


class Session(AIOHTTPSession):  # type: ignore[misc]
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
        if not streamed or response.status_code >= REFUSED:
            response._content = await read_whole(response.raw)
        return response
