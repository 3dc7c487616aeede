"""Where a run's journal lies."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from batch.files.publish import is_streamed, resolve_path
from batch.location import Url, parse_location
from batch.options import Job

# Of a journal's name, the characters that a URL and its digest give.
READABLE_LENGTH = 80
DIGEST_LENGTH = 12


def find_journal_path(job: Job) -> Path | None:
    """Name the journal: what was asked for, or hidden beside the report.

    None for a report that is streamed or at a URL, unless one was asked for: see
    ``find_url_journal_path``.
    """
    if job.journal.state is not None:
        return resolve_path(job.journal.state)
    place = parse_location(job.output)
    if is_streamed(job.output) or isinstance(place, Url):
        return None
    report = resolve_path(place)
    return report.with_name(f".{report.name}.journal")


def find_url_journal_path(url: str, folder: Path) -> Path:
    """Name the journal of a report at a URL, which no other URL has, in a folder for such.

    SQLite needs a disk, so it can't lie beside the report.
    """
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", url.partition("://")[2]).strip("-.")
    digest = hashlib.sha256(os.fsencode(url)).hexdigest()[:DIGEST_LENGTH]
    return folder / f"{readable[-READABLE_LENGTH:]}-{digest}.journal"
