"""Links from a page to the original photos."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from batch.files.publish import is_streamed
from batch.location import is_url, parse_scheme, strip_secrets
from batch.page.compact import split_path
from batch.page.gather import PageRow
from batch.path_text import path_bytes

_WEB_SCHEMES = ("http", "https")


def find_link_starts(folders: Iterable[str], photos: Path, page: str) -> list[str]:
    """Find the start of the links to the photos of each folder; empty if they can't be linked.

    Local photos are linked relative to the page, so that both can be moved together. Members of
    archives and objects of stores have no address that a browser could open.

    Args:
        folders: folders as the report writes them, with their last slash.
        photos: base folder of relative paths.
        page: path of the page; a page that is written to a stream has no relative links.
    """
    start = None if is_streamed(page) else Path(page).parent
    return [_find_link_start(folder, photos, start) for folder in folders]


def find_secret_links(rows: Sequence[PageRow]) -> list[int]:
    """List the rows whose URL has a secret, which a link would reveal in another server's log."""
    return [
        index
        for index, row in enumerate(rows)
        if _is_web(split_path(row)[0]) and strip_secrets(row.saved.path) != row.saved.path
    ]


def _find_link_start(folder: str, photos: Path, start: Path | None) -> str:
    try:
        name = path_bytes(folder)
    except ValueError:
        return ""
    if is_url(folder):
        return quote(name, safe=string.punctuation) if _is_web(folder) else ""
    if start is None:
        return ""
    relative = os.path.relpath(photos / os.fsdecode(name), start)
    return "./" if relative == "." else f"./{quote(os.fsencode(relative))}/"


def _is_web(folder: str) -> bool:
    return is_url(folder) and parse_scheme(folder) in _WEB_SCHEMES
