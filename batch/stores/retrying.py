"""Asking a store again after what passes by itself."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from batch.stopping import Check, never_stop
from batch.stores.waiting import ANSWER_TIMEOUT, ask, pause

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

MAX_ATTEMPTS = 6
# Of those, how many may end for want of an answer, each after a minute or more.
MAX_TIMEOUTS = 2
FIRST_PAUSE = 0.5  # seconds
# What a store will say again. s3fs says EINVAL of a request that the store does not understand.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# 408 Request Timeout, 425 Too Early, 429 Too Many Requests: RFC 9110, 8470 and 6585.
_PASSING_STATUSES = frozenset((408, 425, 429))
_FINAL_NUMBERS = frozenset((errno.EINVAL, errno.ENOSPC, errno.ENOSYS, errno.EPERM))
FORBIDDEN = 403  # RFC 9110
# The base classes of what the network does to clients that raise no OSError.
_NETWORK = frozenset(("ClientError", "ConnectionError", "HTTPClientError", "HttpError"))

# The base class of what Azure's client raises, after it has asked again by itself.
_PATIENT = "AzureError"


def retried(call: Callable[[], Result], check: Check = never_stop) -> Result:
    """Call a function, and again where the network or the store failed.

    ``MAX_ATTEMPTS`` times in all, with pauses that double from ``FIRST_PAUSE`` on and are cut by
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
            if attempt == MAX_ATTEMPTS or timeouts == MAX_TIMEOUTS or not is_passing(error):
                raise
        pause(FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1), check)
    raise AssertionError("the last attempt returns or raises")


def request(
    store: AbstractFileSystem,
    method: str,
    *arguments: Any,
    check: Check = never_stop,
    seconds: float | None = ANSWER_TIMEOUT,
    **named: Any,
) -> Any:
    """Ask a store as ``waiting.ask`` does, and again as ``retried`` does.

    Raises:
        Exception: as for the two.
    """
    return retried(
        lambda: ask(store, method, *arguments, check=check, seconds=seconds, **named), check
    )


def is_passing(error: BaseException) -> bool:
    """Tell whether it makes sense to ask again: a lost connection, a time-out, an overload."""
    names = {base.__name__ for base in type(error).__mro__}
    if _PATIENT in names:
        return False
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUSES
    if isinstance(error, OSError):
        return not isinstance(error, _FINAL) and error.errno not in _FINAL_NUMBERS
    return not _NETWORK.isdisjoint(names)


def status_of(error: BaseException) -> int | None:
    """Give the status of the answer that a client raised an exception for, if it says one."""
    for name in ("status", "code", "status_code"):  # as aiohttp calls it, gcsfs, and Azure
        status = getattr(error, name, None)
        if isinstance(status, int):
            return status
    # gcsfs says so in words alone.
    refused = type(error) is OSError and str(error).startswith("Forbidden: ")
    return FORBIDDEN if refused else None
