"""The list of paths of photos that match."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from batch.applying.job import ApplyJob
from batch.applying.transfer import Refusal
from batch.errors import UsageError
from batch.files.publish import is_stdout, is_streamed, resolve_path
from batch.journal.path import find_url_journal_path
from batch.location import Url, parse_location
from batch.os_errors import translate_write_errors
from batch.recording.retention import HISTORY_SUFFIX
from batch.recording.run_record import RECORD_SUFFIX
from batch.reports.output import (
    check_destination,
    check_not_input,
    describe_output,
    open_destination,
)
from batch.reviewing.reviews_file import REVIEWS_SUFFIX
from batch.stopping import Stop

LINE_BREAK = "with a line break in its name, which needs --null"
# rsync --files-from skips lines that begin with # or ; as comments, and ends lines at a carriage
# return too. Other programs take a name that begins with a dash for an option.
_GUARDED = (b"-", b"#", b";")
_KIND, _REMEDY = "list", "choose another file with --list"
# Of the files beside a report that are not hidden.
_SUFFIXES = (REVIEWS_SUFFIX, RECORD_SUFFIX, HISTORY_SUFFIX)


@dataclass
class Listing:
    """A list of paths.

    Attributes:
        stream: where it is written.
        null: whether paths end in NUL instead of a newline.
        name: the list in messages.
    """

    stream: BinaryIO
    null: bool
    name: str

    def check(self, path: Path) -> None:
        """Make sure that a path can be a line.

        Raises:
            Refusal: it has a line break.
        """
        name = os.fsencode(path)
        if not self.null and (b"\n" in name or b"\r" in name):
            raise Refusal(LINE_BREAK)

    def add(self, path: bytes) -> None:
        """Write a path; one that programs would not take for a path gets ``./`` in front."""
        guard = b"./" if path.startswith(_GUARDED) else b""
        with translate_write_errors(self.name, _REMEDY):
            self.stream.write(guard + path + (b"\0" if self.null else b"\n"))


def check_list(job: ApplyJob) -> None:
    """Check that the list of a job can be written, and replaces nothing of the report.

    Raises:
        UsageError: it is at a URL, or is the report or one of the files beside it.
        OutputError: it can't be written, or is a picture.
    """
    if job.list_to is None or is_streamed(job.list_to):
        return
    path = parse_location(job.list_to)
    if isinstance(path, Url):
        raise UsageError(f"--list {job.list_to} is a URL", "give the name of a file, or -")
    check_not_input(job.list_to, "the report", job.report, kind=_KIND)
    if _belongs_to_report(resolve_path(path), job):
        raise UsageError(
            f"{describe_output(job.list_to, _KIND)} is a file of the report", "name another file"
        )
    check_destination(job.list_to, kind=_KIND, remedy=_REMEDY)


@contextmanager
def open_listing(job: ApplyJob, stdout: BinaryIO, stop: Stop) -> Iterator[Listing | None]:
    """Open the list; it is published at the end of the block, unless it is a dry run.

    A pipe or a device is written in place, as standard output is.

    Raises:
        OutputError: it can't be written.
        Interrupted: a signal ended the wait for a pipe's reader.
    """
    if job.list_to is None:
        yield None
    elif job.execute or is_stdout(job.list_to):
        with stop.translate_stop("no list was written"):
            destination = open_destination(job.list_to, stdout, stop.check, _KIND, _REMEDY)
        try:
            yield Listing(destination.stream, job.null, describe_output(job.list_to, _KIND))
            destination.publish()
        except BaseException:
            destination.discard()
            raise
    else:
        with open(os.devnull, "wb") as stream:
            yield Listing(stream, job.null, _KIND)


def _belongs_to_report(path: Path, job: ApplyJob) -> bool:
    """Return whether a path is for the journal, the reviews or another file of a report."""
    if isinstance(job.location, Url):
        stem = find_url_journal_path(job.location.text, job.state_folder).stem
        return path.parent == resolve_path(job.state_folder) and stem in path.name
    report = resolve_path(job.location)
    if report in path.parents:  # a dataset
        return True
    return path.parent == report.parent and (
        path.name.startswith(f".{report.name}.")
        or path.name in {report.name + suffix for suffix in _SUFFIXES}
    )
