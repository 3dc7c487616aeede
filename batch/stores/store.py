"""Object stores, opened by URL through fsspec, and what they refuse in the terms of the program."""

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

# The extra of this package that brings what a scheme needs.
EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    **dict.fromkeys(("http", "https"), "remote"),
}
# Where fsspec would chain one URL to another, which no URL here means: see ``strip_member``.
_CHAIN = "::"
# The clients' own exceptions for credentials that are not there, which share no base class.
_NO_CREDENTIALS_ERRORS = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
)
_DENIED_STATUSES = frozenset((401, 403))


def open_store(url: str) -> tuple[AbstractFileSystem, str]:
    """Open the store that a URL names, and give the path in it; nothing is asked of it yet.

    Endpoints and credentials are found where the store's own tools find them: ``AWS_*``
    variables and ``~/.aws``, Google's application default credentials, ``AZURE_STORAGE_*``
    variables, and fsspec's own configuration. A store forgets listings at once, so that it never
    says what was. It raises exceptions of many kinds: see ``translate_store_errors``. The same URL gives
    the same store again.

    Raises:
        UsageError: the scheme is unknown, the URL is none, or a package is not installed.
        OSError: the URL is that of an archive's member, or a client finds a library of the system
            missing.
    """
    import fsspec

    if split_member(url):
        raise OSError(errno.EINVAL, "a member of an archive is read through its archive alone")
    scheme = parse_scheme(url)
    given = restore_secrets(url)
    try:
        options = _client_options(scheme)
        # A name may have what would be a chain: fsspec would take what comes after it for another
        # URL or for a path of this machine.
        start, chain, _ = given.partition(_CHAIN)
        store, path = fsspec.core.url_to_fs(start, use_listings_cache=False, **options)
        path = store._strip_protocol(given) if chain else path
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"batch-label[{extra}]" if extra else f"what fsspec needs for {scheme}://"
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
    """Give what a store's client is told, beside what the user has configured for it."""
    match EXTRAS.get(scheme):
        case "s3":
            from batch.stores.http import BoundedSession

            config = {
                "http_session_cls": BoundedSession,
                **_read_user_option("s3", "config_kwargs"),
            }
            # s3fs holds as many parts of 50 MiB in memory as it sends at a time.
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
    """Give an option of a store as the user has configured it for fsspec."""
    from fsspec.config import conf

    options: dict[str, Any] = conf.get(scheme, {}).get(option, {})
    return options


def is_remote(url: str) -> bool:
    """Tell whether a URL leads to a store or web server, itself or as a member of an archive there.

    False of all that might lead to this machine's files or memory, by whatever way.
    """
    return parse_scheme(strip_member(url)) in EXTRAS


def build_url(store: AbstractFileSystem, path: str, like: str) -> str:
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
def translate_store_errors(
    problem: str, kind: type[BatchLabelError], otherwise: str
) -> Iterator[None]:
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
        raise kind(f"{problem} ({error_text(error)})", _find_remedy(error, otherwise)) from error


def error_text(error: BaseException) -> str:
    """Give the first line of what an exception says, or its name where it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, FileNotFoundError) and "/" in text:  # fsspec mostly says the path alone
        text = os.strerror(errno.ENOENT)
    first, *_ = text.strip().splitlines() or [type(error).__name__]
    return printable_text(redact(first))


def _find_remedy(error: Exception, otherwise: str) -> str:
    if type(error).__name__ in _NO_CREDENTIALS_ERRORS:
        return "set the store's credentials, such as AWS_ACCESS_KEY_ID or a profile in ~/.aws"
    if isinstance(error, PermissionError) or find_http_status(error) in _DENIED_STATUSES:
        return "check the credentials and what they allow"
    return otherwise
