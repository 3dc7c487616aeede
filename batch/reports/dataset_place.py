"""One interface to datasets in local folders and in object stores."""

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
    """Start writing a dataset to a folder or URL.

    Raises:
        OutputError: the folder can't be created.
    """
    return StoredDataset(place, check) if isinstance(place, Url) else LocalDataset(place)


def check_dataset(place: Location, check: StopCheck = never_stop) -> None:
    """Check before the run that a dataset can be published.

    Raises:
        UsageError, OutputError: it can't.
    """
    if isinstance(place, Url):
        check_stored_dataset(place, check)
    else:
        check_local_dataset(place)


def check_outside_datasets(output: str, *reports: Location) -> None:
    """Make sure that a file is not written into a dataset, which no run would then replace.

    Raises:
        UsageError: ``output`` is inside one of ``reports``.
    """
    if is_streamed(output):
        return
    for report in reports:
        if _full_text(parse_location(output)).startswith(f"{_full_text(report)}/"):
            raise UsageError(
                f"{describe_output(output)} would be inside the dataset {path_text(report)}",
                "name a file elsewhere",
            )


def join_location(place: Location, name: str) -> Location:
    """Return the location of a file of a dataset."""
    return Url(f"{place.text.rstrip('/')}/{name}") if isinstance(place, Url) else place / name


def read_success(place: Location, display_name: str) -> bytes | None:
    """Read ``_SUCCESS``; None if it is missing, and no bytes if it is too long.

    Raises:
        OSError: the file can't be read.
        ReportError: the store denies access or does not answer.
    """
    if isinstance(place, Url):
        return read_stored_success(place, display_name)
    try:
        return read_regular(place / SUCCESS_FILE, MAX_SUCCESS_BYTES) or b""
    except FileNotFoundError:
        return None


def read_sizes(place: Location, names: Sequence[str], display_name: str) -> Mapping[str, int]:
    """Return the sizes in bytes of the named files that exist, and in a store of others too.

    Raises:
        OSError: a file can't be accessed.
        ReportError: the store denies access or does not answer.
    """
    if isinstance(place, Url):
        return read_stored_sizes(place, display_name)
    sizes = {}
    for name in names:
        with suppress(FileNotFoundError):
            sizes[name] = (place / name).stat().st_size
    return sizes


def _full_text(place: Location) -> str:
    return place.text.rstrip("/") if isinstance(place, Url) else os.path.realpath(place)
