"""A dataset in an object store: written to a temporary folder, and uploaded when complete."""

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
    is_dataset_name,
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
    """Check before the run that a dataset can be published, and leave nothing behind.

    Raises:
        UsageError: the URL is a whole bucket, or can't be written to.
        OutputError: the bucket is missing, the store denies access or does not answer, or the
            prefix holds objects that are not part of a dataset of batch-label.
    """
    success = f"{url.text.rstrip('/')}/{SUCCESS_FILE}"
    check_store(Url(success), check)
    with translate_upload_errors(url):
        store, prefix = open_store(url.text.rstrip("/"))
        if "/" not in prefix.strip("/"):
            raise UsageError(f"report {path_text(url)} is a whole bucket", "name a folder in it")
        _list_own_objects(url, store, prefix, check)


class StoredDataset:
    """Objects under a prefix, uploaded from a temporary folder.

    Attributes:
        root: the temporary folder.
    """

    def __init__(self, url: Url, check: StopCheck = never_stop) -> None:
        self._url = url
        self._check = check
        self._staging = StagingFolder()
        self.root = self._staging.path

    def open(self, name: str) -> BinaryIO:
        """Create a file in the temporary folder."""
        return self._staging.open(name)

    def publish(self) -> None:
        """Upload the files that are not there yet, then ``_SUCCESS``; then remove the old files.

        Raises:
            OutputError: the store denies access, or can't be reached for long.
            PublishedOnly: the same, after ``_SUCCESS`` was uploaded.
        """
        content = (self.root / SUCCESS_FILE).read_bytes()
        files = parse_success(content) or ()
        with translate_upload_errors(self._url):
            store, prefix = open_store(self._url.text.rstrip("/"))
            before = _list_own_objects(self._url, store, prefix, self._check)
            for file in files:
                if before.get(file.path) != file.bytes:
                    self._upload(store, prefix, file)
            call_with_retries(
                store,
                "pipe_file",
                f"{prefix}/{SUCCESS_FILE}",
                content,
                check=self._check,
                seconds=None,
            )
        # ``_list_own_objects`` has proven that they are part of an earlier dataset.
        old = before.keys() - {SUCCESS_FILE} - {file.path for file in files}
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
        except StopRequested as stop:
            raise PublishedOnly(f"{problem} (the run was stopped)", RETRY_REMEDY) from stop

    def _upload(self, store: AbstractFileSystem, prefix: str, file: DatasetFile) -> None:
        source, target = str(self.root / file.path), f"{prefix}/{file.path}"
        call_with_retries(store, "put_file", source, target, check=self._check, seconds=None)


def read_stored_success(url: Url, display_name: str) -> bytes | None:
    """Read ``_SUCCESS``; None if it is missing, and no bytes if it is too long.

    Raises:
        ReportError: the store denies access or does not answer.
        UsageError: a package that the store needs is not installed.
    """
    with _translate_store_errors(display_name):
        store, prefix = open_store(url.text.rstrip("/"))
        if not call_with_retries(store, "exists", f"{prefix}/{SUCCESS_FILE}"):
            return None
        return read_whole_object(f"{url.text.rstrip('/')}/{SUCCESS_FILE}", MAX_SUCCESS_BYTES) or b""


def read_stored_sizes(url: Url, display_name: str) -> dict[str, int]:
    """Return the sizes in bytes of all objects under a prefix, by their paths below it.

    Raises:
        ReportError: the store denies access or does not answer.
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
    """Return the names and sizes in bytes of the objects under a prefix.

    An object belongs to batch-label if a ``_SUCCESS`` that batch-label wrote lists it, or if its
    name has the digest of its bytes, as after an interrupted upload.

    Raises:
        OutputError: another object is under the prefix.
    """
    found: dict[str, int] = {}
    for name, size in _list_objects(store, prefix, check):
        inside = name[len(prefix) + 1 :]
        if inside and not is_dataset_name(inside):
            # Stop at the first foreign object: this may be a large bucket of photos.
            raise foreign_file_error(path_text(url), inside)
        if inside:
            found[inside] = size
    listed: set[str] = set()
    if SUCCESS_FILE in found:
        success = read_whole_object(
            f"{url.text.rstrip('/')}/{SUCCESS_FILE}", MAX_SUCCESS_BYTES, check
        )
        files = parse_success(success) if success is not None else None
        if files is None:
            raise foreign_file_error(path_text(url), SUCCESS_FILE)
        listed = {SUCCESS_FILE, *(file.path for file in files)}
    for name in sorted(found.keys() - listed):
        if not _matches_digest(store, prefix, name):
            raise foreign_file_error(path_text(url), name)
    return found


def _matches_digest(store: AbstractFileSystem, prefix: str, name: str) -> bool:
    """Read an object, and tell whether its name has the digest of its bytes."""

    def read() -> str:
        with store.open(f"{prefix}/{name}", "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return retry(read).startswith(parse_digest(name) or "-")


def _list_objects(
    store: AbstractFileSystem, prefix: str, check: StopCheck = never_stop
) -> Iterator[tuple[str, int]]:
    list_pages = find_page_lister(store)
    if list_pages is None:
        found = call_with_retries(store, "find", prefix, detail=True, check=check, seconds=None)
        yield from ((name, info["size"]) for name, info in found.items())
        return
    # Page by page, to stop early: this may be a large bucket of photos.
    for page in list_pages(store, prefix, True, check):
        yield from ((info["name"], info["size"]) for info in page)
