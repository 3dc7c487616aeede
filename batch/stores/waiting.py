"""Waits for stores, which end when the run is asked to end or an answer takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from batch.stopping import Check, never_stop

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

# Seconds in which a question must be answered that is not a transfer, such as for one page of a
# listing. A client's own attempts are within it.
ANSWER_TIMEOUT = 120.0
POLL = 0.1  # seconds between two looks at whether to go on


def ask(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: Check = never_stop,
    seconds: float | None = ANSWER_TIMEOUT,
    **named: Any,
) -> Any:
    """Call a store's method, such as "info", and wait for the answer at most so many seconds.

    Raises:
        TimeoutError: there was none by then.
        Exception: what the method or ``check`` raises.
    """
    if store.async_impl:
        coroutine = getattr(store, f"_{method}")(*arguments, **named)
        return await_in(store, coroutine, check, seconds)
    return attend(lambda: getattr(store, method)(*arguments, **named), check, seconds)


def await_in(
    store: AbstractFileSystem,
    coroutine: Coroutine[Any, Any, Result],
    check: Check = never_stop,
    seconds: float | None = ANSWER_TIMEOUT,
) -> Result:
    """Wait for a coroutine of an asynchronous store, and cancel it where the wait ends early.

    Raises:
        Exception: as for ``ask``.
    """
    import asyncio  # here, as a run on this machine's files does without

    future = asyncio.run_coroutine_threadsafe(coroutine, store.loop)
    try:
        return _poll(future, check, seconds)
    finally:
        future.cancel()


def attend(
    call: Callable[[], Result], check: Check = never_stop, seconds: float | None = None
) -> Result:
    """Wait for a call that can't be cancelled; one that is given up does not hold up the process.

    Where ``check`` ends the wait, all that the process has asked of stores is cancelled, so that
    the call ends too if it waits for one of them.

    Raises:
        Exception: as for ``ask``.
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
        return _poll(future, check, seconds)
    except BaseException:
        if not future.done():
            cancel_requests()
        raise


def pause(seconds: float, check: Check) -> None:
    """Sleep, unless ``check`` ends it."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        check()
        time.sleep(min(left, POLL))


def cancel_requests() -> None:
    """Cancel all that is asked of asynchronous stores now."""
    import asyncio

    from fsspec.asyn import loop

    def cancel() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    if loop[0] is not None:  # no store has been opened yet
        loop[0].call_soon_threadsafe(cancel)


def _poll(future: Future[Result], check: Check, seconds: float | None) -> Result:
    ends = None if seconds is None else time.monotonic() + seconds
    while not wait((future,), POLL).done:
        check()
        if ends is not None and time.monotonic() >= ends:
            raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return future.result()
