"""Uploads: reports written to a temporary file, then sent to an object store in one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from batch.errors import OutputError, UsageError
from batch.files.staging import StagingFolder
from batch.location import Url, parse_scheme, split_member
from batch.path_text import path_text
from batch.stopping import StopCheck, never_stop
from batch.stores.requests import REPLY_TIMEOUT_SECONDS, call_with_retries, retry, wait_for_call
from batch.stores.store import open_store, translate_store_errors

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

RETRY_REMEDY = "check the network and the store, then run the same command again"
READ_ONLY_SCHEMES = ("http", "https")
GOOGLE_BLOCK_BYTES = 256 * 1024  # minimum that starts an upload


class Upload:
    """A report to upload to an object store: readers see the complete old or new object.

    Attributes:
        stream: the temporary file that the report is written to.
    """

    def __init__(self, url: Url, check: StopCheck = never_stop) -> None:
        self._url = url
        self._check = check
        self._staging = StagingFolder()
        # Under the report's name, as stores derive the content type from it.
        self.stream: BinaryIO = self._staging.open(url.name)

    def publish(self) -> None:
        """Upload the report, with retries.

        Raises:
            OutputError: the store refuses, or all retries fail.
        """
        self.stream.close()
        with translate_upload_errors(self._url):
            store, path = open_store(self._url.text)
            file = str(self._staging.path / self._url.name)
            call_with_retries(store, "put_file", file, path, check=self._check, seconds=None)
        self._staging.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._staging.close()


@contextmanager
def translate_upload_errors(
    url: Url, noun: str = "report", remedy: str = RETRY_REMEDY
) -> Iterator[None]:
    """Turn any exception of a store that is written to into an ``OutputError``."""
    with translate_store_errors(f"{noun} {path_text(url)} can't be written", OutputError, remedy):
        yield


def check_store(url: Url, check: StopCheck = never_stop) -> None:
    """Check before the run that an object can be written, and leave nothing behind.

    On S3 and Google Cloud Storage an upload is started and aborted: this needs the same rights, and
    readers do not see it. On Azure the container must exist; other stores must reply.

    Raises:
        UsageError: the URL can't be written to, or a package is not installed.
        OutputError: the bucket is missing, or the store refuses or does not reply.
    """
    if parse_scheme(url.text) in READ_ONLY_SCHEMES or split_member(url.text):
        raise UsageError(
            f"report {path_text(url)} can't be written to a web server or into an archive",
            "name a file, or an object such as s3://bucket/results.csv",
        )
    with translate_upload_errors(url):
        store, path = open_store(url.text)
        _try_upload(store, path, check)


def _try_upload(store: AbstractFileSystem, path: str, check: StopCheck) -> None:
    if "gs" in store.protocol:
        retry(
            lambda: wait_for_call(
                lambda: _try_google_upload(store, path), check, REPLY_TIMEOUT_SECONDS
            ),
            check,
        )
        return
    if "abfs" in store.protocol:
        # The uncommitted blocks of an aborted upload would stay.
        call_with_retries(store, "info", path.partition("/")[0], check=check)
        return
    if "s3" not in store.protocol:
        call_with_retries(store, "exists", path, check=check)
        return
    bucket, key, _ = store.split_path(path)
    named = {"Bucket": bucket, "Key": key, "check": check}
    # Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    started = call_with_retries(store, "call_s3", "create_multipart_upload", **named)
    named["UploadId"] = started["UploadId"]
    call_with_retries(store, "call_s3", "abort_multipart_upload", **named)


def _try_google_upload(store: AbstractFileSystem, path: str) -> None:
    # Source: https://cloud.google.com/storage/docs/resumable-uploads
    upload = store.open(path, "wb", autocommit=False, block_size=GOOGLE_BLOCK_BYTES)
    upload.write(bytes(GOOGLE_BLOCK_BYTES))
    with suppress(Exception):  # an upload that is not aborted expires
        upload.discard()
