"""Standard streams that always exist and whose errors are this program's exceptions."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from batch.errors import InputError, OutputClosed, OutputError
from batch.os_errors import describe_failed_access, describe_os_error


def replace_standard_streams() -> None:
    """Replace Python's standard streams with those of this module.

    If the process was started without descriptor 0, 1 or 2, it is opened on ``/dev/null``, so that
    no other file, such as the journal, gets its number. Then reading from 0 and writing to 1 fail,
    and messages to 2 are dropped.
    """
    for descriptor, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number, which is this one
    sys.stdin = _wrap_text(io.BufferedReader(_Stdin(0, "rb", closefd=False)), sys.stdin)
    sys.stdout = _wrap_text(io.BufferedWriter(_Stdout(1, "wb", closefd=False)), sys.stdout)
    sys.stderr = _wrap_text(io.BufferedWriter(_Stderr(2, "wb", closefd=False)), sys.stderr)


def reopen_stdout(stdout: BinaryIO) -> BinaryIO:
    """Open standard output independently of ``sys.stdout``.

    Python flushes ``sys.stdout`` again when it exits, and would report a closed pipe a second
    time. Unbuffered (``-u``), it may write less than it is given.
    """
    stdout.flush()
    return io.BufferedWriter(_Stdout(os.dup(stdout.fileno()), "wb"))


class _Stdin(io.FileIO):
    """Standard input; an ``OSError`` becomes an ``InputError``."""

    def readinto(self, buffer: Any, /) -> int:
        with _translate_read_errors():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _translate_read_errors():
            return super().readall()


class _Stdout(io.FileIO):
    """Standard output; the first ``OSError`` becomes an ``OutputError``."""

    _has_failed = False

    def write(self, data: Any, /) -> int:
        if self._has_failed:  # Python writes the rest of its buffer again when it exits
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            why = describe_os_error(error)
            if error.errno == errno.EPIPE:
                remedy = "keep its reader open to the end, or name a file with -o"
                raise OutputClosed(f"standard output was closed ({why})", remedy) from error
            remedy = "free some space at its destination, or name a file with -o"
            raise OutputError(f"standard output can't be written ({why})", remedy) from error


class _Stderr(io.FileIO):
    """Standard error; what can't be written is dropped, as it must not change the exit code."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


@contextmanager
def _translate_read_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = describe_failed_access("standard input", "read", error)
        raise InputError(problem, "pass the list of paths by a pipe or a file") from error


def _wrap_text(stream: Any, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before else "utf-8"
    errors = before.errors if before else "backslashreplace"
    return io.TextIOWrapper(stream, encoding, errors, line_buffering=stream.isatty())
