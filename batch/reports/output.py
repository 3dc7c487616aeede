"""Destinations of a report: a file, an object store, standard output, a pipe or a device."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from batch.errors import OutputError, UsageError
from batch.files.drafts import draft_stem, make_draft_name
from batch.files.publish import (
    Draft,
    check_replaceable,
    is_device,
    is_stdout,
    is_streamed,
    resolve_path,
)
from batch.location import Url, parse_location
from batch.os_errors import OUTPUT_REMEDY, translate_write_errors
from batch.path_text import path_text
from batch.standard_streams import reopen_stdout
from batch.stopping import StopCheck, never_stop
from batch.stores.upload import Upload, check_store

POLL_SECONDS = 0.1  # between checks for a reader of a pipe
# The longest name of a file beside a report: the rollback journal of a damaged journal.
_LONGEST_NAME = ".{}.journal.broken-journal"


class Destination(Protocol):
    """A place that a report is written to, and where it is then published or discarded.

    ``publish`` raises ``OutputError`` on an I/O error; ``discard`` never does.
    """

    def publish(self) -> None:
        """Make the complete report visible under its name."""

    def discard(self) -> None:
        """Remove what was written; a stream is only closed."""


class StreamDestination(Destination, Protocol):
    """A destination for the bytes of a report.

    Attributes:
        stream: takes the bytes.
    """

    stream: BinaryIO


def open_destination(
    output: str,
    stdout: BinaryIO,
    check: StopCheck = never_stop,
    kind: str = "report",
    remedy: str = OUTPUT_REMEDY,
) -> StreamDestination:
    """Open what ``-o`` names.

    Args:
        output: a path or URL; ``-`` and ``/dev/stdout`` are ``stdout``.
        stdout: standard output, which must have a file descriptor and is left open.
        check: raises an error to stop an upload, or the wait for a pipe's reader.
        kind: the output in messages.
        remedy: how to choose another path.

    Raises:
        OutputError: it can't be opened.
    """
    path, name = parse_location(output), describe_output(output, kind)
    if isinstance(path, Url):
        return Upload(path, check)
    with translate_write_errors(name, remedy):
        if is_stdout(output):
            return StreamedOutput(name, reopen_stdout(stdout))
        if is_device(path):
            return StreamedOutput(name, _open_device(path, check))
        return Draft(path, kind, remedy)


@contextmanager
def publish_output(output: str, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the stream of what ``-o`` names; publish it at the end of the block.

    If the block raises, what was written is discarded. The block translates its own write errors.

    Raises:
        OutputError: it can't be opened or published.
    """
    destination = open_destination(output, stdout)
    try:
        yield destination.stream
        destination.publish()
    except BaseException:
        destination.discard()
        raise


def check_destination(
    output: str,
    check: StopCheck = never_stop,
    kind: str = "report",
    remedy: str = OUTPUT_REMEDY,
) -> None:
    """Check that ``output`` can be published, and leave nothing behind.

    Arguments are those of ``open_destination``.

    Raises:
        UsageError: a URL can't be written to, or a package for it is not installed.
        OutputError: it is a folder or an image, or its folder or bucket is missing or can't be
            written.
    """
    path = parse_location(output)
    if is_streamed(output):
        return
    if isinstance(path, Url):
        check_store(path, check)
        return
    target, name = resolve_path(path), describe_output(output, kind)
    with translate_write_errors(name, remedy):
        if target.is_dir():
            raise OutputError(f"{name} is a folder", "give the name of a file in it")
        if target.exists() and not target.is_file():
            raise OutputError(f"{name} is not a file or pipe", remedy)
        check_parent_folder(target)
        check_replaceable(target, name, remedy)


def check_parent_folder(target: Path) -> None:
    """Check that files can be created beside ``target``, and leave nothing behind.

    Raises:
        OSError: its folder is missing or can't be written, or its name is too long.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}")
    for name in (make_draft_name(draft_stem(target)), _LONGEST_NAME.format(target.name)):
        with suppress(FileNotFoundError):  # raises OSError if the name is too long
            target.with_name(name).lstat()
    with tempfile.TemporaryFile(dir=target.parent):
        pass


def check_not_input(output: str, noun: str, *inputs: str, kind: str = "report") -> None:
    """Make sure that an output does not replace an input.

    Args:
        output: what ``-o`` names.
        noun: the inputs in messages, such as "one of the parts".
        *inputs: paths or URLs. URLs are compared as text.
        kind: the output in messages.

    Raises:
        UsageError: it is one of ``inputs``.
    """
    if is_streamed(output):
        return
    place = parse_location(output)
    for text in inputs:
        other = parse_location(text)
        if isinstance(place, Path) and isinstance(other, Path):
            with suppress(OSError):  # one of them may not exist
                if place.samefile(other):
                    break
        elif place == other:
            break
    else:
        return
    raise UsageError(f"{describe_output(output, kind)} is {noun}", "name another file")


def describe_output(output: str, kind: str = "report") -> str:
    """Name an output in messages; ``kind`` is what it holds."""
    return "standard output" if is_stdout(output) else f"{kind} {path_text(parse_location(output))}"


class StreamedOutput:
    """Standard output, a pipe or a device, to which rows are written at once."""

    def __init__(self, display_name: str, stream: BinaryIO) -> None:
        self._display_name = display_name
        self.stream = stream

    def publish(self) -> None:
        """Flush and close."""
        with translate_write_errors(self._display_name):
            self.stream.close()

    def discard(self) -> None:
        """Close."""
        with suppress(OSError):
            self.stream.close()


def _open_device(path: Path, check: StopCheck) -> BinaryIO:
    """Open a pipe or device; wait for a pipe's reader until ``check`` raises an error."""
    while True:
        check()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(POLL_SECONDS)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb")
