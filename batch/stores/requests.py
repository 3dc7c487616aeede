"""Calls to a store's client: with a time-out, retried, and ended when the run is asked to stop.

Clients block until the server replies, and combine several time-outs of their own. So a call
runs on another thread. The waiting thread calls ``check`` every ``POLL_SECONDS``; ``check``
raises an exception to end the wait.
"""

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

# Seconds for the reply to a request that is not a transfer, such as for one page of a listing; the
# client's own attempts included.
REPLY_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.1  # between two calls of `check`
MAX_ATTEMPTS = 6
# Attempts that may time out, as each takes a minute or more.
MAX_TIMEOUTS = 2
FIRST_PAUSE_SECONDS = 0.5

FORBIDDEN = 403  # RFC 9110
# 408 Request Timeout, 425 Too Early, 429 Too Many Requests: RFC 9110, 8470 and 6585.
_TRANSIENT_STATUSES = frozenset((408, 425, 429))
_PERMANENT_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# s3fs raises EINVAL for a request that the store does not understand.
_PERMANENT_ERRNOS = frozenset((errno.EINVAL, errno.ENOSPC, errno.ENOSYS, errno.EPERM))
# Base classes of network errors in clients that do not raise OSError.
_NETWORK_ERROR_NAMES = frozenset(("ClientError", "ConnectionError", "HTTPClientError", "HttpError"))
# Base class of errors of Azure's client, which retries by itself.
_SELF_RETRYING_ERROR = "AzureError"


def call_with_retries(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: StopCheck = never_stop,
    seconds: float | None = REPLY_TIMEOUT_SECONDS,
    **named: Any,
) -> Any:
    """Call a store's method as ``call_store`` does, and retry it as ``retry`` does.

    Raises:
        Exception: as for both.
    """
    return retry(
        lambda: call_store(store, method, *arguments, check=check, seconds=seconds, **named), check
    )


def retry(call: Callable[[], Result], check: StopCheck = never_stop) -> Result:
    """Call a function and retry it after transient errors, up to ``MAX_ATTEMPTS`` attempts in all.

    The pauses are an exponential backoff from ``FIRST_PAUSE_SECONDS`` on, less a random
    jitter of up to half: clients that failed together do not retry together.

    Args:
        call: the function; it calls ``check`` itself while it waits.
        check: ends the pauses.

    Raises:
        Exception: what the last attempt or ``check`` raised.
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


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may help: after a lost connection, a time-out, an overload."""
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
    """Return the HTTP status of a client's exception; None if it has none."""
    for name in ("status", "code", "status_code"):  # aiohttp, gcsfs, Azure
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    # gcsfs has this status in the message only.
    is_forbidden = type(error) is OSError and str(error).startswith("Forbidden: ")
    return FORBIDDEN if is_forbidden else None


def call_store(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: StopCheck = never_stop,
    seconds: float | None = REPLY_TIMEOUT_SECONDS,
    **named: Any,
) -> Any:
    """Call a store's method once.

    Args:
        store: the store, asynchronous or not.
        method: the method's public name, such as "info".
        arguments: its positional arguments.
        check: ends the wait.
        seconds: the time-out; None for none.
        named: its keyword arguments.

    Raises:
        TimeoutError: there was no reply in time.
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
    """Run a coroutine of an asynchronous store, and cancel it if the wait ends early.

    Raises:
        Exception: as for ``call_store``.
    """
    import asyncio  # not needed by runs on local files

    future = asyncio.run_coroutine_threadsafe(coroutine, store.loop)
    try:
        return _wait_for_future(future, check, seconds)
    finally:
        future.cancel()


def wait_for_call(
    call: Callable[[], Result], check: StopCheck = never_stop, seconds: float | None = None
) -> Result:
    """Run a blocking call in a daemon thread, which does not keep the process alive.

    If the wait ends early, all requests of this process to stores are cancelled: the call ends too
    if it waits for one of them.

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


def _wait_for_future(future: Future[Result], check: StopCheck, seconds: float | None) -> Result:
    ends = None if seconds is None else time.monotonic() + seconds
    while not wait((future,), POLL_SECONDS).done:
        check()
        if ends is not None and time.monotonic() >= ends:
            raise TimeoutError(f"no reply within {seconds:.0f} s")
    return future.result()


def cancel_requests() -> None:
    """Cancel all requests to asynchronous stores that are in flight."""
    import asyncio

    from fsspec.asyn import loop

    def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    if loop[0] is not None:  # no store has been opened yet
        loop[0].call_soon_threadsafe(cancel)


def pause(seconds: float, check: StopCheck) -> None:
    """Sleep for some seconds; ``check`` may end it earlier."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, POLL_SECONDS))
