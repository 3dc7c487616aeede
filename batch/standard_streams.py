"""Standard input, output and error, which are there from the start and never end in a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO

from batch.errors import InputError, OutputClosed, OutputError
from batch.path_text import printable_text


def replace_standard_streams() -> None:
    """Put streams in place of Python's that refuse as the errors of this program do.

    A descriptor that the process was started without is opened on nothing: else the next file,
    such as the journal, would be what others take for standard output. Reading and writing fail
    there, but messages are dropped.
    """
    for descriptor, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free, which is this one
    sys.stdin = _wrap_text(io.BufferedReader(_Stdin(0, "rb", closefd=False)), sys.stdin)
    sys.stdout = _wrap_text(io.BufferedWriter(_Stdout(1, "wb", closefd=False)), sys.stdout)
    sys.stderr = _wrap_text(io.BufferedWriter(_Stderr(2, "wb", closefd=False)), sys.stderr)


def reopen_stdout(stdout: BinaryIO) -> BinaryIO:
    """Open standard output once more, apart from ``sys.stdout``.

    Python flushes that again as it ends, and would complain a second time of a reader that
    has gone; unbuffered (``-u``), it may write less than it is given.
    """
    stdout.flush()
    return io.BufferedWriter(_Stdout(os.dup(stdout.fileno()), "wb"))


class _Stdin(io.FileIO):
    """Standard input: what the system refuses is an ``InputError``."""

    def readinto(self, buffer: Any, /) -> int:
        with _translate_read_errors():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _translate_read_errors():
            return super().readall()


class _Stdout(io.FileIO):
    """Standard output: what the system refuses is an ``OutputError``, once."""

    _is_refused = False

    def write(self, data: Any, /) -> int:
        if self._is_refused:  # Python tries what is left again as it ends
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._is_refused = True
            why = printable_text(error.strerror or str(error))
            if error.errno == errno.EPIPE:
                remedy = "keep its reader open to the end, or name a file with -o"
                raise OutputClosed(f"nobody reads standard output ({why})", remedy) from error
            remedy = "free some space where it goes, or send it elsewhere"
            raise OutputError(f"standard output can't be written ({why})", remedy) from error


class _Stderr(io.FileIO):
    """Standard error: what it does not take is dropped, as it must not change how a run ends."""

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
        why = printable_text(error.strerror or str(error))
        remedy = "give the list of paths by a pipe or a file"
        raise InputError(f"standard input can't be read ({why})", remedy) from error


def _wrap_text(stream: Any, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before else "utf-8"
    errors = before.errors if before else "backslashreplace"
    return io.TextIOWrapper(stream, encoding, errors, line_buffering=stream.isatty())
