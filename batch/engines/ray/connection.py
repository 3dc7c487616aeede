"""The connection to a Ray cluster, or to one on this machine that ends with the run."""

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
# Environment for Ray on this machine and the daemons that it starts.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Keep Ray's C++ from logging to standard error what the run reports itself.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # An iterator that was not read to its end would connect again.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}
# A line that Ray's C++ writes to standard error at any log level.
GREETING = b"Set ray log level from environment variable"
STDERR = 2  # file descriptor
CONNECT_TIMEOUT_SECONDS = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_ray_installed() -> None:
    """Check that Ray is installed.

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
    """Text stream that discards what is written."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def connect_to_ray(address: str | None, cores: int) -> Iterator[ModuleType]:
    """Connect to a cluster for the length of the block, unless this process is connected already.

    Args:
        address: the cluster; None to start one on this machine, which ends with the block.
        cores: the least number of cores of a new cluster.

    Yields:
        The module ``ray``.

    Raises:
        EngineError: the cluster can't be reached or started.
    """
    os.environ.update(RAY_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield ray
        return
    # Ray prints messages about dead actors to standard output, where a report may go.
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
    except Exception as error:  # Ray's exceptions have no common base
        if address:
            cluster = f"the Ray cluster {printable_text(address)}"
            remedy = "check RAY_ADDRESS, and that Ray and Python have the same versions everywhere"
        else:
            cluster = "a Ray cluster on this machine"
            remedy = "see /tmp/ray/session_latest/logs, and check that enough memory is free"
        raise EngineError(f"{cluster} can't be used ({error_text(error)})", remedy) from error


def _check_reachable(address: str) -> None:
    """Try to connect to the address once; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection(
            (host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS
        ).close()


@contextmanager
def _hide_greeting() -> Iterator[None]:
    """Hold back standard error during the block, then write it without the line GREETING.

    This replaces the file descriptor, as Ray's C++ does not use ``sys.stderr``.
    """
    if sys.stderr is None:  # the descriptor is closed, too
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
            with suppress(OSError):  # its reader may be gone
                stderr.writelines(line for line in held if GREETING not in line)


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore the run's signal handlers after the block, as Ray replaces one."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        with suppress(ValueError):  # not in the main thread: Ray has replaced none
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
