"""Prefetching of files in stores and archives, by threads of the run."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Generic, TypeVar

from batch.discovery.archive import ArchiveError
from batch.discovery.archive_reader import ArchiveReaderPool
from batch.errors import BatchLabelError
from batch.location import Url, split_member
from batch.os_errors import classify_read_error
from batch.parallel import submit
from batch.records import Failure, Reason, Stage
from batch.stopping import StopCheck, StopRequested, never_stop
from batch.stores.download import read_object
from batch.stores.requests import retry
from batch.stores.store import error_text

Item = TypeVar("Item")
MAX_FETCHES = 16  # threads, which mostly wait for the network
# Limits of the files that are prefetched and not yet taken; one file alone may have more bytes.
MAX_FILES_AHEAD = 4 * MAX_FETCHES
MAX_BYTES_AHEAD = 256 * 1024**2
ASSUMED_BYTES = MAX_BYTES_AHEAD // MAX_FETCHES  # of a file of unknown size
# Time for which a server may be nearly silent, as a multiple of the decode time-out.
PATIENCE_FACTOR = 2


@dataclass(frozen=True)
class FetchedFile:
    """A file that was fetched.

    Attributes:
        url: where it is.
        content: its bytes, or why it can't be read.
        seconds: how long the fetch took.
    """

    url: Url
    content: bytes | Failure
    seconds: float


@dataclass(frozen=True, eq=False)
class _Numbered(Generic[Item]):
    """An item that is prefetched and not yet taken, with its position in the input."""

    number: int
    item: Future[FetchedFile] | Item


class Fetcher:
    """Reads files at URLs, one at a time or many ahead, also members of archives.

    Args:
        max_bytes: the largest file that is read.
        check: raises ``StopRequested`` once the run is asked to stop, which ends all fetches.
        patience: seconds that a server may be nearly silent: see ``read_object``.
    """

    def __init__(
        self, max_bytes: int, check: StopCheck = never_stop, patience: float = math.inf
    ) -> None:
        self._max_bytes = max_bytes
        self._patience = patience
        self._check = check
        self._archives = ArchiveReaderPool()

    def prefetch(
        self, found: Iterable[Item], in_order: bool = True
    ) -> Iterator[Item | FetchedFile]:
        """Replace each URL in a stream of items by its fetched file.

        A file with more bytes than its listing says pauses at that size until it is the first in
        flight. Once the run is asked to stop, the stream ends before the first file that is not yet
        fetched.

        Args:
            found: URLs and other items, which pass unchanged; they are read ahead of the consumer
                within the limits of this module.
            in_order: keep the order; otherwise items come as soon as they are ready.
        """
        waiting: deque[_Numbered[Item]] = deque()
        pool = ThreadPoolExecutor(MAX_FETCHES, thread_name_prefix="fetch")  # starts no thread yet
        held = first = 0
        closing = threading.Event()

        def check() -> None:
            self._check()
            if closing.is_set():  # the consumer has gone
                raise CancelledError

        def fetch(numbered: tuple[Url, int]) -> FetchedFile:
            url, number = numbered
            return self.fetch(
                url, lambda size: size <= _estimate_size(url) or number == first, check
            )

        def take() -> Item | FetchedFile:
            nonlocal held, first
            taken = waiting[0] if in_order else _wait_for_any(waiting)
            result = taken.item.result() if isinstance(taken.item, Future) else taken.item
            waiting.remove(taken)
            if isinstance(result, FetchedFile):
                held -= _estimate_size(result.url)
            first = waiting[0].number if waiting else taken.number + 1
            return result

        try:
            for number, item in enumerate(found):
                if isinstance(item, Url):
                    if not waiting:
                        first = number
                    held += _estimate_size(item)
                    waiting.append(_Numbered(number, submit(pool, fetch, (item, number))))
                elif waiting and in_order:
                    waiting.append(_Numbered(number, item))
                else:
                    yield item
                while waiting and (len(waiting) >= MAX_FILES_AHEAD or held > MAX_BYTES_AHEAD):
                    yield take()
            while waiting:
                yield take()
        except StopRequested:
            return
        finally:
            closing.set()
            pool.shutdown(cancel_futures=True)

    def fetch(
        self,
        url: Url,
        may_hold: Callable[[int], bool] = lambda size: True,
        check: StopCheck = never_stop,
    ) -> FetchedFile:
        """Fetch one file, with retries; arguments as for ``read_object``.

        Raises:
            StopRequested: ``check`` raised it.
        """
        started = time.perf_counter()
        try:
            check()
            content = self._fetch_content(url, may_hold, check)
        except MemoryError:
            content = _make_failure(url, Reason.TOO_LARGE, "not enough memory for the file")
        except ArchiveError as error:
            content = _make_failure(url, error.reason, str(error))
        except BatchLabelError:  # not the file's fault, such as a missing package
            raise
        except Exception as error:  # the stores' exceptions share no base class
            check()  # the request may have been cancelled because the run stops
            content = _make_failure(url, *_describe_error(error))
        return FetchedFile(url, content, time.perf_counter() - started)

    def close(self) -> None:
        """Close the archives."""
        self._archives.close()

    def _fetch_content(
        self, url: Url, may_hold: Callable[[int], bool], check: StopCheck
    ) -> bytes | Failure:
        if url.size is not None and url.size > self._max_bytes:
            return self._make_too_large(url, url.size)
        member = split_member(url.text)
        # One byte more reveals a file that is larger than listed.
        limit = self._max_bytes + 1
        if member:
            data = retry(lambda: self._archives.read(*member, limit, check), check)
        else:
            data = read_object(url.text, limit, check, may_hold, self._patience)
        return data if len(data) < limit else self._make_too_large(url, len(data))

    def _make_too_large(self, url: Url, size: int) -> Failure:
        detail = f"{size:,} bytes, more than --max-file-size {self._max_bytes:,}"
        return _make_failure(url, Reason.TOO_LARGE, detail)


def _wait_for_any(waiting: Iterable[_Numbered[Item]]) -> _Numbered[Item]:
    """Wait until one of the files in flight has arrived."""
    by_future = {each.item: each for each in waiting if isinstance(each.item, Future)}
    return by_future[next(iter(wait(by_future, return_when=FIRST_COMPLETED).done))]


def _estimate_size(url: Url) -> int:
    return ASSUMED_BYTES if url.size is None else url.size


def _describe_error(error: Exception) -> tuple[Reason, str]:
    return classify_read_error(error), error_text(error)


def _make_failure(url: Url, reason: Reason, detail: str) -> Failure:
    return Failure(url, Stage.READ, reason, detail)
