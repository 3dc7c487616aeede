"""Object stores, opened by URL through fsspec, and what they refuse in the terms of the program."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batch.errors import BatchLabelError, OutputError, UsageError
from batch.location import archive_of, redact, scheme_of, split_member, with_secrets
from batch.path_text import printable
from batch.stores.requests import status_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The extra of this package that brings what a scheme needs.
EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    **dict.fromkeys(("http", "https"), "remote"),
}
# Where fsspec would chain one URL to another, which no URL here means: see ``archive_of``.
_CHAIN = "::"
# The clients' own exceptions for credentials that are not there, which share no base class.
_NO_CREDENTIALS = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
)
_REFUSED = frozenset((401, 403))


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Open the store that a URL names, and give the path in it; nothing is asked of it yet.

    Endpoints and credentials are found where the store's own tools find them: ``AWS_*``
    variables and ``~/.aws``, Google's application default credentials, ``AZURE_STORAGE_*``
    variables, and fsspec's own configuration. A store forgets listings at once, so that it never
    says what was. It raises exceptions of many kinds: see ``store_refusals``. The same URL gives
    the same store again.

    Raises:
        UsageError: the scheme is unknown, the URL is none, or a package is not installed.
        OSError: the URL is that of an archive's member, or a client finds a library of the system
            missing.
    """
    import fsspec

    if split_member(url):
        raise OSError(errno.EINVAL, "a member of an archive is read through its archive alone")
    scheme = scheme_of(url)
    given = with_secrets(url)
    try:
        options = _options(scheme)
        # A name may have what would be a chain: fsspec would take what comes after it for another
        # URL or for a path of this machine.
        start, chain, _ = given.partition(_CHAIN)
        store, path = fsspec.core.url_to_fs(start, use_listings_cache=False, **options)
        path = store._strip_protocol(given) if chain else path
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"batch-label[{extra}]" if extra else f"what fsspec needs for {scheme}://"
        raise UsageError(
            f"{printable(url)} needs a package that is not installed ({said(error)})",
            f"run: pip install '{remedy}'" if extra else f"install {remedy}",
        ) from error
    except ValueError as error:
        azure = ", and that AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING is set"
        remedy = "check its spelling" + (azure if EXTRAS.get(scheme) == "azure" else "")
        raise UsageError(f"{printable(url)} can't be opened ({said(error)})", remedy) from error
    return store, path


def _options(scheme: str) -> dict[str, Any]:
    """Give what a store's client is told, beside what the user has configured for it."""
    match EXTRAS.get(scheme):
        case "s3":
            from batch.stores.http import Session

            config = {"http_session_cls": Session, **_configured("s3", "config_kwargs")}
            # s3fs holds as many parts of 50 MiB in memory as it sends at a time.
            return {"max_concurrency": 2, "config_kwargs": config}
        case "gcs":
            from batch.stores.http import session_options

            session = {**session_options(), **_configured("gs", "session_kwargs")}
            return {"session_kwargs": session}
        case "remote":
            from batch.stores.http import open_session

            return {"get_client": open_session}
    return {}


def _configured(scheme: str, option: str) -> dict[str, Any]:
    """Give an option of a store as the user has configured it for fsspec."""
    from fsspec.config import conf

    options: dict[str, Any] = conf.get(scheme, {}).get(option, {})
    return options


def is_elsewhere(url: str) -> bool:
    """Tell whether a URL leads to a store or web server, itself or as a member of an archive there.

    False of all that might lead to this machine's files or memory, by whatever way.
    """
    return scheme_of(archive_of(url)) in EXTRAS


def url_of(store: AbstractFileSystem, path: str, like: str) -> str:
    """Name by URL what lies in a store, in the manner of a URL that leads into the same store."""
    scheme, _, rest = like.partition("://")
    if EXTRAS.get(scheme, "remote") == "remote":
        url: str = store.unstrip_protocol(path)
        return url
    # Azure's may name the account beside the container: abfs://container@account.host/path.
    authority = rest.partition("/")[0]
    inside = path.partition("/")[2]
    return f"{scheme}://{authority}/{inside}" if "@" in authority else f"{scheme}://{path}"


@contextmanager
def store_refusals(problem: str, kind: type[BatchLabelError], otherwise: str) -> Iterator[None]:
    """Turn what a store raises while the block runs into one exception of the program.

    ``problem`` is such as "report s3://bucket/r.csv can't be written", ``otherwise`` the remedy
    for all but a store that asks for other credentials or that is not there.

    Raises:
        BatchLabelError: of this ``kind``, for whatever was raised but the program's own.
    """
    try:
        yield
    except BatchLabelError:
        raise
    except Exception as error:  # every client has its own, and they have no base in common
        if isinstance(error, FileNotFoundError) and kind is OutputError:
            otherwise = "check the spelling of the bucket, and create it first"
        raise kind(f"{problem} ({said(error)})", _remedy(error, otherwise)) from error


def said(error: BaseException) -> str:
    """Give the first line of what an exception says, or its name where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileNotFoundError) and "/" in text:  # fsspec mostly says the path alone
        text = os.strerror(errno.ENOENT)
    first, *_ = text.strip().splitlines() or [type(error).__name__]
    return printable(redact(first))


def _remedy(error: Exception, otherwise: str) -> str:
    if type(error).__name__ in _NO_CREDENTIALS:
        return "set the store's credentials, such as AWS_ACCESS_KEY_ID or a profile in ~/.aws"
    if isinstance(error, PermissionError) or status_of(error) in _REFUSED:
        return "check the credentials and what they allow"
    return otherwise
