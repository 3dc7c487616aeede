"""Listing of buckets page by page, so that only one page of names is in memory.

fsspec's own listings hold all names below a prefix in memory. So S3, Google Cloud Storage and Azure
are listed here through their clients. Every other store is listed by fsspec, folder by folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from batch.stopping import StopCheck, never_stop
from batch.stores.requests import call_with_retries, retry, run_coroutine

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# An object as fsspec describes it: at least its "name" (with the bucket) and "size" in bytes.
Info: TypeAlias = dict[str, Any]


class PageLister(Protocol):
    """A function that lists the objects in a folder of a store, or below it if ``recursive``."""

    def __call__(
        self, store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
    ) -> Iterator[list[Info]]: ...


OBJECTS_PER_PAGE = 1000  # the most that S3 and Google allow
# Google sends all metadata of each object unless fields are named.
_GOOGLE_FIELDS = "items(name,size,updated,etag),nextPageToken"


def find_page_lister(store: AbstractFileSystem) -> PageLister | None:
    """Return the function that lists a store page by page; None if there is none for it.

    Objects come in the store's order; S3 and Google sort by the bytes of the keys. Objects that
    stand for a folder are skipped, such as a key that ends in "/".
    """
    for scheme, pages in _PAGE_LISTERS.items():
        if scheme in store.protocol:
            return pages
    return None


def _list_s3(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a bucket on S3.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    bucket, prefix = _split_bucket(store, path)
    request: Info = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": OBJECTS_PER_PAGE}
    if not recursive:
        request["Delimiter"] = "/"
    while True:
        page = call_with_retries(store, "call_s3", "list_objects_v2", check=check, **request)
        yield [
            {"name": f"{bucket}/{item['Key']}", "size": item["Size"], **item}
            for item in page.get("Contents", ())
            if not item["Key"].endswith("/")
        ]
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _list_google(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a bucket on Google Cloud Storage, where a page may be empty and not the last.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list
    """
    bucket, prefix = _split_bucket(store, path)
    request: Info = {"maxResults": OBJECTS_PER_PAGE, "fields": _GOOGLE_FIELDS}
    if prefix:
        request["prefix"] = prefix
    if not recursive:
        request["delimiter"] = "/"
    while True:
        page = call_with_retries(
            store, "call", "GET", "b/{}/o", bucket, json_out=True, check=check, **request
        )
        yield [
            {
                "name": f"{bucket}/{item['name']}",
                "size": int(item["size"]),
                "updated": datetime.fromisoformat(item["updated"]),
                "etag": item.get("etag"),
            }
            for item in page.get("items", ())
            if not item["name"].endswith("/")
        ]
        if not page.get("nextPageToken"):
            return
        request["pageToken"] = page["nextPageToken"]


def _list_azure(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a container on Azure.

    Source: https://learn.microsoft.com/rest/api/storageservices/list-blobs
    """
    container, prefix = _split_bucket(store, path)
    token: str | None = None

    async def request_page() -> tuple[list[Any], str | None]:
        async with store.service_client.get_container_client(container) as client:
            listed = client.list_blobs if recursive else client.walk_blobs
            # In accounts with a hierarchical namespace only the metadata mark a folder.
            options = {"include": ["metadata"], "results_per_page": OBJECTS_PER_PAGE}
            pages = listed(name_starts_with=prefix, **options).by_page(token)
            return [blob async for blob in await anext(pages)], pages.continuation_token

    while True:
        page, token = retry(lambda: run_coroutine(store, request_page(), check), check)
        yield [
            {
                "name": f"{container}/{blob.name}",
                "size": blob.size,
                "last_modified": blob.last_modified,
                "etag": blob.etag,
            }
            for blob in page
            if not _is_azure_folder(blob)
        ]
        if not token:
            return


def _is_azure_folder(blob: Any) -> bool:
    if blob.name.endswith("/"):
        return True
    metadata = {name.lower(): value for name, value in (blob.metadata or {}).items()}
    return "true" in (metadata.get("hdi_isfolder"), metadata.get("is_directory"))


def _split_bucket(store: AbstractFileSystem, path: str) -> tuple[str, str]:
    """Split the path of a folder into the bucket and the prefix of all keys in it."""
    bucket, key, _ = store.split_path(path)
    return bucket, f"{key}/" if key else ""


_PAGE_LISTERS = {"s3": _list_s3, "gs": _list_google, "abfs": _list_azure}
