"""Downloads a file over HTTP: with patience, and on from where it was cut off.

It needs one file at a time and nothing else of HTTP, so the standard library does.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from batch.errors import BatchLabelError

BLOCK_BYTES = 1 << 16
# Status codes (RFC 9110) that may be other ones a little later.
TRANSIENT_STATUSES = (408, 416, 429, 500, 502, 503, 504)
# What the network can do to a download. Other OSErrors, such as a full disk, stay.
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)

logger = logging.getLogger(__name__)


class DownloadError(BatchLabelError):
    """The file can't be had, or is not the one that was wanted."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try: ``timeout`` seconds for the next bytes, so many ``attempts``.

    ``pause`` is the seconds after the first failed attempt, twice as many after each other.
    """

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0


def download(url: str, target: Path, remedy: str, patience: RetryPolicy | None = None) -> None:
    """Fetch a file; it is at ``target`` when it is complete, and not before.

    What was cut off stays beside it and is gone on from, by this call or a later one, where
    the server can continue and says by a strong ETag that the file is still the same
    (RFC 9110, Range and If-Range); where not, the file is fetched from its beginning.

    Raises:
        DownloadError: it can't be had; ``remedy`` says what to do then.
    """
    patience = patience or RetryPolicy()
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is no address of a download", remedy)
    for attempt in range(patience.attempts):
        try:
            _fetch(url, target, patience.timeout)
        except NETWORK_ERRORS as error:
            last = attempt == patience.attempts - 1
            if last or (
                isinstance(error, urllib.error.HTTPError) and error.code not in TRANSIENT_STATUSES
            ):
                raise DownloadError(
                    f"{url} can't be downloaded ({_describe_error(error)})", remedy
                ) from error
            wait = patience.pause * 2**attempt
            logger.info("%s; next attempt in %.0f s", _describe_error(error), wait)
            time.sleep(wait)
        else:
            return


def _fetch(url: str, target: Path, timeout: float) -> None:
    part, tag = (target.with_name(target.name + suffix) for suffix in (".part", ".etag"))
    request = urllib.request.Request(url, headers={"User-Agent": "batch-label"})
    if part.exists() and tag.exists():
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", tag.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            tag.unlink()
        raise
    with response:
        _receive(response, part, tag)
    part.replace(target)
    tag.unlink(missing_ok=True)


def _receive(response: http.client.HTTPResponse, part: Path, tag: Path) -> None:
    goes_on = response.status == http.client.PARTIAL_CONTENT
    have = part.stat().st_size if goes_on else 0
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        tag.write_text(etag)
    elif not goes_on:  # a weak one does not promise the same bytes
        tag.unlink(missing_ok=True)
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    from tqdm import tqdm  # of the extra `train`, which evaluation does without

    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download", disable=None)
    with bar, part.open("ab" if goes_on else "wb") as file:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"cut off after {size:,} of {total:,} bytes")


def _describe_error(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
