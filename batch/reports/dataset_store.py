"""A dataset in an object store: made on this machine, and uploaded once it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import UsageError
from batch.location import Url
from batch.names import path_text
from batch.reading.readers import ReportError
from batch.reports.dataset_files import SUCCESS, Part, contents_of, is_own, refusal
from batch.stores.bucket import pages_of
from batch.stores.download import MAX_OBJECT_BYTES, read_object
from batch.stores.retrying import request
from batch.stores.staging import Staging
from batch.stores.store import open_store, store_refusals
from batch.stores.upload import check_store, uploading
from batch.stores.waiting import Check, never_stop

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def check_stored_dataset(url: Url, check: Check = never_stop) -> None:
    """Find out before the work whether a dataset could be published, and leave nothing behind.

    Raises:
        UsageError: the URL is a whole bucket, or can't be written to.
        OutputError: the bucket is missing, the store refuses or does not answer, or there are
            objects that are no dataset of this program's.
    """
    success = f"{url.text.rstrip('/')}/{SUCCESS}"
    check_store(Url(success), check)
    with uploading(url):
        store, prefix = open_store(url.text.rstrip("/"))
        if "/" not in prefix.strip("/"):
            raise UsageError(
                f"report {path_text(url)} would take a whole bucket", "name a folder in it"
            )
        for _ in _own_names(url, store, prefix, check):
            pass
        if request(store, "exists", f"{prefix}/{SUCCESS}", check=check):
            content = read_object(success, MAX_OBJECT_BYTES, check)
            if contents_of(content) is None:
                raise refusal(path_text(url), SUCCESS)


class StoredDataset:
    """Objects under a prefix: the new ones first, then ``_SUCCESS``, then the old ones go."""

    def __init__(self, url: Url, check: Check = never_stop) -> None:
        self._url = url
        self._check = check
        self._staging = Staging()
        self.root = self._staging.path

    def open(self, name: str) -> BinaryIO:
        """Make a file by its path in the temporary folder."""
        return self._staging.open(name)

    def publish(self) -> None:
        """Upload the files that are not there yet, then the list of them, and remove the others.

        Raises:
            OutputError: the store refuses, or can't be reached for long.
        """
        content = (self.root / SUCCESS).read_bytes()
        contents = contents_of(content)
        files = contents.files if contents else ()
        with uploading(self._url):
            store, prefix = open_store(self._url.text.rstrip("/"))
            before = dict(_own_names(self._url, store, prefix, self._check))
            for part in files:
                if before.get(part.path) != part.bytes:
                    self._upload(store, prefix, part)
            request(
                store, "pipe_file", f"{prefix}/{SUCCESS}", content, check=self._check, seconds=None
            )
            for name in before.keys() - {SUCCESS} - {part.path for part in files}:
                with suppress(FileNotFoundError):
                    request(store, "rm_file", f"{prefix}/{name}", check=self._check)
        self._staging.close()

    def discard(self) -> None:
        """Remove the temporary folder."""
        self._staging.close()

    def _upload(self, store: AbstractFileSystem, prefix: str, part: Part) -> None:
        file, path = str(self.root / part.path), f"{prefix}/{part.path}"
        request(store, "put_file", file, path, check=self._check, seconds=None)


def read_stored_success(url: Url, called: str) -> bytes | None:
    """Read the list of a dataset's objects; None where there is none.

    Raises:
        ReportError: the store refuses, or does not answer.
        UsageError: a package that the store needs is not installed.
    """
    with _reading(called):
        store, prefix = open_store(url.text.rstrip("/"))
        if not request(store, "exists", f"{prefix}/{SUCCESS}"):
            return None
        return read_object(f"{url.text.rstrip('/')}/{SUCCESS}", MAX_OBJECT_BYTES)


def stored_sizes(url: Url, called: str) -> dict[str, int]:
    """Give the sizes (bytes) of all objects under a prefix by their names in it.

    Raises:
        ReportError: the store refuses, or does not answer.
    """
    with _reading(called):
        store, prefix = open_store(url.text.rstrip("/"))
        return {name[len(prefix) + 1 :]: size for name, size in _objects(store, prefix)}


def _reading(called: str) -> AbstractContextManager[None]:
    return store_refusals(
        f"{called} can't be read", ReportError, "look after the network and the store"
    )


def _own_names(
    url: Url, store: AbstractFileSystem, prefix: str, check: Check
) -> Iterator[tuple[str, int]]:
    """Give the names and sizes (bytes) of the objects under a prefix, all of them a dataset's.

    Raises:
        OutputError: there is another.
    """
    for name, size in _objects(store, prefix, check):
        inside = name[len(prefix) + 1 :]
        if inside and not is_own(inside):
            raise refusal(path_text(url), inside)
        if inside:
            yield inside, size


def _objects(
    store: AbstractFileSystem, prefix: str, check: Check = never_stop
) -> Iterator[tuple[str, int]]:
    listed = pages_of(store)
    if listed is None:
        found = request(store, "find", prefix, detail=True, check=check, seconds=None)
        yield from ((name, info["size"]) for name, info in found.items())
        return
    # Page by page, since what is there may be a bucket of photos.
    for page in listed(store, prefix, True, check):
        yield from ((info["name"], info["size"]) for info in page)
