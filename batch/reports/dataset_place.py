"""Where a dataset lies: in a folder, or under a prefix in an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from batch.errors import UsageError
from batch.files.publish import is_streamed
from batch.files.regular_file import read_regular
from batch.location import Location, Url, parse_location
from batch.path_text import path_text
from batch.reports.dataset import MAX_SUCCESS_BYTES, SUCCESS_FILE
from batch.reports.dataset_folder import LocalDataset, check_local_dataset
from batch.reports.dataset_store import (
    StoredDataset,
    check_stored_dataset,
    read_stored_sizes,
    read_stored_success,
)
from batch.reports.output import describe_output
from batch.stopping import StopCheck, never_stop


def open_dataset(place: Location, check: StopCheck = never_stop) -> LocalDataset | StoredDataset:
    """Begin a dataset in a folder or under a URL.

    Raises:
        OutputError: the system refuses.
    """
    return StoredDataset(place, check) if isinstance(place, Url) else LocalDataset(place)


def check_dataset(place: Location, check: StopCheck = never_stop) -> None:
    """Find out before the work whether a dataset could be published there.

    Raises:
        UsageError, OutputError: it could not.
    """
    if isinstance(place, Url):
        check_stored_dataset(place, check)
    else:
        check_local_dataset(place)


def check_outside_datasets(output: str, *reports: Location) -> None:
    """Make sure that a file does not come to lie in a dataset, which only has files of its own.

    Raises:
        UsageError: it would, in one of ``reports``.
    """
    if is_streamed(output):
        return
    for report in reports:
        if _full_text(parse_location(output)).startswith(f"{_full_text(report)}/"):
            raise UsageError(
                f"{describe_output(output)} would lie in {path_text(report)}, which is replaced as a whole",
                "name a file elsewhere",
            )


def join_location(place: Location, name: str) -> Location:
    """Name a file of a dataset by its path in it."""
    return Url(f"{place.text.rstrip('/')}/{name}") if isinstance(place, Url) else place / name


def read_success(place: Location, called: str) -> bytes | None:
    """Read the list of a dataset's files; None where there is none.

    One that is too long to be such a list is given as an empty one, which is damaged.

    Raises:
        OSError: the system refuses.
        ReportError: the store refuses, or does not answer.
    """
    if isinstance(place, Url):
        return read_stored_success(place, called)
    try:
        return read_regular(place / SUCCESS_FILE, MAX_SUCCESS_BYTES) or b""
    except FileNotFoundError:
        return None


def read_sizes(place: Location, names: Sequence[str], called: str) -> Mapping[str, int]:
    """Give the sizes of those files of a dataset that are there, in bytes; maybe of others too.

    Raises:
        OSError: the system refuses.
        ReportError: the store refuses, or does not answer.
    """
    if isinstance(place, Url):
        return read_stored_sizes(place, called)
    sizes = {}
    for name in names:
        with suppress(FileNotFoundError):
            sizes[name] = (place / name).stat().st_size
    return sizes


def _full_text(place: Location) -> str:
    return place.text.rstrip("/") if isinstance(place, Url) else os.path.realpath(place)
