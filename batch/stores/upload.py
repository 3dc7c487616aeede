"""Reports in object stores: made on this machine, and uploaded in one step once they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import OutputError, UsageError
from batch.files.staging import Staging
from batch.location import Url, scheme_of, split_member
from batch.path_text import path_text
from batch.stopping import Check, never_stop
from batch.stores.requests import ANSWER_TIMEOUT, attend, request, retried
from batch.stores.store import open_store, store_refusals

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

LATER = "look after the network and the store, then run the same command again"
READ_ONLY = ("http", "https")
GOOGLE_BLOCK = 256 * 1024  # bytes


class Upload:
    """A report that becomes an object: readers get the earlier one or the new one, never a part.

    Its rows go into a temporary file. An upload that fails is tried again (see ``retrying``),
    and ``check`` may end it.
    """

    def __init__(self, url: Url, check: Check = never_stop) -> None:
        self._url = url
        self._check = check
        self._staging = Staging()
        # By the report's name, for the type of its content is told from that.
        self.stream: BinaryIO = self._staging.open(url.name)

    def publish(self) -> None:
        """Upload the whole report.

        Raises:
            OutputError: the store refuses, or can't be reached for long.
        """
        self.stream.close()
        with uploading(self._url):
            store, path = open_store(self._url.text)
            file = str(self._staging.path / self._url.name)
            request(store, "put_file", file, path, check=self._check, seconds=None)
        self._staging.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._staging.close()


@contextmanager
def uploading(url: Url, noun: str = "report", otherwise: str = LATER) -> Iterator[None]:
    """Turn what a store raises while it is written to into an ``OutputError``."""
    with store_refusals(f"{noun} {path_text(url)} can't be written", OutputError, otherwise):
        yield


def check_store(url: Url, check: Check = never_stop) -> None:
    """Find out before the work whether an object could be written, and leave nothing behind.

    Of S3 and Google's store an upload is begun and aborted, which needs the same rights and
    shows nowhere. Of Azure's the container must be there, and others must answer.

    Raises:
        UsageError: no store takes an object of this URL, or a package is not installed.
        OutputError: the bucket is missing, or the store refuses or does not answer.
    """
    if scheme_of(url.text) in READ_ONLY or split_member(url.text):
        raise UsageError(
            f"report {path_text(url)} can't be written to a web server or into an archive",
            "name a file, or an object such as s3://bucket/results.csv",
        )
    with uploading(url):
        store, path = open_store(url.text)
        _try(store, path, check)


def _try(store: AbstractFileSystem, path: str, check: Check) -> None:
    if "gs" in store.protocol:
        retried(lambda: attend(lambda: _try_google(store, path), check, ANSWER_TIMEOUT), check)
        return
    if "abfs" in store.protocol:
        # Blocks of a blob that are not committed would stay.
        request(store, "info", path.partition("/")[0], check=check)
        return
    if "s3" not in store.protocol:
        request(store, "exists", path, check=check)
        return
    bucket, key, _ = store.split_path(path)
    named = {"Bucket": bucket, "Key": key, "check": check}
    # Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    begun = request(store, "call_s3", "create_multipart_upload", **named)
    named["UploadId"] = begun["UploadId"]
    request(store, "call_s3", "abort_multipart_upload", **named)


def _try_google(store: AbstractFileSystem, path: str) -> None:
    # Source: https://cloud.google.com/storage/docs/resumable-uploads
    begun = store.open(path, "wb", autocommit=False, block_size=GOOGLE_BLOCK)
    begun.write(bytes(GOOGLE_BLOCK))  # an upload is not begun with less
    with suppress(Exception):  # one that is not aborted ends by itself
        begun.discard()
