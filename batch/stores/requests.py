"""Waits for stores, which end when the run is asked to end or an answer takes too long."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from batch.stopping import StopCheck, never_stop

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


Result = TypeVar("Result")

# Seconds in which a question must be answered that is not a transfer, such as for one page of a
# listing. A client's own attempts are within it.
REPLY_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.1  # seconds between two looks at whether to go on


def call_store(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: StopCheck = never_stop,
    seconds: float | None = REPLY_TIMEOUT_SECONDS,
    **named: Any,
) -> Any:
    """Call a store's method, such as "info", and wait for the answer at most so many seconds.

    Raises:
        TimeoutError: there was none by then.
        Exception: what the method or ``check`` raises.
    """
    if store.async_impl:
        coroutine = getattr(store, f"_{method}")(*arguments, **named)
        return run_coroutine(store, coroutine, check, seconds)
    return wait_for_call(lambda: getattr(store, method)(*arguments, **named), check, seconds)


def run_coroutine(
    store: AbstractFileSystem,
    coroutine: Coroutine[Any, Any, Result],
    check: StopCheck = never_stop,
    seconds: float | None = REPLY_TIMEOUT_SECONDS,
) -> Result:
    """Wait for a coroutine of an asynchronous store, and cancel it where the wait ends early.

    Raises:
        Exception: as for ``call_store``.
    """
    import asyncio  # here, as a run on this machine's files does without

    future = asyncio.run_coroutine_threadsafe(coroutine, store.loop)
    try:
        return _wait_for_future(future, check, seconds)
    finally:
        future.cancel()


def wait_for_call(
    call: Callable[[], Result], check: StopCheck = never_stop, seconds: float | None = None
) -> Result:
    """Wait for a call that can't be cancelled; one that is given up does not hold up the process.

    Where ``check`` ends the wait, all that the process has asked of stores is cancelled, so that
    the call ends too if it waits for one of them.

    Raises:
        Exception: as for ``call_store``.
    """
    if check is never_stop and seconds is None:
        return call()
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="store", daemon=True).start()
    try:
        return _wait_for_future(future, check, seconds)
    except BaseException:
        if not future.done():
            cancel_requests()
        raise


def pause(seconds: float, check: StopCheck) -> None:
    """Sleep, unless ``check`` ends it."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, POLL_SECONDS))


def cancel_requests() -> None:
    """Cancel all that is asked of asynchronous stores now."""
    import asyncio

    from fsspec.asyn import loop

    def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    if loop[0] is not None:  # no store has been opened yet
        loop[0].call_soon_threadsafe(cancel)


def _wait_for_future(future: Future[Result], check: StopCheck, seconds: float | None) -> Result:
    ends = None if seconds is None else time.monotonic() + seconds
    while not wait((future,), POLL_SECONDS).done:
        check()
        if ends is not None and time.monotonic() >= ends:
            raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return future.result()


# == Asking a store again after what passes by itself.


MAX_ATTEMPTS = 6
# Of those, how many may end for want of an answer, each after a minute or more.
MAX_TIMEOUTS = 2
FIRST_PAUSE_SECONDS = 0.5  # seconds
# What a store will say again. s3fs says EINVAL of a request that the store does not understand.
_PERMANENT_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# 408 Request Timeout, 425 Too Early, 429 Too Many Requests: RFC 9110, 8470 and 6585.
_TRANSIENT_STATUSES = frozenset((408, 425, 429))
_PERMANENT_ERRNOS = frozenset((errno.EINVAL, errno.ENOSPC, errno.ENOSYS, errno.EPERM))
FORBIDDEN = 403  # RFC 9110
# The base classes of what the network does to clients that raise no OSError.
_NETWORK_ERROR_NAMES = frozenset(("ClientError", "ConnectionError", "HTTPClientError", "HttpError"))

# The base class of what Azure's client raises, after it has asked again by itself.
_SELF_RETRYING_ERROR = "AzureError"


def retry(call: Callable[[], Result], check: StopCheck = never_stop) -> Result:
    """Call a function, and again where the network or the store failed.

    ``MAX_ATTEMPTS`` times in all, with pauses that double from ``FIRST_PAUSE_SECONDS`` on and are cut by
    up to a half at random, so that many who were turned away together do not come back together.
    ``check`` ends the pauses; the call is to heed it by itself.

    Raises:
        Exception: what the last attempt raised, or ``check``.
    """
    timeouts = 0
    for attempt in count(1):
        try:
            return call()
        except Exception as error:
            timeouts += isinstance(error, TimeoutError)
            if attempt == MAX_ATTEMPTS or timeouts == MAX_TIMEOUTS or not is_transient(error):
                raise
        pause(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1), check)
    raise AssertionError("the last attempt returns or raises")


def call_with_retries(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: StopCheck = never_stop,
    seconds: float | None = REPLY_TIMEOUT_SECONDS,
    **named: Any,
) -> Any:
    """Ask a store as ``waiting.ask`` does, and again as ``retry`` does.

    Raises:
        Exception: as for the two.
    """
    return retry(
        lambda: call_store(store, method, *arguments, check=check, seconds=seconds, **named), check
    )


def is_transient(error: BaseException) -> bool:
    """Tell whether it makes sense to ask again: a lost connection, a time-out, an overload."""
    names = {base.__name__ for base in type(error).__mro__}
    if _SELF_RETRYING_ERROR in names:
        return False
    status = find_http_status(error)
    if status is not None:
        return status >= 500 or status in _TRANSIENT_STATUSES
    if isinstance(error, OSError):
        return not isinstance(error, _PERMANENT_ERRORS) and error.errno not in _PERMANENT_ERRNOS
    return not _NETWORK_ERROR_NAMES.isdisjoint(names)


def find_http_status(error: BaseException) -> int | None:
    """Give the status of the answer that a client raised an exception for, if it says one."""
    for name in ("status", "code", "status_code"):  # as aiohttp calls it, gcsfs, and Azure
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    # gcsfs says so in words alone.
    refused = type(error) is OSError and str(error).startswith("Forbidden: ")
    return FORBIDDEN if refused else None
