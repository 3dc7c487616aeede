"""Where a run's journal lies, and what becomes of one that can't be used."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from batch.errors import OutputError
from batch.journal.errors import JournalDamaged
from batch.journal.schema import APPLICATION_ID
from batch.location import Url, location_of
from batch.names import path_text
from batch.options import Job
from batch.reports.output import is_streamed
from batch.reports.publish import resolved, writing

BROKEN_SUFFIX = ".broken"
# Of a journal's name, the characters that a URL and its digest give.
READABLE_LENGTH = 80
DIGEST_LENGTH = 12
# How a database begins, and where in it its application's number lies, of 4 bytes (see
# https://www.sqlite.org/fileformat.html).
SQLITE_MAGIC = b"SQLite format 3\0"
APPLICATION_AT = 68


def journal_path(job: Job) -> Path | None:
    """Name the journal: what was asked for, or hidden beside the report.

    None for a report that is streamed or at a URL, unless one was asked for: see
    ``url_journal_path``.
    """
    if job.memory.state is not None:
        return resolved(job.memory.state)
    place = location_of(job.output)
    if is_streamed(job.output) or isinstance(place, Url):
        return None
    report = resolved(place)
    return report.with_name(f".{report.name}.journal")


def url_journal_path(url: str, folder: Path) -> Path:
    """Name the journal of a report at a URL, which no other URL has, in a folder for such.

    SQLite needs a disk, so it can't lie beside the report.
    """
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", url.partition("://")[2]).strip("-.")
    digest = hashlib.sha256(os.fsencode(url)).hexdigest()[:DIGEST_LENGTH]
    return folder / f"{readable[-READABLE_LENGTH:]}-{digest}.journal"


def set_aside(journal: Path, damage: JournalDamaged, given: bool) -> Path:
    """Rename a damaged journal, so that nothing that it holds is lost, and give its new name.

    Raises:
        OutputError: it can't be renamed, or it was ``given`` by name and is of another kind.
    """
    with writing(f"journal {path_text(journal)}"):
        with journal.open("rb") as file:
            head = file.read(APPLICATION_AT + 4)
        if given and head and not _is_journal(head):
            raise OutputError(
                f"{path_text(journal)} is no journal ({damage})", "name another file with --state"
            )
        broken = journal.with_name(journal.name + BROKEN_SUFFIX)
        journal.replace(broken)
        # What SQLite keeps beside a database belongs to it.
        journal.with_name(f"{journal.name}-journal").unlink(missing_ok=True)
    return broken


def _is_journal(head: bytes) -> bool:
    number = APPLICATION_ID.to_bytes(4, "big")
    return head.startswith(SQLITE_MAGIC) and head[APPLICATION_AT:] == number
