"""What is not on this machine is fetched ahead of those who wait for it."""

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
# They wait for answers nearly all of their time, so there may be many of them for each core.
MAX_FETCHES = 16
# Files that are fetched or being fetched, and their bytes, of which one file may have more.
MAX_FILES_AHEAD = 4 * MAX_FETCHES
MAX_BYTES_AHEAD = 256 * 1024**2
# Of the time that a photo has to be decoded: how long its server may be nearly silent.
PATIENCE_FACTOR = 2
ASSUMED_BYTES = MAX_BYTES_AHEAD // MAX_FETCHES


@dataclass(frozen=True)
class FetchedFile:
    """The bytes of a file, or why they can't be had, and the seconds that it took."""

    url: Url
    content: bytes | Failure
    seconds: float


@dataclass(frozen=True, eq=False)
class _Numbered(Generic[Item]):
    """An item that waits to be given, and its number among all of them."""

    number: int
    item: Future[FetchedFile] | Item


class Fetcher:
    """Fetches what URLs name, files of at most ``max_bytes`` bytes.

    ``check`` raises ``StopRequested`` where the run is to end, which no fetching outlasts.
    ``patience`` is how many seconds a server may be nearly silent: see ``read_object``.
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
        """Give the same files, but those at URLs with their bytes, as they come or ``in_order``.

        Files are taken from ``found`` before they are asked for, as many as the limits of this
        module allow. A file may have more bytes than were counted for it only while it is the
        first of those that are fetched. Where the run is asked to end while a file is being
        fetched, that file and those after it are not given.
        """
        waiting: deque[_Numbered[Item]] = deque()
        pool = ThreadPoolExecutor(MAX_FETCHES, thread_name_prefix="fetch")  # without a thread yet
        held = first = 0
        closing = threading.Event()

        def check() -> None:
            self._check()
            if closing.is_set():  # nobody waits for the file any more
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
        room: Callable[[int], bool] = lambda size: True,
        check: StopCheck = never_stop,
    ) -> FetchedFile:
        """Fetch one file, in several attempts if need be; the rest as for ``read_object``.

        Raises:
            StopRequested: ``check`` raised it.
        """
        started = time.perf_counter()
        try:
            check()
            content = self._fetch_content(url, room, check)
        except MemoryError:
            content = _make_failure(url, Reason.TOO_LARGE, "not enough memory for the file")
        except ArchiveError as error:
            content = _make_failure(url, error.reason, str(error))
        except BatchLabelError:  # such as a package that is missing, whatever the file
            raise
        except Exception as error:  # stores raise what they like
            check()  # a request that the end of the run has cancelled is no fault of the file
            content = _make_failure(url, *_describe_error(error))
        return FetchedFile(url, content, time.perf_counter() - started)

    def close(self) -> None:
        """Close the archives."""
        self._archives.close()

    def _fetch_content(
        self, url: Url, room: Callable[[int], bool], check: StopCheck
    ) -> bytes | Failure:
        if url.size is not None and url.size > self._max_bytes:
            return self._make_too_large(url, url.size)
        member = split_member(url.text)
        # One byte more shows that there is more than was said.
        limit = self._max_bytes + 1
        if member:
            data = retry(lambda: self._archives.read(*member, limit, check), check)
        else:
            data = read_object(url.text, limit, check, room, self._patience)
        return data if len(data) < limit else self._make_too_large(url, len(data))

    def _make_too_large(self, url: Url, size: int) -> Failure:
        detail = f"{size:,} bytes, more than --max-file-size {self._max_bytes:,}"
        return _make_failure(url, Reason.TOO_LARGE, detail)


def _wait_for_any(waiting: Iterable[_Numbered[Item]]) -> _Numbered[Item]:
    """Wait until one of the files that are fetched is there."""
    by_future = {each.item: each for each in waiting if isinstance(each.item, Future)}
    return by_future[next(iter(wait(by_future, return_when=FIRST_COMPLETED).done))]


def _estimate_size(url: Url) -> int:
    return ASSUMED_BYTES if url.size is None else url.size


def _describe_error(error: Exception) -> tuple[Reason, str]:
    return classify_read_error(error), error_text(error)


def _make_failure(url: Url, reason: Reason, detail: str) -> Failure:
    return Failure(url, Stage.READ, reason, detail)
