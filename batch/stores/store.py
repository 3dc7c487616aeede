"""Object stores and web servers: opened by URL through fsspec, with errors and URLs translated."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batch.errors import BatchLabelError, OutputError, UsageError
from batch.location import parse_scheme, redact, restore_secrets, split_member, strip_member
from batch.path_text import printable_text
from batch.stores.requests import find_http_status

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# The extra of this package that installs the client of a scheme.
EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    **dict.fromkeys(("http", "https"), "remote"),
}
# fsspec reads it as a chain of URLs; here it is part of a name: see ``strip_member``.
_CHAIN = "::"
# The clients' exceptions for missing credentials, which share no base class.
_NO_CREDENTIALS_ERRORS = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
)
_DENIED_STATUSES = frozenset((401, 403))


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the store that a URL names and the path in it, without a request.

    Endpoints and credentials come from where the store's own tools look for them: ``AWS_*``
    variables and ``~/.aws``, Google's application default credentials, ``AZURE_STORAGE_*``
    variables, and fsspec's configuration. Listings are not cached. The same URL returns the same
    store again. Its exceptions are of many types: see ``translate_store_errors``.

    Raises:
        UsageError: the scheme is unknown, the URL is invalid, or a package is not installed.
        OSError: the URL is that of a member of an archive, or a system library is missing.
    """
    import fsspec

    if split_member(url):
        raise OSError(errno.EINVAL, "a member of an archive can only be read through its archive")
    scheme = parse_scheme(url)
    given = restore_secrets(url)
    try:
        options = _client_options(scheme)
        # fsspec would open what follows "::" in a name as another URL or as a local path.
        start, chain, _ = given.partition(_CHAIN)
        store, path = fsspec.core.url_to_fs(start, use_listings_cache=False, **options)
        path = store._strip_protocol(given) if chain else path
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"batch-label[{extra}]" if extra else f"the fsspec client for {scheme}://"
        raise UsageError(
            f"{printable_text(url)} needs a package that is not installed ({error_text(error)})",
            f"run: pip install '{remedy}'" if extra else f"install {remedy}",
        ) from error
    except ValueError as error:
        azure = ", and that AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING is set"
        remedy = "check its spelling" + (azure if EXTRAS.get(scheme) == "azure" else "")
        raise UsageError(
            f"{printable_text(url)} can't be opened ({error_text(error)})", remedy
        ) from error
    return store, path


def _client_options(scheme: str) -> dict[str, Any]:
    """Return options for a store's client, to which the user's fsspec configuration is added."""
    match EXTRAS.get(scheme):
        case "s3":
            from batch.stores.http import BoundedSession

            config = {
                "http_session_cls": BoundedSession,
                **_read_user_option("s3", "config_kwargs"),
            }
            # s3fs holds this many parts of 50 MiB in memory.
            return {"max_concurrency": 2, "config_kwargs": config}
        case "gcs":
            from batch.stores.http import build_session_options

            session = {**build_session_options(), **_read_user_option("gs", "session_kwargs")}
            return {"session_kwargs": session}
        case "remote":
            from batch.stores.http import open_session

            return {"get_client": open_session}
    return {}


def _read_user_option(scheme: str, option: str) -> dict[str, Any]:
    """Return an option of a store from the user's fsspec configuration."""
    from fsspec.config import conf

    options: dict[str, Any] = conf.get(scheme, {}).get(option, {})
    return options


def is_remote(url: str) -> bool:
    """Return whether a URL is on an object store or web server, or in an archive there.

    False for every URL that could lead to files or memory of this machine.
    """
    return parse_scheme(strip_member(url)) in EXTRAS


def build_url(store: AbstractFileSystem, path: str, like: str) -> str:
    """Return the URL of a path in a store, in the form of ``like``, a URL of the same store."""
    scheme, _, rest = like.partition("://")
    if EXTRAS.get(scheme, "remote") == "remote":
        url: str = store.unstrip_protocol(path)
        return url
    # Azure's URLs may contain the account: abfs://container@account.host/path.
    authority = rest.partition("/")[0]
    inside = path.partition("/")[2]
    return f"{scheme}://{authority}/{inside}" if "@" in authority else f"{scheme}://{path}"


@contextmanager
def translate_store_errors(
    problem: str, error_type: type[BatchLabelError], remedy: str
) -> Iterator[None]:
    """Turn any exception of a store into one exception of this program.

    Args:
        problem: the start of the message, such as "report s3://bucket/r.csv can't be written".
        error_type: the class of the exception.
        remedy: the remedy, unless credentials or a bucket are missing.

    Raises:
        BatchLabelError: an ``error_type`` for every exception that is not a BatchLabelError.
    """
    try:
        yield
    except BatchLabelError:
        raise
    except Exception as error:  # the clients' exceptions share no base class
        if isinstance(error, FileNotFoundError) and error_type is OutputError:
            remedy = "check the spelling of the bucket, and create it first"
        message = f"{problem} ({error_text(error)})"
        raise error_type(message, _find_remedy(error, remedy)) from error


def error_text(error: BaseException) -> str:
    """Return the first line of an exception's message without secrets; if empty, its class name."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if (
        isinstance(error, FileNotFoundError) and "/" in text
    ):  # often fsspec's message is the path only
        text = os.strerror(errno.ENOENT)
    first, *_ = text.strip().splitlines() or [type(error).__name__]
    return printable_text(redact(first))


def _find_remedy(error: Exception, default: str) -> str:
    if type(error).__name__ in _NO_CREDENTIALS_ERRORS:
        return "set the store's credentials, such as AWS_ACCESS_KEY_ID or a profile in ~/.aws"
    if isinstance(error, PermissionError) or find_http_status(error) in _DENIED_STATUSES:
        return "check the credentials and what they allow"
    return default
