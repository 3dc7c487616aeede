"""A dataset in an object store: made on this machine, and uploaded once it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import PublishedOnly, ReportError, UsageError
from batch.files.staging import StagingFolder
from batch.location import Url
from batch.path_text import path_text
from batch.reports.dataset import (
    MAX_SUCCESS_BYTES,
    SUCCESS_FILE,
    DatasetFile,
    foreign_file_error,
    is_dataset_path,
    parse_digest,
    parse_success,
)
from batch.stopping import StopCheck, StopRequested, never_stop
from batch.stores.download import read_whole_object
from batch.stores.page_listers import find_page_lister
from batch.stores.requests import call_with_retries, retry
from batch.stores.store import open_store, translate_store_errors
from batch.stores.upload import RETRY_REMEDY, check_store, translate_upload_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def check_stored_dataset(url: Url, check: StopCheck = never_stop) -> None:
    """Find out before the work whether a dataset could be published, and leave nothing behind.

    Raises:
        UsageError: the URL is a whole bucket, or can't be written to.
        OutputError: the bucket is missing, the store refuses or does not answer, or there are
            objects that are no dataset of this program's.
    """
    success = f"{url.text.rstrip('/')}/{SUCCESS_FILE}"
    check_store(Url(success), check)
    with translate_upload_errors(url):
        store, prefix = open_store(url.text.rstrip("/"))
        if "/" not in prefix.strip("/"):
            raise UsageError(
                f"report {path_text(url)} would take a whole bucket", "name a folder in it"
            )
        _list_own_objects(url, store, prefix, check)


class StoredDataset:
    """Objects under a prefix: the new ones first, then ``_SUCCESS``, then the old ones go."""

    def __init__(self, url: Url, check: StopCheck = never_stop) -> None:
        self._url = url
        self._check = check
        self._staging = StagingFolder()
        self.root = self._staging.path

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the temporary folder."""
        return self._staging.open(name)

    def publish(self) -> None:
        """Upload the files that are not there yet, then the list of them, and remove the others.

        Raises:
            OutputError: the store refuses, or can't be reached for long.
            PublishedOnly: the same, once the new files and their list are there.
        """
        content = (self.root / SUCCESS_FILE).read_bytes()
        contents = parse_success(content)
        files = contents.files if contents else ()
        with translate_upload_errors(self._url):
            store, prefix = open_store(self._url.text.rstrip("/"))
            before = _list_own_objects(self._url, store, prefix, self._check)
            for part in files:
                if before.get(part.path) != part.bytes:
                    self._upload(store, prefix, part)
            call_with_retries(
                store,
                "pipe_file",
                f"{prefix}/{SUCCESS_FILE}",
                content,
                check=self._check,
                seconds=None,
            )
        # All of them were proven to be an earlier dataset's.
        old = before.keys() - {SUCCESS_FILE} - {part.path for part in files}
        self._remove(store, [f"{prefix}/{name}" for name in sorted(old)])
        self._staging.close()

    def discard(self) -> None:
        """Remove the temporary folder."""
        self._staging.close()

    def _remove(self, store: AbstractFileSystem, paths: list[str]) -> None:
        problem = f"report {path_text(self._url)} is published, but not all old files are removed"
        try:
            with translate_store_errors(problem, PublishedOnly, RETRY_REMEDY):
                for path in paths:
                    with suppress(FileNotFoundError):
                        call_with_retries(store, "rm_file", path, check=self._check)
        except StopRequested as request_to_end:
            raise PublishedOnly(
                f"{problem} (the run was stopped)", RETRY_REMEDY
            ) from request_to_end

    def _upload(self, store: AbstractFileSystem, prefix: str, part: DatasetFile) -> None:
        file, path = str(self.root / part.path), f"{prefix}/{part.path}"
        call_with_retries(store, "put_file", file, path, check=self._check, seconds=None)


def read_stored_success(url: Url, display_name: str) -> bytes | None:
    """Read the list of a dataset's objects; None where there is none.

    Raises:
        ReportError: the store refuses, or does not answer.
        UsageError: a package that the store needs is not installed.
    """
    with _translate_store_errors(display_name):
        store, prefix = open_store(url.text.rstrip("/"))
        if not call_with_retries(store, "exists", f"{prefix}/{SUCCESS_FILE}"):
            return None
        # One that is too long is no list of files, and neither is an empty one.
        return read_whole_object(f"{url.text.rstrip('/')}/{SUCCESS_FILE}", MAX_SUCCESS_BYTES) or b""


def read_stored_sizes(url: Url, display_name: str) -> dict[str, int]:
    """Give the sizes (bytes) of all objects under a prefix by their names in it.

    Raises:
        ReportError: the store refuses, or does not answer.
    """
    with _translate_store_errors(display_name):
        store, prefix = open_store(url.text.rstrip("/"))
        return {name[len(prefix) + 1 :]: size for name, size in _list_objects(store, prefix)}


def _translate_store_errors(display_name: str) -> AbstractContextManager[None]:
    return translate_store_errors(
        f"{display_name} can't be read", ReportError, "check the network and the store"
    )


def _list_own_objects(
    url: Url, store: AbstractFileSystem, prefix: str, check: StopCheck
) -> dict[str, int]:
    """Give the names and sizes (bytes) of the objects under a prefix, all of them a dataset's.

    An object is this program's if a list of its own names it, or if its name has the digest of its
    bytes, as that of one has which was uploaded by a publication that was cut off.

    Raises:
        OutputError: there is another.
    """
    found: dict[str, int] = {}
    for name, size in _list_objects(store, prefix, check):
        inside = name[len(prefix) + 1 :]
        if inside and not is_dataset_path(inside):
            raise foreign_file_error(
                path_text(url), inside
            )  # at once: it may be a bucket of photos
        if inside:
            found[inside] = size
    listed: frozenset[str] = frozenset()
    if SUCCESS_FILE in found:
        success = read_whole_object(
            f"{url.text.rstrip('/')}/{SUCCESS_FILE}", MAX_SUCCESS_BYTES, check
        )
        contents = parse_success(success) if success is not None else None
        if contents is None:
            raise foreign_file_error(path_text(url), SUCCESS_FILE)
        listed = contents.paths
    for name in sorted(found.keys() - listed):
        if not _matches_digest(store, prefix, name):
            raise foreign_file_error(path_text(url), name)
    return found


def _matches_digest(store: AbstractFileSystem, prefix: str, name: str) -> bool:
    """Tell whether an object's name has the digest of its bytes, which are read."""

    def read() -> str:
        with store.open(f"{prefix}/{name}", "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return retry(read).startswith(parse_digest(name) or "-")


def _list_objects(
    store: AbstractFileSystem, prefix: str, check: StopCheck = never_stop
) -> Iterator[tuple[str, int]]:
    listed = find_page_lister(store)
    if listed is None:
        found = call_with_retries(store, "find", prefix, detail=True, check=check, seconds=None)
        yield from ((name, info["size"]) for name, info in found.items())
        return
    # Page by page, since what is there may be a bucket of photos.
    for page in listed(store, prefix, True, check):
        yield from ((info["name"], info["size"]) for info in page)
