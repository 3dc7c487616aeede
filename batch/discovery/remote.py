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

from batch.discovery.walk import FOLDER_IN_LIST
from batch.errors import BatchLabelError, InputError
from batch.found import FoundFile, make_failed, make_found, to_nanoseconds
from batch.location import WILDCARDS, Url, is_url, parse_scheme, restore_secrets, strip_secrets
from batch.options import OnSkip, Search
from batch.parallel import thread_map
from batch.path_text import printable_text
from batch.records import Reason
from batch.stopping import StopCheck, never_stop
from batch.stores.download import read_object
from batch.stores.page_listers import find_page_lister
from batch.stores.requests import call_store, call_with_retries, find_http_status, retry
from batch.stores.store import build_url, error_text, is_remote, open_store, translate_store_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Files of a list that are asked about at the same time.
MAX_LOOKUPS = 16
# Statuses of what is not there: RFC 9110.
_GONE_STATUSES = (404, 410)
# Bytes of a list of URLs, which is held in memory.
MAX_LIST_BYTES = 128 * 1024**2
_MAX_SHOWN_CHARS = 200  # characters of a line that is refused


@dataclass(frozen=True)
class StoreEntry:
    """Something in a store, with what the store says of it."""

    url: str
    store: AbstractFileSystem
    path: str
    info: dict[str, Any]

    @property
    def found(self) -> FoundFile:
        """The entry as a file that was found."""
        return _to_found(self.url, self.info)


def look_up(url: str, check: StopCheck = never_stop) -> StoreEntry:
    """Ask a store what a URL names.

    Raises:
        InputError: there is nothing, or the store does not answer.
        UsageError: a package that the store needs is not installed.
    """
    with _translate_store_errors(url):
        store, path = open_store(url)
        info = retry(lambda: _request_info(store, path, check), check)
        return StoreEntry(url, store, path, info)


def _request_info(store: AbstractFileSystem, path: str, check: StopCheck) -> dict[str, Any]:
    try:
        info: dict[str, Any] = call_store(store, "info", path, check=check)
    except FileNotFoundError as error:
        cause = error.__cause__
        # Of a web server's refusal, whatever it is, fsspec makes this.
        if (
            cause is None
            or "http" not in store.protocol
            or find_http_status(cause) in _GONE_STATUSES
        ):
            raise
        raise cause from None
    return info


def read_url_list(url: str, check: StopCheck = never_stop) -> list[tuple[str, str]]:
    """Read a list of URLs, one a line; they may be relative to its own.

    Who writes the list can be anybody, so nothing in it leads to this machine's files: instead of
    a line that does there is the list's own URL with the line's number, and why.

    Raises:
        InputError: the list is too large, or as for ``look_up``.
        UsageError: as for ``look_up``.
    """
    with _translate_store_errors(url):
        text = read_object(url, MAX_LIST_BYTES + 1, check)
    if len(text) > MAX_LIST_BYTES:
        raise InputError(
            f"list {printable_text(url)} has more than {MAX_LIST_BYTES:,} bytes", "split it"
        )
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        name = os.fsdecode(line).strip()
        if not name:
            continue
        listed = name if is_url(name) else _resolve_relative(url, name)
        if is_remote(listed):
            lines.append((listed, ""))
        else:
            shown = printable_text(strip_secrets(name))[:_MAX_SHOWN_CHARS]
            why = f"{shown} is not in an object store or on a web server"
            lines.append((f"{url}#{number}", why))
    return lines


def _resolve_relative(url: str, name: str) -> str:
    if parse_scheme(url).startswith("http"):
        # What comes before a colon would be a scheme; and it may be the user that has access.
        inside = name if name.startswith(("/", "?", "#")) else f"./{name}"
        return urljoin(restore_secrets(url), inside)
    # Not by urljoin, which knows few schemes, and for which ? and # are no part of a name.
    return f"{url.rpartition('/')[0]}/{name}"


def expand_url_pattern(pattern: str, hidden: bool, check: StopCheck = never_stop) -> list[str]:
    """Give the URLs that a pattern stands for, in order; it is no pattern on a web server.

    An object that has that very name goes first, as files of this machine do. Without ``hidden``
    names that begin with a dot are left out.

    Raises:
        InputError: there are none, or the store does not answer.
    """
    try:
        look_up(pattern, check)
        return [pattern]
    except InputError as error:
        is_pattern = not (WILDCARDS.isdisjoint(pattern) or parse_scheme(pattern).startswith("http"))
        if not (is_pattern and isinstance(error.__cause__, FileNotFoundError)):
            raise
    with _translate_store_errors(pattern):
        store, path = open_store(pattern)
        found: list[str] = call_with_retries(store, "glob", path, check=check, seconds=None)
    if not hidden:
        found = [name for name in found if not name.rpartition("/")[2].startswith(".")]
    if not found:
        raise InputError(f"no file matches {printable_text(pattern)}", "check pattern and folder")
    return [build_url(store, name, pattern) for name in sorted(found, key=os.fsencode)]


def list_urls(
    urls: Iterable[str],
    search: Search,
    on_skip: OnSkip,
    check: StopCheck = never_stop,
    base: str | None = None,
    enters: bool = True,
) -> Iterator[FoundFile]:
    """Give the files that URLs stand for, in order; those in a folder if they are named as images.

    Exclude patterns are relative to ``base``, a URL above; None for each URL itself. First bytes
    are not looked at, since each would be a request. Folders are left out unless it ``enters``
    them.
    """
    for entry in thread_map(lambda url: _look_up_or_fail(url, check), urls, MAX_LOOKUPS):
        if isinstance(entry, FoundFile):
            yield entry
        elif entry.info["type"] != "directory":
            yield entry.found
        elif not enters:
            on_skip(Url(entry.url), FOLDER_IN_LIST)
        else:
            above = "" if base is None else f"{entry.url[len(base) :].strip('/')}/".lstrip("/")
            yield from _list_folder(entry, above, search, on_skip, check)


def _look_up_or_fail(url: str, check: StopCheck) -> StoreEntry | FoundFile:
    check()
    try:
        return look_up(url, check)
    except InputError as error:
        check()
        return _to_failed(url, error.__cause__ or error)


def _list_folder(
    folder: StoreEntry, above: str, search: Search, on_skip: OnSkip, check: StopCheck
) -> Iterator[FoundFile]:
    start = len(folder.path) + 1

    def is_entered(path: str) -> bool:
        why = search.exclusion.match_path(above + path[start:].rstrip("/"), folder=True)
        if why:
            on_skip(Url(build_url(folder.store, path, folder.url)), why)
        return not why

    try:
        for info in _iter_files(folder, search.recursive, is_entered, check):
            url = build_url(folder.store, info["name"], folder.url)
            why = search.find_skip_reason(info["name"][start:], above)
            if why:
                on_skip(Url(url), why)
            else:
                yield _to_found(url, info)
    except BatchLabelError:
        raise
    except Exception as error:  # stores raise what they like
        check()  # a request that the end of the run has cancelled is no fault of the store
        yield _to_failed(folder.url, error)


def _iter_files(
    folder: StoreEntry, recursive: bool, is_entered: Callable[[str], bool], check: StopCheck
) -> Iterator[dict[str, Any]]:
    pages = find_page_lister(folder.store) or partial(_list_recursively, is_entered)
    for page in pages(folder.store, folder.path, recursive, check):
        check()
        yield from page


def _list_recursively(
    is_entered: Callable[[str], bool],
    store: AbstractFileSystem,
    path: str,
    recursive: bool,
    check: StopCheck = never_stop,
) -> Iterator[list[dict[str, Any]]]:
    """List a store folder by folder, in the order of their names' bytes."""
    folders = [path]
    while folders:
        folder = folders.pop()
        inside = call_with_retries(store, "ls", folder, detail=True, check=check)
        inside = sorted(inside, key=lambda info: os.fsencode(info["name"]), reverse=True)
        yield [info for info in reversed(inside) if info["type"] != "directory"]
        if recursive:
            inner = (info["name"] for info in inside if info["type"] == "directory")
            folders += filter(is_entered, inner)


def _to_found(url: str, info: dict[str, Any]) -> FoundFile:
    time = _read_mtime_ns(info)
    return make_found(url, info.get("size"), time, _read_etag(info, time))


def _read_etag(info: dict[str, Any], time: int | None) -> str | None:
    """Give what a store calls this state of an object.

    A weak ETag may stay the same where bytes change, so that the time counts as well. Servers that
    compress make weak ones of strong ones, which are the same otherwise.
    Source: https://www.rfc-editor.org/rfc/rfc9110#name-weak-versus-strong
    """
    etag = str(info.get("ETag") or info.get("etag") or "")
    opaque = etag.removeprefix("W/").strip('"')
    return f"{opaque} {time}" if opaque and etag.startswith("W/") and time else opaque or None


def _read_mtime_ns(info: dict[str, Any]) -> int | None:
    """Give the time of change in nanoseconds, by whatever name a store gives it."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        time = to_nanoseconds(info.get(name))
        if time is not None:
            return time
    try:  # as web servers write it: RFC 9110, section 8.8.2
        return to_nanoseconds(parsedate_to_datetime(str(info.get("Last-Modified"))))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _to_failed(url: str, error: BaseException) -> FoundFile:
    gone = isinstance(error, FileNotFoundError)
    return make_failed(url, Reason.VANISHED if gone else Reason.UNREADABLE, error_text(error))


def _translate_store_errors(url: str) -> AbstractContextManager[None]:
    remedy = "check the spelling, and that the store can be reached from here"
    return translate_store_errors(f"input {printable_text(url)} can't be found", InputError, remedy)
