"""How buckets are listed: page by page, so that never more names are held than a page has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from batch.stopping import StopCheck, never_stop
from batch.stores.requests import call_with_retries, retry, run_coroutine

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# What a store says of an object: at least its "name" (with the bucket's) and its "size" in bytes.
Info: TypeAlias = dict[str, Any]


class PageLister(Protocol):
    """Lists what lies under a path, with what is in folders there if ``recursive``."""

    def __call__(
        self, store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
    ) -> Iterator[list[Info]]: ...


OBJECTS_PER_PAGE = 1000  # S3 and Google give no more
# Google tells all that it knows of an object unless it is told what is wanted.
_GOOGLE_FIELDS = "items(name,size,updated,etag),nextPageToken"


def find_page_lister(store: AbstractFileSystem) -> PageLister | None:
    """Give what lists a store page by page, None where nothing does.

    The order is the store's: of S3 and Google that of the keys' bytes. What only stands for a
    folder is left out, such as a key that ends in "/".
    """
    for scheme, pages in _PAGE_LISTERS.items():
        if scheme in store.protocol:
            return pages
    return None


def _list_s3(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a bucket of S3.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """
    bucket, prefix = _split_bucket(store, path)
    question: Info = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": OBJECTS_PER_PAGE}
    if not recursive:
        question["Delimiter"] = "/"
    while True:
        page = call_with_retries(store, "call_s3", "list_objects_v2", check=check, **question)
        yield [
            {"name": f"{bucket}/{found['Key']}", "size": found["Size"], **found}
            for found in page.get("Contents", ())
            if not found["Key"].endswith("/")
        ]
        if not page.get("IsTruncated"):
            return
        question["ContinuationToken"] = page["NextContinuationToken"]


def _list_google(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a bucket of Google's, of which a page may be empty and yet not the last.

    Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list
    """
    bucket, prefix = _split_bucket(store, path)
    question: Info = {"maxResults": OBJECTS_PER_PAGE, "fields": _GOOGLE_FIELDS}
    if prefix:
        question["prefix"] = prefix
    if not recursive:
        question["delimiter"] = "/"
    while True:
        page = call_with_retries(
            store, "call", "GET", "b/{}/o", bucket, json_out=True, check=check, **question
        )
        yield [
            {
                "name": f"{bucket}/{found['name']}",
                "size": int(found["size"]),
                "updated": datetime.fromisoformat(found["updated"]),
                "etag": found.get("etag"),
            }
            for found in page.get("items", ())
            if not found["name"].endswith("/")
        ]
        if not page.get("nextPageToken"):
            return
        question["pageToken"] = page["nextPageToken"]


def _list_azure(
    store: AbstractFileSystem, path: str, recursive: bool, check: StopCheck = never_stop
) -> Iterator[list[Info]]:
    """List a container of Azure's.

    Source: https://learn.microsoft.com/rest/api/storageservices/list-blobs
    """
    container, prefix = _split_bucket(store, path)
    following: str | None = None

    async def ask() -> tuple[list[Any], str | None]:
        async with store.service_client.get_container_client(container) as client:
            listed = client.list_blobs if recursive else client.walk_blobs
            # Only the metadata tell folders of accounts that have a hierarchical namespace.
            question = {"include": ["metadata"], "results_per_page": OBJECTS_PER_PAGE}
            pages = listed(name_starts_with=prefix, **question).by_page(following)
            return [found async for found in await anext(pages)], pages.continuation_token

    while True:
        page, following = retry(lambda: run_coroutine(store, ask(), check), check)
        yield [
            {
                "name": f"{container}/{found.name}",
                "size": found.size,
                "last_modified": found.last_modified,
                "etag": found.etag,
            }
            for found in page
            if not _is_azure_folder(found)
        ]
        if not following:
            return


def _is_azure_folder(found: Any) -> bool:
    if found.name.endswith("/"):
        return True
    metadata = {name.lower(): value for name, value in (found.metadata or {}).items()}
    return "true" in (metadata.get("hdi_isfolder"), metadata.get("is_directory"))


def _split_bucket(store: AbstractFileSystem, path: str) -> tuple[str, str]:
    """Split a folder's path into the bucket, and what the keys of all that is in it begin with."""
    bucket, key, _ = store.split_path(path)
    return bucket, f"{key}/" if key else ""


_PAGE_LISTERS = {"s3": _list_s3, "gs": _list_google, "abfs": _list_azure}
