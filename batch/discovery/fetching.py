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
from batch.discovery.archive_reader import Archives
from batch.errors import BatchLabelError
from batch.location import Url, split_member
from batch.parallel import submit
from batch.records import Failure, Reason, Stage
from batch.stopping import Check, StopRequested, never_stop
from batch.stores.download import read_object
from batch.stores.requests import retried
from batch.stores.store import said

Item = TypeVar("Item")
# They wait for answers nearly all of their time, so there may be many of them for each core.
FETCHERS = 16
# Files that are fetched or being fetched, and their bytes, of which one file may have more.
MOST_AHEAD = 4 * FETCHERS
MAX_BYTES_AHEAD = 256 * 1024**2
# Of the time that a photo has to be decoded: how long its server may be nearly silent.
PATIENCE = 2
SIZE_IF_UNKNOWN = MAX_BYTES_AHEAD // FETCHERS


@dataclass(frozen=True)
class Fetched:
    """The bytes of a file, or why they can't be had, and the seconds that it took."""

    url: Url
    content: bytes | Failure
    seconds: float


@dataclass(frozen=True, eq=False)
class _Numbered(Generic[Item]):
    """An item that waits to be given, and its number among all of them."""

    number: int
    item: Future[Fetched] | Item


class Fetcher:
    """Fetches what URLs name, files of at most ``max_bytes`` bytes.

    ``check`` raises ``StopRequested`` where the run is to end, which no fetching outlasts.
    ``patience`` is how many seconds a server may be nearly silent: see ``read_object``.
    """

    def __init__(
        self, max_bytes: int, check: Check = never_stop, patience: float = math.inf
    ) -> None:
        self._max_bytes = max_bytes
        self._patience = patience
        self._check = check
        self._archives = Archives()

    def ahead(self, found: Iterable[Item], in_order: bool = True) -> Iterator[Item | Fetched]:
        """Give the same files, but those at URLs with their bytes, as they come or ``in_order``.

        Files are taken from ``found`` before they are asked for, as many as the limits of this
        module allow. A file may have more bytes than were counted for it only while it is the
        first of those that are fetched. Where the run is asked to end while a file is being
        fetched, that file and those after it are not given.
        """
        waiting: deque[_Numbered[Item]] = deque()
        pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")  # without a thread yet
        held = first = 0
        closing = threading.Event()

        def check() -> None:
            self._check()
            if closing.is_set():  # nobody waits for the file any more
                raise CancelledError

        def fetch(numbered: tuple[Url, int]) -> Fetched:
            url, number = numbered
            return self.fetch(url, lambda size: size <= _size(url) or number == first, check)

        def take() -> Item | Fetched:
            nonlocal held, first
            taken = waiting[0] if in_order else _any_done(waiting)
            result = taken.item.result() if isinstance(taken.item, Future) else taken.item
            waiting.remove(taken)
            if isinstance(result, Fetched):
                held -= _size(result.url)
            first = waiting[0].number if waiting else taken.number + 1
            return result

        try:
            for number, item in enumerate(found):
                if isinstance(item, Url):
                    if not waiting:
                        first = number
                    held += _size(item)
                    waiting.append(_Numbered(number, submit(pool, fetch, (item, number))))
                elif waiting and in_order:
                    waiting.append(_Numbered(number, item))
                else:
                    yield item
                while waiting and (len(waiting) >= MOST_AHEAD or held > MAX_BYTES_AHEAD):
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
        check: Check = never_stop,
    ) -> Fetched:
        """Fetch one file, in several attempts if need be; the rest as for ``read_object``.

        Raises:
            StopRequested: ``check`` raised it.
        """
        started = time.perf_counter()
        try:
            check()
            content = self._content(url, room, check)
        except MemoryError:
            content = _failure(url, Reason.TOO_LARGE, "not enough memory for the file")
        except ArchiveError as error:
            content = _failure(url, error.reason, str(error))
        except BatchLabelError:  # such as a package that is missing, whatever the file
            raise
        except Exception as error:  # stores raise what they like
            check()  # a request that the end of the run has cancelled is no fault of the file
            content = _failure(url, *_why(error))
        return Fetched(url, content, time.perf_counter() - started)

    def close(self) -> None:
        """Close the archives."""
        self._archives.close()

    def _content(self, url: Url, room: Callable[[int], bool], check: Check) -> bytes | Failure:
        if url.size is not None and url.size > self._max_bytes:
            return self._too_large(url, url.size)
        member = split_member(url.text)
        # One byte more shows that there is more than was said.
        most = self._max_bytes + 1
        if member:
            data = retried(lambda: self._archives.read(*member, most, check), check)
        else:
            data = read_object(url.text, most, check, room, self._patience)
        return data if len(data) < most else self._too_large(url, len(data))

    def _too_large(self, url: Url, size: int) -> Failure:
        detail = f"{size:,} bytes, more than --max-file-size {self._max_bytes:,}"
        return _failure(url, Reason.TOO_LARGE, detail)


def _any_done(waiting: Iterable[_Numbered[Item]]) -> _Numbered[Item]:
    """Wait until one of the files that are fetched is there."""
    by_future = {each.item: each for each in waiting if isinstance(each.item, Future)}
    return by_future[next(iter(wait(by_future, return_when=FIRST_COMPLETED).done))]


def _size(url: Url) -> int:
    return SIZE_IF_UNKNOWN if url.size is None else url.size


def _why(error: Exception) -> tuple[Reason, str]:
    gone = isinstance(error, FileNotFoundError)
    return (Reason.VANISHED if gone else Reason.UNREADABLE), said(error)


def _failure(url: Url, reason: Reason, detail: str) -> Failure:
    return Failure(url, Stage.READ, reason, detail)
