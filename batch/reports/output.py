"""Where a report goes: to a file, an object store, standard output, or a pipe or device."""

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

POLL_SECONDS = 0.1  # seconds between two looks whether a pipe has a reader


# The longest name of what a run keeps beside a report: a damaged journal's own journal.
_LONGEST_NAME = ".{}.journal.broken-journal"


class Destination(Protocol):
    """Where a report is made, which ends in exactly one of two ways.

    Every method raises ``OutputError`` where the system refuses, but for ``discard``.
    """

    def publish(self) -> None:
        """Let readers have the whole report under its name."""

    def discard(self) -> None:
        """Leave no trace, as far as a stream allows."""


class StreamDestination(Destination, Protocol):
    """Takes a report's bytes by ``stream``."""

    stream: BinaryIO


def open_destination(
    output: str, stdout: BinaryIO, check: StopCheck = never_stop
) -> StreamDestination:
    """Open the place that ``-o`` names.

    ``-`` and ``/dev/stdout`` are ``stdout``, which must be a real file and is left open.

    Raises:
        OutputError: the system refuses.
    """
    path, name = parse_location(output), describe_output(output)
    if isinstance(path, Url):
        return Upload(path, check)
    with translate_write_errors(name):
        if is_stdout(output):
            return StreamedOutput(name, reopen_stdout(stdout))
        return StreamedOutput(name, _open_device(path, check)) if is_device(path) else Draft(path)


@contextmanager
def publish_output(output: str, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """Give the stream of what ``-o`` names, and publish it when the block is through.

    A block that raises leaves no trace, as far as a stream allows.

    Raises:
        OutputError: the system refuses to open or to publish it; what is refused while the block
            writes is the block's.
    """
    place = open_destination(output, stdout)
    try:
        yield place.stream
        place.publish()
    except BaseException:
        place.discard()
        raise


def check_destination(output: str, check: StopCheck = never_stop) -> None:
    """Try now whether a report could be published, and leave nothing behind.

    Raises:
        UsageError: a URL can't be written to, or a package for it is not installed.
        OutputError: it is a folder or a picture, or its folder or bucket is missing or can't be
            written.
    """
    path = parse_location(output)
    if is_streamed(output):
        return
    if isinstance(path, Url):
        check_store(path, check)
        return
    target = resolve_path(path)
    with translate_write_errors(describe_output(output)):
        if target.is_dir():
            raise OutputError(
                f"{describe_output(output)} is a folder", "give the name of a file in it"
            )
        if target.exists() and not target.is_file():
            raise OutputError(f"{describe_output(output)} is neither file nor pipe", OUTPUT_REMEDY)
        check_parent_folder(target)
        check_replaceable(target, describe_output(output), OUTPUT_REMEDY)


def check_parent_folder(target: Path) -> None:
    """Try whether something could be made beside ``target``, and leave nothing behind.

    Raises:
        OSError: its folder is missing or can't be written, or its name is too long.
    """
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}")
    for name in (make_draft_name(draft_stem(target)), _LONGEST_NAME.format(target.name)):
        with suppress(FileNotFoundError):  # a name that is too long shows here
            target.with_name(name).lstat()
    with tempfile.TemporaryFile(dir=target.parent):
        pass


def check_not_input(output: str, noun: str, *inputs: str) -> None:
    """Make sure that a file which is to be replaced is none that is to be read.

    ``noun`` is what messages call such an input. Objects are told by their URLs alone.

    Raises:
        UsageError: it is one of ``inputs``.
    """
    if is_streamed(output):
        return
    place = parse_location(output)
    for text in inputs:
        other = parse_location(text)
        if isinstance(place, Path) and isinstance(other, Path):
            with suppress(OSError):  # mostly since one of them is not there
                if place.samefile(other):
                    break
        elif place == other:
            break
    else:
        return
    raise UsageError(f"{describe_output(output)} is {noun}", "name another file")


def describe_output(output: str) -> str:
    """Name an output for people."""
    return "standard output" if is_stdout(output) else f"report {path_text(parse_location(output))}"


class StreamedOutput:
    """Standard output, a pipe or a device: written through as the rows come."""

    def __init__(self, called: str, stream: BinaryIO) -> None:
        self._called = called
        self.stream = stream

    def publish(self) -> None:
        """Pass on the last bytes and close."""
        with translate_write_errors(self._called):
            self.stream.close()

    def discard(self) -> None:
        """Close."""
        with suppress(OSError):
            self.stream.close()


def _open_device(path: Path, check: StopCheck) -> BinaryIO:
    """Open a pipe or device; a pipe's reader is waited for until ``check`` ends that."""
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
