"""Files in object stores and on web servers: looked up, listed, and matched by patterns."""

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
from batch.os_errors import classify_read_error
from batch.parallel import thread_map
from batch.path_text import printable_text
from batch.stopping import StopCheck, never_stop
from batch.stores.download import read_object
from batch.stores.page_listers import find_page_lister
from batch.stores.requests import call_store, call_with_retries, find_http_status, retry
from batch.stores.store import build_url, error_text, is_remote, open_store, translate_store_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MAX_LOOKUPS = 16  # requests at the same time
MAX_LIST_BYTES = 128 * 1024**2  # of a list of URLs, which is held in memory
_GONE_STATUSES = (404, 410)  # Not Found, Gone: RFC 9110
_MAX_SHOWN_CHARS = 200  # of a line that is refused


@dataclass(frozen=True)
class StoreEntry:
    """An object or folder in a store.

    Attributes:
        url: its URL.
        store: the store.
        path: its path in the store.
        info: fsspec's description of it, such as "type" and "size".
    """

    url: str
    store: AbstractFileSystem
    path: str
    info: dict[str, Any]

    @property
    def found(self) -> FoundFile:
        """The entry as a found file."""
        return _to_found(self.url, self.info)


def look_up(url: str, check: StopCheck = never_stop) -> StoreEntry:
    """Look up the object or folder that a URL names.

    Raises:
        InputError: it does not exist, or the store does not reply.
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
        # fsspec raises this for every error status of a web server.
        if (
            cause is None
            or "http" not in store.protocol
            or find_http_status(cause) in _GONE_STATUSES
        ):
            raise
        raise cause from None
    return info


def read_url_list(url: str, check: StopCheck = never_stop) -> list[tuple[str, str]]:
    """Read a list of URLs, one per line, absolute or relative to the list's own URL.

    The list is untrusted, so lines that lead to files of this machine are refused.

    Returns:
        For each line the URL and "", or for a refused line the list's URL with the line number, and
        the reason.

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
            detail = f"{shown} is not in an object store or on a web server"
            lines.append((f"{url}#{number}", detail))
    return lines


def _resolve_relative(url: str, name: str) -> str:
    if parse_scheme(url).startswith("http"):
        # "./" keeps the part before a colon from being read as a scheme. The list's URL is used
        # with its secrets, as they may contain the user.
        inside = name if name.startswith(("/", "?", "#")) else f"./{name}"
        return urljoin(restore_secrets(url), inside)
    # `urljoin` supports few schemes, and would cut a name at ? and #.
    return f"{url.rpartition('/')[0]}/{name}"


def expand_url_pattern(pattern: str, hidden: bool, check: StopCheck = never_stop) -> list[str]:
    """Return the URLs that match a pattern, in the order of their bytes.

    If an object has exactly this name, only its URL is returned, as for local files. URLs of web
    servers are never patterns.

    Args:
        pattern: a URL with wildcards.
        hidden: also match names with a leading dot.
        check: ends the wait by an exception.

    Raises:
        InputError: nothing matches, or the store does not reply.
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
        problem = f"no file matches {printable_text(pattern)}"
        raise InputError(problem, "check the pattern and the folder")
    return [build_url(store, name, pattern) for name in sorted(found, key=os.fsencode)]


def list_urls(
    urls: Iterable[str],
    search: Search,
    on_skip: OnSkip,
    check: StopCheck = never_stop,
    base: str | None = None,
    enters: bool = True,
) -> Iterator[FoundFile]:
    """Yield the files that URLs name, and the photos in folders, in order.

    In a folder, a file is a photo by its suffix only: reading first bytes takes a request per file.

    Args:
        urls: files and folders.
        search: how folders are searched.
        on_skip: called with every entry that is skipped and the reason.
        check: ends the wait by an exception.
        base: the URL that exclude patterns are relative to; None for each URL itself.
        enters: list the folders; otherwise they are skipped.
    """
    for entry in thread_map(lambda url: _try_look_up(url, check), urls, MAX_LOOKUPS):
        if isinstance(entry, FoundFile):
            yield entry
        elif entry.info["type"] != "directory":
            yield entry.found
        elif not enters:
            on_skip(Url(entry.url), FOLDER_IN_LIST)
        else:
            above = "" if base is None else f"{entry.url[len(base) :].strip('/')}/".lstrip("/")
            yield from _list_folder(entry, above, search, on_skip, check)


def _try_look_up(url: str, check: StopCheck) -> StoreEntry | FoundFile:
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
        reason = search.exclusion.match_path(above + path[start:].rstrip("/"), folder=True)
        if reason:
            on_skip(Url(build_url(folder.store, path, folder.url)), reason)
        return not reason

    try:
        for info in _iter_files(folder, search.recursive, is_entered, check):
            url = build_url(folder.store, info["name"], folder.url)
            reason = search.find_skip_reason(info["name"][start:], above)
            if reason:
                on_skip(Url(url), reason)
            else:
                yield _to_found(url, info)
    except BatchLabelError:
        raise
    except Exception as error:  # the stores' exceptions share no base class
        check()  # the request may have been cancelled because the run stops
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
    """List a store folder by folder, each in the order of its names' bytes."""
    folders = [path]
    while folders:
        folder = folders.pop()
        entries = call_with_retries(store, "ls", folder, detail=True, check=check)
        entries = sorted(entries, key=lambda info: os.fsencode(info["name"]), reverse=True)
        yield [info for info in reversed(entries) if info["type"] != "directory"]
        if recursive:
            inner = (info["name"] for info in entries if info["type"] == "directory")
            folders += filter(is_entered, inner)


def _to_found(url: str, info: dict[str, Any]) -> FoundFile:
    time = _read_mtime_ns(info)
    return make_found(url, info.get("size"), time, _read_etag(info, time))


def _read_etag(info: dict[str, Any], time: int | None) -> str | None:
    """Return the ETag of an object without quotes; with the time if it is weak.

    A weak ETag may stay the same when bytes change. Servers that compress turn strong ETags into
    weak ones.
    Source: https://www.rfc-editor.org/rfc/rfc9110#name-weak-versus-strong
    """
    etag = str(info.get("ETag") or info.get("etag") or "")
    opaque = etag.removeprefix("W/").strip('"')
    return f"{opaque} {time}" if opaque and etag.startswith("W/") and time else opaque or None


def _read_mtime_ns(info: dict[str, Any]) -> int | None:
    """Return the time of the last change in nanoseconds; each store has its own name for it."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        time = to_nanoseconds(info.get(name))
        if time is not None:
            return time
    try:  # of a web server: RFC 9110, section 8.8.2
        return to_nanoseconds(parsedate_to_datetime(str(info.get("Last-Modified"))))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _to_failed(url: str, error: BaseException) -> FoundFile:
    return make_failed(url, classify_read_error(error), error_text(error))


def _translate_store_errors(url: str) -> AbstractContextManager[None]:
    remedy = "check the spelling, and that the store can be reached from here"
    return translate_store_errors(f"input {printable_text(url)} can't be found", InputError, remedy)
