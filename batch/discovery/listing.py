"""What lies in object stores and on servers: a page or a folder at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from batch.discovery.walk import LISTED_FOLDER
from batch.errors import BatchLabelError, InputError
from batch.found import Found, fail, find, nanoseconds
from batch.location import WILDCARDS, Url, is_url, scheme_of, with_secrets, without_secrets
from batch.options import LeftOut, Search
from batch.parallel import thread_map
from batch.path_text import printable
from batch.records import Reason
from batch.stopping import Check, never_stop
from batch.stores.download import read_object
from batch.stores.listing_pages import pages_of
from batch.stores.requests import ask, request, retried, status_of
from batch.stores.store import is_elsewhere, open_store, said, store_refusals, url_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Files of a list that are asked about at the same time.
LOOKERS = 16
# Statuses of what is not there: RFC 9110.
_GONE = (404, 410)
# Bytes of a list of URLs, which is held in memory.
MAX_LIST_BYTES = 128 * 1024**2
_SHOWN = 200  # characters of a line that is refused


@dataclass(frozen=True)
class Entry:
    """Something in a store, with what the store says of it."""

    url: str
    store: AbstractFileSystem
    path: str
    info: dict[str, Any]

    @property
    def found(self) -> Found:
        """The entry as a file that was found."""
        return _found(self.url, self.info)


def look(url: str, check: Check = never_stop) -> Entry:
    """Ask a store what a URL names.

    Raises:
        InputError: there is nothing, or the store does not answer.
        UsageError: a package that the store needs is not installed.
    """
    with _asking(url):
        store, path = open_store(url)
        info = retried(lambda: _info(store, path, check), check)
        return Entry(url, store, path, info)


def _info(store: AbstractFileSystem, path: str, check: Check) -> dict[str, Any]:
    try:
        info: dict[str, Any] = ask(store, "info", path, check=check)
    except FileNotFoundError as error:
        cause = error.__cause__
        # Of a web server's refusal, whatever it is, fsspec makes this.
        if cause is None or "http" not in store.protocol or status_of(cause) in _GONE:
            raise
        raise cause from None
    return info


def listed_in(url: str, check: Check = never_stop) -> list[tuple[str, str]]:
    """Read a list of URLs, one a line; they may be relative to its own.

    Who writes the list can be anybody, so nothing in it leads to this machine's files: instead of
    a line that does there is the list's own URL with the line's number, and why.

    Raises:
        InputError: the list is too large, or as for ``look``.
        UsageError: as for ``look``.
    """
    with _asking(url):
        text = read_object(url, MAX_LIST_BYTES + 1, check)
    if len(text) > MAX_LIST_BYTES:
        raise InputError(
            f"list {printable(url)} has more than {MAX_LIST_BYTES:,} bytes", "split it"
        )
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        name = os.fsdecode(line).strip()
        if not name:
            continue
        listed = name if is_url(name) else _beside(url, name)
        if is_elsewhere(listed):
            lines.append((listed, ""))
        else:
            shown = printable(without_secrets(name))[:_SHOWN]
            why = f"{shown} is not in an object store or on a web server"
            lines.append((f"{url}#{number}", why))
    return lines


def _beside(url: str, name: str) -> str:
    if scheme_of(url).startswith("http"):
        # What comes before a colon would be a scheme; and it may be the user that has access.
        inside = name if name.startswith(("/", "?", "#")) else f"./{name}"
        return urljoin(with_secrets(url), inside)
    # Not by urljoin, which knows few schemes, and for which ? and # are no part of a name.
    return f"{url.rpartition('/')[0]}/{name}"


def matches(pattern: str, hidden: bool, check: Check = never_stop) -> list[str]:
    """Give the URLs that a pattern stands for, in order; it is no pattern on a web server.

    An object that has that very name goes first, as files of this machine do. Without ``hidden``
    names that begin with a dot are left out.

    Raises:
        InputError: there are none, or the store does not answer.
    """
    try:
        look(pattern, check)
        return [pattern]
    except InputError as error:
        is_pattern = not (WILDCARDS.isdisjoint(pattern) or scheme_of(pattern).startswith("http"))
        if not (is_pattern and isinstance(error.__cause__, FileNotFoundError)):
            raise
    with _asking(pattern):
        store, path = open_store(pattern)
        found: list[str] = request(store, "glob", path, check=check, seconds=None)
    if not hidden:
        found = [name for name in found if not name.rpartition("/")[2].startswith(".")]
    if not found:
        raise InputError(f"no file matches {printable(pattern)}", "check pattern and folder")
    return [url_of(store, name, pattern) for name in sorted(found, key=os.fsencode)]


def reach(
    urls: Iterable[str],
    search: Search,
    left_out: LeftOut,
    check: Check = never_stop,
    base: str | None = None,
    enters: bool = True,
) -> Iterator[Found]:
    """Give the files that URLs stand for, in order; those in a folder if they are named as images.

    Exclude patterns are relative to ``base``, a URL above; None for each URL itself. First bytes
    are not looked at, since each would be a request. Folders are left out unless it ``enters``
    them.
    """
    for entry in thread_map(lambda url: _looked(url, check), urls, LOOKERS):
        if isinstance(entry, Found):
            yield entry
        elif entry.info["type"] != "directory":
            yield entry.found
        elif not enters:
            left_out(Url(entry.url), LISTED_FOLDER)
        else:
            above = "" if base is None else f"{entry.url[len(base) :].strip('/')}/".lstrip("/")
            yield from _inside(entry, above, search, left_out, check)


def _looked(url: str, check: Check) -> Entry | Found:
    check()
    try:
        return look(url, check)
    except InputError as error:
        check()
        return _failed(url, error.__cause__ or error)


def _inside(
    folder: Entry, above: str, search: Search, left_out: LeftOut, check: Check
) -> Iterator[Found]:
    start = len(folder.path) + 1

    def is_entered(path: str) -> bool:
        why = search.exclusion.why_inside(above + path[start:].rstrip("/"), folder=True)
        if why:
            left_out(Url(url_of(folder.store, path, folder.url)), why)
        return not why

    try:
        for info in _files(folder, search.recursive, is_entered, check):
            url = url_of(folder.store, info["name"], folder.url)
            why = search.why_not(info["name"][start:], above)
            if why:
                left_out(Url(url), why)
            else:
                yield _found(url, info)
    except BatchLabelError:
        raise
    except Exception as error:  # stores raise what they like
        check()  # a request that the end of the run has cancelled is no fault of the store
        yield _failed(folder.url, error)


def _files(
    folder: Entry, recursive: bool, is_entered: Callable[[str], bool], check: Check
) -> Iterator[dict[str, Any]]:
    pages = pages_of(folder.store) or partial(_folders, is_entered)
    for page in pages(folder.store, folder.path, recursive, check):
        check()
        yield from page


def _folders(
    is_entered: Callable[[str], bool],
    store: AbstractFileSystem,
    path: str,
    recursive: bool,
    check: Check = never_stop,
) -> Iterator[list[dict[str, Any]]]:
    """List a store folder by folder, in the order of their names' bytes."""
    folders = [path]
    while folders:
        folder = folders.pop()
        inside = request(store, "ls", folder, detail=True, check=check)
        inside = sorted(inside, key=lambda info: os.fsencode(info["name"]), reverse=True)
        yield [info for info in reversed(inside) if info["type"] != "directory"]
        if recursive:
            inner = (info["name"] for info in inside if info["type"] == "directory")
            folders += filter(is_entered, inner)


def _found(url: str, info: dict[str, Any]) -> Found:
    time = _time(info)
    return find(url, info.get("size"), time, _etag(info, time))


def _etag(info: dict[str, Any], time: int | None) -> str | None:
    """Give what a store calls this state of an object.

    A weak ETag may stay the same where bytes change, so that the time counts as well. Servers that
    compress make weak ones of strong ones, which are the same otherwise.
    Source: https://www.rfc-editor.org/rfc/rfc9110#name-weak-versus-strong
    """
    etag = str(info.get("ETag") or info.get("etag") or "")
    # In quotes in S3's listings, and without in its inventories.
    opaque = etag.removeprefix("W/").strip('"')
    return f"{opaque} {time}" if opaque and etag.startswith("W/") and time else opaque or None


def _time(info: dict[str, Any]) -> int | None:
    """Give the time of change in nanoseconds, by whatever name a store gives it."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        time = nanoseconds(info.get(name))
        if time is not None:
            return time
    try:  # as web servers write it: RFC 9110, section 8.8.2
        return nanoseconds(parsedate_to_datetime(str(info.get("Last-Modified"))))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _failed(url: str, error: BaseException) -> Found:
    gone = isinstance(error, FileNotFoundError)
    return fail(url, Reason.VANISHED if gone else Reason.UNREADABLE, said(error))


def _asking(url: str) -> AbstractContextManager[None]:
    remedy = "check the spelling, and that the store can be reached from here"
    return store_refusals(f"input {printable(url)} can't be found", InputError, remedy)
