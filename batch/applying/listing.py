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
from batch.files.publish import Draft, is_stdout
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import path_text
from batch.standard_streams import reopen_stdout

NEWLINE = "with a newline in its name, which needs --null"


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
            Refusal: it has a newline.
        """
        if not self.null and b"\n" in os.fsencode(path):
            raise Refusal(NEWLINE)

    def add(self, path: bytes) -> None:
        """Write a path; one that begins with a dash gets ``./`` in front."""
        guard = b"./" if path.startswith(b"-") else b""
        with translate_write_errors(self.name, "choose another file with --list"):
            self.stream.write(guard + path + (b"\0" if self.null else b"\n"))


@contextmanager
def open_listing(job: ApplyJob, stdout: BinaryIO) -> Iterator[Listing | None]:
    """Open the list; a file is published at the end of the block, unless it is a dry run."""
    if job.list_to is None:
        yield None
    elif is_stdout(job.list_to):
        with reopen_stdout(stdout) as stream:
            yield Listing(stream, job.null, "standard output")
    elif job.execute:
        path = parse_location(job.list_to)
        assert isinstance(path, Path)
        name, remedy = f"list {path_text(path)}", "choose another file with --list"
        with translate_write_errors(name, remedy, path):
            draft = Draft(path, "list", remedy)
        try:
            yield Listing(draft.stream, job.null, name)
            draft.publish()
        except BaseException:
            draft.discard()
            raise
    else:
        with open(os.devnull, "wb") as stream:
            yield Listing(stream, job.null, "list")
