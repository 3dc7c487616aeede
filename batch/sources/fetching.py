"""What is not on this machine is fetched ahead of those who wait for it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from batch.errors import BatchLabelError
from batch.location import Location, Url, split_member
from batch.parallel import submit
from batch.records import Failure, Reason, Stage
from batch.sources.archive import ArchiveError
from batch.sources.archives import Archives
from batch.stores.retrying import retried
from batch.stores.store import open_store, said

# They wait for answers nearly all of their time, so there may be many of them for each core.
FETCHERS = 16
# Files that are fetched or being fetched, and their bytes, of which one file may have more.
MOST_AHEAD = 4 * FETCHERS
MAX_BYTES_AHEAD = 256 * 1024**2
SIZE_IF_UNKNOWN = 1024**2  # bytes


@dataclass(frozen=True)
class Fetched:
    """The bytes of a file, or why they can't be had, and the seconds that it took."""

    url: Url
    content: bytes | Failure
    seconds: float


class Fetcher:
    """Fetches what URLs name, files of at most ``max_bytes`` bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._archives = Archives()

    def ahead(self, found: Iterable[Location | Failure]) -> Iterator[Location | Failure | Fetched]:
        """Give the same files in the same order, but those at URLs with their bytes.

        Files are taken from ``found`` before they are asked for, as many as the limits of this
        module allow.
        """
        waiting: deque[Future[Fetched] | Location | Failure] = deque()
        pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")  # without a thread yet
        held = 0
        try:
            for item in found:
                if isinstance(item, Url):
                    held += _size(item)
                    waiting.append(submit(pool, self.fetch, item))
                elif waiting:
                    waiting.append(item)
                else:
                    yield item
                while waiting and (len(waiting) >= MOST_AHEAD or held > MAX_BYTES_AHEAD):
                    first = _result(waiting.popleft())
                    held -= _size(first.url) if isinstance(first, Fetched) else 0
                    yield first
            while waiting:
                yield _result(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def fetch(self, url: Url) -> Fetched:
        """Fetch one file, in several attempts if need be."""
        started = time.perf_counter()
        try:
            content = self._content(url)
        except MemoryError:
            content = _failure(url, Reason.TOO_LARGE, "not enough memory for the file")
        except ArchiveError as error:
            content = _failure(url, Reason.VANISHED if error.gone else Reason.CORRUPT, str(error))
        except BatchLabelError:  # such as a package that is missing, whatever the file
            raise
        except Exception as error:  # stores raise what they like
            content = _failure(url, *_why(error))
        return Fetched(url, content, time.perf_counter() - started)

    def close(self) -> None:
        """Close the archives."""
        self._archives.close()

    def _content(self, url: Url) -> bytes | Failure:
        if url.size is not None and url.size > self._max_bytes:
            return self._too_large(url, url.size)
        member = split_member(url.text)
        # One byte more shows that there is more than was said.
        most = self._max_bytes + 1
        if member:
            data = retried(lambda: self._archives.read(*member, most))
        else:
            data = retried(lambda: _download(url, most))
        return data if len(data) < most else self._too_large(url, len(data))

    def _too_large(self, url: Url, size: int) -> Failure:
        detail = f"{size:,} bytes, more than --max-file-size {self._max_bytes:,}"
        return _failure(url, Reason.TOO_LARGE, detail)


def _download(url: Url, most: int) -> bytes:
    if url.size == 0:  # of which no range can be asked for
        return b""
    store, path = open_store(url.text)
    # By a range: s3fs would ask for the size first if it were to read a whole object. Its end is
    # the file's where the listing told the size, since not every server bears one that is beyond.
    data: bytes = store.cat_file(path, 0, most if url.size is None else None)
    return data


def _result(item: Future[Fetched] | Location | Failure) -> Location | Failure | Fetched:
    return item.result() if isinstance(item, Future) else item


def _size(url: Url) -> int:
    return SIZE_IF_UNKNOWN if url.size is None else url.size


def _why(error: Exception) -> tuple[Reason, str]:
    gone = isinstance(error, FileNotFoundError)
    return (Reason.VANISHED if gone else Reason.UNREADABLE), said(error)


def _failure(url: Url, reason: Reason, detail: str) -> Failure:
    return Failure(url, Stage.READ, reason, detail)
