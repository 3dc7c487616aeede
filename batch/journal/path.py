"""The path of a run's journal."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from batch.files.publish import is_streamed, resolve_path
from batch.location import Url, parse_location
from batch.options import Job

# Characters of the URL and of its digest in a journal's name.
READABLE_LENGTH = 80
DIGEST_LENGTH = 12


def find_journal_path(job: Job) -> Path | None:
    """Return ``--state``, or a hidden file beside the report.

    Without ``--state``, the path is None for a streamed report and for one at a URL. For a URL, the
    CLI sets ``--state`` by ``find_url_journal_path``.
    """
    if job.journal.state is not None:
        return resolve_path(job.journal.state)
    place = parse_location(job.output)
    if is_streamed(job.output) or isinstance(place, Url):
        return None
    report = resolve_path(place)
    return report.with_name(f".{report.name}.journal")


def find_url_journal_path(url: str, folder: Path) -> Path:
    """Return the path of the journal of a report at a URL: a unique name in ``folder``."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", url.partition("://")[2]).strip("-.")
    digest = hashlib.sha256(os.fsencode(url)).hexdigest()[:DIGEST_LENGTH]
    return folder / f"{readable[-READABLE_LENGTH:]}-{digest}.journal"
