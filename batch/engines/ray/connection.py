"""The way to a Ray cluster, or to one that is started for a single run."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from batch.errors import EngineError, UsageError
from batch.parallel import available_cores
from batch.path_text import printable_text
from batch.stores.store import error_text

if TYPE_CHECKING:
    from types import ModuleType

RAY_PACKAGES = ("ray", "pyarrow")
# Ray's daemons read it as they start; those of a cluster that others started have their own.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its C++ would write on standard error what the run says in its own words.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # Else what is left of an iteration that nobody reads to its end connects anew by itself.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
# What its C++ says of that even so, in a line that is none of the run's log.
GREETING = b"Set ray log level from environment variable"
STDERR = 2  # its descriptor, on every system
CONNECT_TIMEOUT_SECONDS = 10.0  # seconds until a cluster's address answers
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_ray_installed() -> None:
    """Make sure that Ray is there.

    Raises:
        UsageError: it is not.
    """
    missing = [package for package in RAY_PACKAGES if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"--engine ray needs {' and '.join(missing)}, which is not installed",
            "run: pip install 'batch-label[ray]' (Ray has no wheels for some systems)",
        )


class _NullStream(io.TextIOBase):
    """Takes text and forgets it."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def connect_to_ray(address: str | None, cores: int) -> Iterator[ModuleType]:
    """Connect to the cluster at an address, without one to a new one on this machine.

    That one ends with the block; it has all cores of the machine, and at least ``cores``. Gives
    the module ``ray``. Where this process is connected already, it stays so.

    Raises:
        EngineError: there is no cluster, or it is not to be had.
    """
    os.environ.update(RAY_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield ray
        return
    # Ray writes what it has to say of actors that died where a report may go.
    with redirect_stdout(_NullStream()):
        with _keep_signal_handlers(), _hide_greeting():
            _init_ray(ray, address, cores)
        try:
            yield ray
        finally:
            with _keep_signal_handlers():
                ray.shutdown()


def _init_ray(ray: ModuleType, address: str | None, cores: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, **quiet)
        else:
            number = max(available_cores(), cores)
            ray.init(address="local", num_cpus=number, include_dashboard=False, **quiet)
    except Exception as error:  # Ray raises many kinds, and they have no base in common
        where = (
            f"the Ray cluster {printable_text(address)}" if address else "a Ray cluster of its own"
        )
        raise EngineError(
            f"{where} can't be used ({error_text(error)})",
            "check RAY_ADDRESS, and that Ray and Python have the same versions everywhere"
            if address
            else "see /tmp/ray/session_latest/logs, and whether memory is left",
        ) from error


def _check_reachable(address: str) -> None:
    """Connect once to an address of a machine, where Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection(
            (host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS
        ).close()


@contextmanager
def _hide_greeting() -> Iterator[None]:
    """Hold what goes to standard error until the end of the block, then pass on all but GREETING.

    Ray's C++ knows nothing of ``sys.stderr``, so its descriptor is turned elsewhere.
    """
    if sys.stderr is None:  # which the system's descriptor is not either
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(STDERR), "wb", buffering=0) as stderr:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), STDERR)
            held.seek(0)
            with suppress(OSError):  # nobody may be listening any more
                stderr.writelines(line for line in held if GREETING not in line)


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Keep the run's own ways with signals, of which Ray replaces one."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        with suppress(ValueError):  # outside of the main thread, where Ray replaces nothing
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
